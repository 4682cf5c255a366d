//! Whether and how a connection is encrypted, as the many urls spell it.

use std::path::PathBuf;

use crate::platform::kylin::Error;
use crate::platform::kylin::tables::Dialect;

/// Whether and how a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// What is asked of the server.
    pub mode: TlsMode,
    /// A file of certificates in PEM that the server's must lead to; if none, those that the system trusts.
    pub root_certificate: Option<PathBuf>,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// No encryption.
    Off,
    /// Encryption if the server has it, with any certificate.
    #[default]
    Prefer,
    /// Encryption, with any certificate.
    Require,
    /// Encryption, with a certificate that a trusted one vouches for, whatever its host.
    Verify,
    /// As [`TlsMode::Verify`], and the certificate is for the host.
    VerifyFull,
}

/// Who spells the modes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spelling {
    Own,
    PostgreSql,
    MySql,
}

impl Spelling {
    fn words(self) -> &'static [(&'static str, TlsMode)] {
        match self {
            Self::Own => &[
                ("off", TlsMode::Off),
                ("prefer", TlsMode::Prefer),
                ("require", TlsMode::Require),
                ("verify", TlsMode::VerifyFull),
            ],
            Self::PostgreSql => &[
                ("disable", TlsMode::Off),
                // To begin without encryption and add it if the server insists is what no one should want.
                ("allow", TlsMode::Prefer),
                ("prefer", TlsMode::Prefer),
                ("require", TlsMode::Require),
                ("verify-ca", TlsMode::Verify),
                ("verify-full", TlsMode::VerifyFull),
            ],
            Self::MySql => &[
                ("DISABLED", TlsMode::Off),
                ("PREFERRED", TlsMode::Prefer),
                ("REQUIRED", TlsMode::Require),
                ("VERIFY_CA", TlsMode::Verify),
                ("VERIFY_IDENTITY", TlsMode::VerifyFull),
            ],
        }
    }

    fn mode(self, name: &'static str, value: &str) -> Result<TlsMode, Error> {
        let found = self.words().iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
        let why = match self {
            Self::Own => "is none of off, prefer, require, verify",
            Self::PostgreSql => "is none of disable, allow, prefer, require, verify-ca, verify-full",
            Self::MySql => "is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY",
        };
        found.map(|(_, mode)| *mode).ok_or(Error::BadParameter { name, why })
    }
}

/// Reads the name of a file; `system`, as in PostgreSQL, is what no name means.
pub(super) fn root_certificate(value: &str) -> Option<PathBuf> {
    Some(value).filter(|value| !value.is_empty() && *value != "system").map(PathBuf::from)
}

impl Tls {
    /// Sets the mode from a parameter of a url.
    pub(super) fn set(&mut self, spelling: Spelling, name: &'static str, value: &str) -> Result<(), Error> {
        self.mode = spelling.mode(name, value)?;
        Ok(())
    }

    /// Whoever names certificates and asks for encryption wants them looked at. The clients of PostgreSQL do so too.
    pub(super) fn finish(&mut self) {
        if self.mode == TlsMode::Require && self.root_certificate.is_some() {
            self.mode = TlsMode::Verify;
        }
    }

    /// Reads the properties of a JDBC url as the drivers do: a mode says more than the older switches.
    pub(super) fn of_jdbc<'p>(dialect: Dialect, property: impl Fn(&str) -> Option<&'p str>) -> Result<Self, Error> {
        let is_on = |name: &str| property(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let mode = match (dialect, property("sslmode").filter(|value| !value.is_empty())) {
            (Dialect::PostgreSql, Some(value)) => Spelling::PostgreSql.mode("sslmode", value)?,
            (Dialect::MySql, Some(value)) => Spelling::MySql.mode("sslMode", value)?,
            // There `ssl` alone means it.
            (Dialect::PostgreSql, None) if is_on("ssl") || property("ssl") == Some("") => {
                let validates = !property("sslfactory").is_some_and(|class| class.ends_with(".NonValidatingFactory"));
                if validates { TlsMode::VerifyFull } else { TlsMode::Require }
            }
            (Dialect::PostgreSql, None) => TlsMode::Prefer,
            (Dialect::MySql, None) if property("useSSL").is_some_and(|value| value.eq_ignore_ascii_case("false")) => {
                TlsMode::Off
            }
            (Dialect::MySql, None) if is_on("verifyServerCertificate") => TlsMode::Verify,
            (Dialect::MySql, None) if is_on("requireSSL") => TlsMode::Require,
            (Dialect::MySql, None) => TlsMode::Prefer,
        };
        Ok(Self { mode, root_certificate: property("sslrootcert").and_then(root_certificate) })
    }
}
