//! The url of a database, `jdbc:mysql://a:3306,b/kylin?key=value`, as the JDBC drivers of Kylin read it. What follows the
//! scheme is read of other urls too.
//!
//! Not a job for a crate: the standard for URLs knows one host, and takes `jdbc` for the scheme.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use crate::model::path::escape;
use crate::platform::kylin::Error;

/// The database such a url is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PostgreSql,
    MySql,
    H2,
}

impl Kind {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::PostgreSql => "jdbc:postgresql:",
            Self::MySql => "jdbc:mysql:",
            Self::H2 => "jdbc:h2:",
        }
    }

    fn port_default(self) -> u16 {
        match self {
            Self::PostgreSql => 5432,
            Self::MySql => 3306,
            Self::H2 => 9092,
        }
    }
}

/// The parts of a url. `Display` shows hosts and database, and only a `…` for the properties.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct JdbcUrl {
    pub(super) kind: Kind,
    /// IPv6 addresses without brackets. None for H2, whose rest says all: `mem:kylin`, `tcp://host/kylin`.
    pub(super) hosts: Vec<(String, u16)>,
    /// Empty if none is named.
    pub(super) database: String,
    pub(super) properties: BTreeMap<String, String>,
}

impl JdbcUrl {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let kinds = [Kind::PostgreSql, Kind::MySql, Kind::H2];
        let found = kinds.into_iter().find_map(|kind| Some((kind, url.strip_prefix(kind.prefix())?)));
        let parsed = match found {
            Some((Kind::H2, rest)) => h2(rest),
            Some((kind, rest)) => with_hosts(kind, rest, Escapes::Java),
            None => Err("begins with none of jdbc:postgresql:, jdbc:mysql:, jdbc:h2:"),
        };
        parsed.map_err(|why| Error::BadJdbcUrl { why })
    }
}

/// What is wrong with a url, as the rest of a sentence.
type Why = &'static str;

/// How a url writes what can't stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// As `%XX`, and a blank also as `+`: Java's `URLDecoder`, which both drivers use.
    Java,
    /// As `%XX`.
    Percent,
}

fn h2(rest: &str) -> Result<JdbcUrl, Why> {
    let (database, properties) = rest.split_once(';').unwrap_or((rest, ""));
    if database.contains(['?', '=', '@', '&', ',']) {
        return Err("has one of `?=@&,` before the first `;`");
    }
    let pairs = properties.split(';').filter(|pair| !pair.is_empty());
    let properties = pairs.map(pair).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(JdbcUrl { kind: Kind::H2, hosts: Vec::new(), database: database.to_owned(), properties })
}

/// Reads `//host:port,host/database?key=value`.
pub(super) fn with_hosts(kind: Kind, rest: &str, escapes: Escapes) -> Result<JdbcUrl, Why> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = match (place.strip_prefix("//"), kind) {
        (Some(place), _) => place.split_once('/').unwrap_or((place, "")),
        // The driver of PostgreSQL takes `jdbc:postgresql:kylin` for a database of this machine.
        (None, Kind::PostgreSql) => ("", place.trim_start_matches('/')),
        // Which server a load balancer or a replica would answer from is not for a backup to leave open.
        (None, _) => return Err("has a mode such as loadbalance or replication: name the source, jdbc:mysql://…"),
    };
    if database.contains(['/', '@', '#', ',', '=', ';']) {
        return Err("has one of `/@#,=;` in the name of the database: give it as %2F, or see where quotes end");
    }
    let hosts = authority.split(',').map(|one| host(one, kind)).collect::<Result<_, _>>()?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(pair);
    let properties = pairs.map(|(key, value)| Ok((decode(key, escapes)?, decode(value, escapes)?)));
    let properties = properties.collect::<Result<_, Why>>()?;
    Ok(JdbcUrl { kind, hosts, database: decode(database, escapes)?, properties })
}

fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

fn host(text: &str, kind: Kind) -> Result<(String, u16), Why> {
    if text.contains(['@', '(']) {
        return Err("has credentials or properties within the hosts: give them as parameters");
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or("has a `[` without `]`")?;
            host.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between `[` and `]`")?;
            (host, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "=;]\\%".contains(c)) {
        return Err("has a host that is no name");
    }
    let port = match (rest, rest.strip_prefix(':')) {
        ("", _) => kind.port_default(),
        (_, Some(digits)) => port(digits)?,
        (_, None) => return Err("has something else than a port after `]`"),
    };
    Ok((if host.is_empty() { "localhost" } else { host }.to_owned(), port))
}

fn port(digits: &str) -> Result<u16, Why> {
    // `parse` alone would take `+1`.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| is_number && *port > 0);
    port.ok_or("has a port that is no number from 1 to 65535 (an IPv6 address needs brackets)")
}

/// Decodes what is escaped; like Java, refuses what is malformed.
pub(super) fn decode(text: &str, escapes: Escapes) -> Result<String, Why> {
    let is_escape = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return Err("has a `%` that is not followed by two hexadecimal digits");
    }
    let text = if escapes == Escapes::Java { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| "has escapes that are not UTF-8")?;
    Ok(decoded.into_owned())
}

impl fmt::Display for JdbcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let before = if index == 0 { "//" } else { "," };
            if host.contains(':') { write!(f, "{before}[{host}]:{port}")? } else { write!(f, "{before}{host}:{port}")? }
        }
        let slash = if self.hosts.is_empty() { "" } else { "/" };
        write!(f, "{slash}{}", escape(self.database.as_bytes()))?;
        match (self.kind, self.properties.is_empty()) {
            (_, true) => Ok(()),
            (Kind::H2, false) => f.write_str(";…"),
            (_, false) => f.write_str("?…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_of_what_is_read() {
        for (url, shown) in [
            ("jdbc:postgresql://localhost:5432/kylin", "jdbc:postgresql://localhost:5432/kylin"),
            ("jdbc:postgresql://h/kylin", "jdbc:postgresql://h:5432/kylin"),
            ("jdbc:postgresql:kylin", "jdbc:postgresql://localhost:5432/kylin"),
            ("jdbc:postgresql:/", "jdbc:postgresql://localhost:5432/"),
            (
                "jdbc:postgresql://[2001:db8::1]:5433,[::1]/a%2Fb+c",
                "jdbc:postgresql://[2001:db8::1]:5433,[::1]:5432/a/b c",
            ),
            ("jdbc:mysql://a:3306,b:3307/kylin?useSSL=false", "jdbc:mysql://a:3306,b:3307/kylin?…"),
            ("jdbc:mysql://:3310", "jdbc:mysql://localhost:3310/"),
            ("jdbc:mysql://h/kylin?", "jdbc:mysql://h:3306/kylin"),
            ("jdbc:h2:mem:kylin;DB_CLOSE_DELAY=-1;MODE=MySQL", "jdbc:h2:mem:kylin;…"),
            ("jdbc:h2:tcp://h:9092/~/kylin", "jdbc:h2:tcp://h:9092/~/kylin"),
        ] {
            assert_eq!(JdbcUrl::parse(url).unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn properties_are_decoded() {
        for (url, pairs) in [
            ("jdbc:mysql://h/k?a=1&b&c=x%3D%26y+z&&d=e=f", vec![("a", "1"), ("b", ""), ("c", "x=&y z"), ("d", "e=f")]),
            ("jdbc:postgresql:k?%C3%A4=%F0%9F%98%80", vec![("ä", "😀")]),
            ("jdbc:h2:mem:k;A=%41;B=", vec![("A", "%41"), ("B", "")]),
        ] {
            let expected = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(JdbcUrl::parse(url).unwrap().properties, expected, "{url}");
        }
    }

    #[test]
    fn what_the_drivers_would_not_open_is_refused() {
        for (url, why) in [
            ("", "begins with none of"),
            ("mysql://h/k", "begins with none of"),
            ("jdbc:mariadb://h/k", "begins with none of"),
            ("jdbc:mysql:loadbalance://a,b/k", "loadbalance"),
            ("jdbc:mysql:replication://a,b/k", "replication"),
            ("jdbc:mysql://u:hunter2@h/k", "credentials"),
            ("jdbc:mysql://(host=a,password=hunter2)/k", "credentials"),
            ("jdbc:mysql://h:0/k", "port"),
            ("jdbc:mysql://h:+1/k", "port"),
            ("jdbc:mysql://h:65536/k", "port"),
            ("jdbc:mysql://h:/k", "port"),
            ("jdbc:mysql://::1/k", "brackets"),
            ("jdbc:mysql://[::1/k", "without `]`"),
            ("jdbc:mysql://[h]/k", "IPv6"),
            ("jdbc:mysql://[::1]x/k", "after `]`"),
            ("jdbc:mysql://a b/k", "no name"),
            ("jdbc:mysql://h/k/l", "name of the database"),
            ("jdbc:mysql://h/k,password=hunter2", "name of the database"),
            ("jdbc:mysql://h/%2", "hexadecimal"),
            ("jdbc:mysql://h/%+1", "hexadecimal"),
            ("jdbc:mysql://h/k?password=%zz", "hexadecimal"),
            ("jdbc:mysql://h/%ff", "UTF-8"),
            ("jdbc:h2:mem:k?password=hunter2", "before the first `;`"),
        ] {
            let error = JdbcUrl::parse(url).err().expect(url).to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
