//! A metadata url, `identifier@scheme,key=value,…`: Kylin's own grammar, no URL of any standard.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::platform::kylin::Error;
use crate::platform::kylin::jdbc_url::JdbcUrl;
use crate::platform::kylin::properties::trim;

/// What an empty identifier stands for.
pub const IDENTIFIER_DEFAULT: &str = "kylin_metadata";

/// Parameters whose values `Display` shows. It is a list of what may be seen rather than of what may not: a comma in a
/// password without quotes makes parameters of its parts.
const SHOWN: [&str; 11] = [
    "driverClassName",
    "url",
    "username",
    "maxTotal",
    "maxIdle",
    "minIdle",
    "initialSize",
    "maxWaitMillis",
    "path",
    "zip",
    "snapshot",
];

/// The parts of a metadata url. `Display` and `Debug` show neither passwords nor what might be part of one.
///
/// ```
/// # use metastash::platform::kylin::url::{MetadataUrl, Scheme};
/// let url: MetadataUrl = "kylin_metadata@jdbc,username=kylin,password='a,b'".parse()?;
/// assert_eq!(url.scheme, Scheme::Jdbc);
/// assert_eq!(url.parameters["password"], "a,b");
/// assert_eq!(url.to_string(), "kylin_metadata@jdbc,password=***,username=kylin");
/// # Ok::<(), metastash::platform::kylin::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MetadataUrl {
    /// What tables, or a directory, are named after.
    pub identifier: String,
    /// The kind of store.
    pub scheme: Scheme,
    /// All parameters, a password as it was written. Of a key given twice, the last value counts.
    pub parameters: BTreeMap<String, String>,
}

/// The kind of store a metadata url points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `file`, or no scheme at all.
    File,
    /// `hdfs`.
    Hdfs,
    /// `jdbc`.
    Jdbc,
    /// Another one, for which an installation may bring a class of its own.
    Other(String),
}

impl FromStr for MetadataUrl {
    type Err = Error;

    /// Reads a metadata url as Kylin does, with one exception: quotes that do not pair up are an error. Kylin then
    /// splits at other commas than one would think, and a password swallows the parameters before it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = split(text)?;
        let head = parts[0];
        let (identifier, scheme) = head.rsplit_once('@').unwrap_or((head, ""));
        let identifier = match trim(identifier) {
            "" => IDENTIFIER_DEFAULT,
            identifier => identifier,
        };
        let parameters = parts[1..].iter().filter(|part| !trim(part).is_empty()).map(|part| parameter(part)).collect();
        Ok(Self { identifier: identifier.to_owned(), scheme: Scheme::from(trim(scheme)), parameters })
    }
}

/// Splits at the commas that are not in quotes. Both kinds of quotes open and close alike: `'a"` is a pair.
fn split(text: &str) -> Result<Vec<&str>, Error> {
    let quotes = text.matches(['\'', '"']).count();
    if quotes % 2 == 1 {
        return Err(Error::UnbalancedQuotes { quotes });
    }
    let mut quoted = false;
    let separates = |c| {
        quoted ^= matches!(c, '\'' | '"');
        c == ',' && !quoted
    };
    Ok(text.split(separates).collect())
}

fn parameter(part: &str) -> (String, String) {
    let (key, value) = part.split_once('=').unwrap_or((part, ""));
    (trim(key).to_owned(), trim(value).trim_matches(['\'', '"']).to_owned())
}

impl From<&str> for Scheme {
    fn from(name: &str) -> Self {
        match name {
            "" | "file" => Self::File,
            "hdfs" => Self::Hdfs,
            "jdbc" => Self::Jdbc,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Hdfs => "hdfs",
            Self::Jdbc => "jdbc",
            Self::Other(name) if is_word(name) => name,
            Self::Other(_) => "…",
        })
    }
}

/// Tells whether this can be a name. What follows an `@` may also be the host of a url of another kind.
pub(super) fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

impl MetadataUrl {
    /// Returns the identifier as it may be shown: someone may have given a url with a password instead.
    pub(super) fn identifier_shown(&self) -> &str {
        if is_suspect(&self.identifier) || self.identifier.contains("://") { "…" } else { &self.identifier }
    }
}

/// Tells whether a text that should hold no password may hold one after all, quotes being where they should not.
fn is_suspect(text: &str) -> bool {
    text.contains(',') || text.to_ascii_lowercase().contains("password")
}

impl fmt::Display for MetadataUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.identifier_shown(), self.scheme)?;
        let mut is_complete = true;
        for (key, value) in &self.parameters {
            match key.as_str() {
                "password" if value.is_empty() => f.write_str(",password=")?,
                "password" => f.write_str(",password=***")?,
                "url" => match JdbcUrl::parse(value) {
                    Ok(url) if url.to_string().contains(',') => write!(f, ",url=\"{url}\"")?,
                    Ok(url) => write!(f, ",url={url}")?,
                    Err(_) => f.write_str(",url=…")?,
                },
                key if !SHOWN.contains(&key) => is_complete = false,
                key if is_suspect(value) => write!(f, ",{key}=…")?,
                key => write!(f, ",{key}={value}")?,
            }
        }
        if is_complete { Ok(()) } else { f.write_str(",…") }
    }
}

impl fmt::Debug for MetadataUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetadataUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> MetadataUrl {
        text.parse().unwrap()
    }

    #[test]
    fn head_is_split_at_the_last_at() {
        for (text, identifier, scheme) in [
            ("kylin_metadata@jdbc", "kylin_metadata", Scheme::Jdbc),
            (" a@b @ hdfs ,path=/x", "a@b", Scheme::Hdfs),
            ("/data/meta", "/data/meta", Scheme::File),
            ("/data/meta@file", "/data/meta", Scheme::File),
            ("@jdbc", "kylin_metadata", Scheme::Jdbc),
            ("", "kylin_metadata", Scheme::File),
            (",a=b", "kylin_metadata", Scheme::File),
            ("a@", "a", Scheme::File),
            ("a@HDFS", "a", Scheme::Other("HDFS".to_owned())),
            ("'a,b'@jdbc", "'a,b'", Scheme::Jdbc),
        ] {
            assert_eq!((url(text).identifier.as_str(), url(text).scheme), (identifier, scheme), "{text}");
        }
    }

    #[test]
    fn parameters_are_split_at_commas_outside_quotes() {
        for (text, pairs) in [
            ("a@jdbc,x=1,y=2,x=3", vec![("x", "3"), ("y", "2")]),
            ("a@jdbc, x = 1 2 , zip , ", vec![("x", "1 2"), ("zip", "")]),
            ("a@jdbc,x=y=z", vec![("x", "y=z")]),
            ("a@jdbc,x=\"1,2\",y='3,4'", vec![("x", "1,2"), ("y", "3,4")]),
            ("a@jdbc,x='1,2\",y=3", vec![("x", "1,2"), ("y", "3")]),
            ("a@jdbc,x='\" 1 \"',y=1'2,3'4", vec![("x", " 1 "), ("y", "1'2,3'4")]),
            ("a@jdbc,p=ENC('YeqVr9MakSFbgxEec9sBwg==')", vec![("p", "ENC('YeqVr9MakSFbgxEec9sBwg==')")]),
        ] {
            let expected = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(url(text).parameters, expected, "{text}");
        }
    }

    #[test]
    fn quotes_that_do_not_pair_up_are_refused() {
        for text in ["a@jdbc,x='1,y=2", "a@jdbc,password=hunter'2", "'", "a@jdbc,x='''"] {
            let error = text.parse::<MetadataUrl>().unwrap_err();
            assert!(matches!(error, Error::UnbalancedQuotes { .. }), "{text}");
            assert!(!error.to_string().contains("hunter"));
        }
    }

    #[test]
    fn display_shows_what_is_known_to_be_harmless() {
        for (text, shown) in [
            ("/data/meta", "/data/meta@file"),
            ("a@hdfs,path=/b/,zip=1", "a@hdfs,path=/b/,zip=1"),
            ("a@jdbc,password=", "a@jdbc,password="),
            ("a@jdbc,password=hunter,2", "a@jdbc,password=***,…"),
            ("a@jdbc,username='root,password=hunter2'", "a@jdbc,username=…"),
            ("a@jdbc,url=\"jdbc:mysql://h,i:1/k?password=hunter2\"", "a@jdbc,url=\"jdbc:mysql://h:3306,i:1/k?…\""),
            ("a@jdbc,url=jdbc:mysql://root:hunter2@h:3306/k", "a@jdbc,url=…"),
            ("postgres://root:hunter2@h:5432/k", "…@…"),
            ("a@jdbc,connectionProperties=password=hunter2", "a@jdbc,…"),
        ] {
            assert_eq!(url(text).to_string(), shown);
            assert_eq!(format!("{:?}", url(text)), format!("MetadataUrl({shown})"));
        }
    }

    proptest! {
        #[test]
        fn parse_and_display_never_panic(any in r"\PC*", near in "([a@,='\"?&;:/ ]|jdbc:mysql://|@jdbc,url=|%4)*") {
            for text in [any, near] {
                let _ = text.parse::<MetadataUrl>().map(|url| format!("{url} {url:?} {:?}", url.location()));
            }
        }

        // Letters that appear nowhere else, and everything that means something to one of the grammars.
        #[test]
        fn nothing_printed_holds_a_password(
            password in "[жщ]([жщ]|[,='\"?&;:/@%#() \\[\\]])*[жщ]",
            form in prop::sample::select(vec![
                "a@jdbc,username=b,password=PW,maxTotal=5",
                "a@jdbc,password='PW'",
                "a@jdbc,password=ENC('PW')",
                "a@jdbc,driverClassName=com.mysql.jdbc.Driver,url=jdbc:mysql://h:1/db?user=x&password=PW,username=b",
                "a@jdbc,url=\"jdbc:postgresql://h/db?sslpassword=PW&password=PW\"",
                "a@jdbc,url=jdbc:mysql://root:PW@h:3306/db",
                "a@jdbc,url=jdbc:h2:mem:db;PASSWORD=PW,driverClassName=org.h2.Driver",
                "a@jdbc,connectionProperties=user=b;password=PW",
                "a@jdbc,driverClassName='org.h2.Driver,password=PW'",
                "a@jdbc,username=\"b,password=PW\"",
                "a@jdbc,url='jdbc:mysql://h/k,password=PW',driverClassName=com.mysql.jdbc.Driver",
                "postgres://b:PW@h:5432/k",
            ]),
        ) {
            let text = form.replace("PW", &password);
            let printed = match text.parse::<MetadataUrl>() {
                Ok(url) => match url.location() {
                    Ok(location) => format!("{url} {url:?} {location:?}"),
                    Err(error) => format!("{url} {url:?} {error} {error:?}"),
                },
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!printed.contains(['ж', 'щ']), "{printed}");
        }
    }
}
