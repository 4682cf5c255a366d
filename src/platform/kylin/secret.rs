//! A password: kept out of whatever is printed, and decrypted if Kylin's configuration holds it as `ENC('…')`.

use std::fmt;

use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeDecrypt, KeyInit};

use crate::platform::kylin::Error;

/// The key of all installations. This hides a password from a glance, not from a reader of the file.
const KEY: &[u8; 16] = b"thisIsASecretKey";

/// A text that must not be printed.
///
/// Guards against messages and logs, not against someone who reads the memory of the process: it is not wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that is in the clear.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads the value of a parameter: as it is, or decrypted if it has the form `ENC('…')`.
    ///
    /// # Errors
    /// When it has that form and can't be decrypted. The error does not contain it.
    pub fn from_parameter(value: &str) -> Result<Self, Error> {
        match value.strip_prefix("ENC('").and_then(|rest| rest.strip_suffix("')")) {
            Some(encoded) => decrypt(encoded).map(Self),
            None => Ok(Self::new(value)),
        }
    }

    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// AES-128, ECB, PKCS#7, Base64, as in Kylin's `EncryptUtil`.
fn decrypt(encoded: &str) -> Result<String, Error> {
    // The errors of the crates are not kept as causes: that of base64 quotes the byte it stumbled upon.
    let bad = |why| Error::BadSecret { why };
    let mut bytes = STANDARD.decode(encoded).map_err(|_| bad("is not Base64"))?;
    let clear = ecb::Decryptor::<Aes128>::new(KEY.into())
        .decrypt_padded::<Pkcs7>(&mut bytes)
        .map_err(|_| bad("was not encrypted by Kylin: its padding is wrong"))?;
    // Kylin takes the charset of its JVM here, which since Java 18 and on most Linux systems is UTF-8.
    String::from_utf8(clear.to_vec()).map_err(|_| bad("is not UTF-8 when decrypted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_parameter_decrypts_what_kylin_encrypted() {
        for (value, clear) in [
            ("ENC('YeqVr9MakSFbgxEec9sBwg==')", "kylin"),
            ("ENC('NyiG//i7loPFfdUoO9BFuA==')", "root"),
            ("kylin", "kylin"),
            ("enc('YeqVr9MakSFbgxEec9sBwg==')", "enc('YeqVr9MakSFbgxEec9sBwg==')"),
            ("ENC(YeqVr9MakSFbgxEec9sBwg==)", "ENC(YeqVr9MakSFbgxEec9sBwg==)"),
            ("ENC('", "ENC('"),
            ("", ""),
        ] {
            assert_eq!(Secret::from_parameter(value).unwrap().expose(), clear, "{value}");
        }
    }

    #[test]
    fn from_parameter_refuses_what_is_damaged_without_quoting_it() {
        for (value, why) in [
            ("ENC('hunter2!')", "Base64"),
            ("ENC('')", "padding"),
            ("ENC('YeqVr9MakSFbgxEec9sB')", "padding"),
            ("ENC('ZeqVr9MakSFbgxEec9sBwg==')", "padding"),
        ] {
            let error = Secret::from_parameter(value).unwrap_err();
            assert!(error.to_string().contains(why), "{value}: {error}");
            assert!(!error.to_string().contains(&value[5..value.len() - 2]) || value == "ENC('')", "{error}");
        }
    }

    #[test]
    fn printing_shows_nothing() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** Secret(***)");
    }
}
