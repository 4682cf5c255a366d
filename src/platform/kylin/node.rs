//! A running node of Kylin: where its REST interface is, and who may ask it to reload.

use std::fmt;

use super::Error;
use super::jdbc_url::{Escapes, decode};
use super::secret::Secret;

/// What Kylin's web application is called unless a url says otherwise.
const PATH_DEFAULT: &str = "/kylin";

/// A node of Kylin. Its `Debug` shows the url only, which has no user and no password.
///
/// ```
/// # use metastash::platform::kylin::node::Node;
/// let node = Node::parse("http://ADMIN:hunter2@kylin-1:7070")?;
/// assert_eq!(node.url, "http://kylin-1:7070/kylin");
/// assert_eq!(node.username.as_deref(), Some("ADMIN"));
/// # Ok::<(), metastash::platform::kylin::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// The url of the web application, without user and password and without a slash at the end.
    pub url: String,
    /// The user, if one is named.
    pub username: Option<String>,
    /// The password, if one is given.
    pub password: Option<Secret>,
}

impl Node {
    /// Reads `http[s]://[user[:password]@]host[:port][/path]`. Without a path it is `/kylin`; `/` alone means none at all.
    ///
    /// # Errors
    /// When it is no such url. The message quotes nothing of it: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadNodeUrl { why };
        let known = ["http://", "https://"].into_iter().find(|scheme| url.starts_with(scheme));
        let scheme = known.ok_or(bad("begins with neither http:// nor https://"))?;
        let rest = &url[scheme.len()..];
        if rest.contains(['?', '#']) {
            return Err(bad("has a `?` or `#`: in a password they are %3F and %23"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.contains('@') {
            return Err(bad("has a `/` before the `@`: in a password it is %2F"));
        }
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if !is_host_and_port(host) {
            return Err(bad("has no host, or a host or port that can't be one"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("has spaces or other characters than ASCII in its path"));
        }
        let path = if path.is_empty() { PATH_DEFAULT } else { path.trim_end_matches('/') };
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((username, password)) => {
                (decode(username, Escapes::Percent).map_err(bad)?, decode(password, Escapes::Percent).map_err(bad)?)
            }
            None => Default::default(),
        };
        if username.contains(':') {
            return Err(bad("has a `:` in the name of the user, which can't be sent"));
        }
        Ok(Self {
            url: format!("{scheme}{host}{path}"),
            username: Some(username).filter(|username| !username.is_empty()),
            password: Some(password).filter(|password| !password.is_empty()).map(Secret::new),
        })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Tells whether a text is a name or address, in brackets if it has colons, perhaps with a port.
fn is_host_and_port(text: &str) -> bool {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let Some((address, rest)) = text.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (address, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    !host.is_empty() && host.bytes().all(is_name) && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_splits_and_fills_in() {
        for (text, url, username, password) in [
            ("http://h:7070/kylin", "http://h:7070/kylin", None, None),
            ("http://h:7070/kylin/", "http://h:7070/kylin", None, None),
            ("https://h", "https://h/kylin", None, None),
            ("http://h:7070/", "http://h:7070", None, None),
            ("http://A:p%40%2F%3a@[::1]:7070/a/b", "http://[::1]:7070/a/b", Some("A"), Some("p@/:")),
            ("http://A@h", "http://h/kylin", Some("A"), None),
            ("http://a%40b:x:y@h", "http://h/kylin", Some("a@b"), Some("x:y")),
        ] {
            let node = Node::parse(text).unwrap();
            let found = (node.url.as_str(), node.username.as_deref(), node.password.as_ref().map(Secret::expose));
            assert_eq!(found, (url, username, password), "{text}");
        }
    }

    #[test]
    fn parse_refuses_without_quoting() {
        for text in [
            "",
            "h:7070",
            "ftp://hunter2@h",
            "http://",
            "http:///kylin",
            "http://:7070",
            "http://h:0",
            "http://h:port",
            "http://h:70700",
            "http://A:hunter2/@h",
            "http://A:hunter2?@h",
            "http://h/kylin#hunter2",
            "http://A:hunter2%zz@h",
            "http://a b/",
            "http://h/a b",
            "http://[::1/kylin",
            "http://[h]/kylin",
            "http://a%3Ab:hunter2@h",
        ] {
            let error = Node::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let node = Node::parse("http://ADMIN:hunter2@h").unwrap();
        assert_eq!(format!("{node:?}"), "Node { url: \"http://h/kylin\", .. }");
    }
}
