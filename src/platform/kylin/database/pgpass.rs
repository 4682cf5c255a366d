//! The file of passwords that clients of PostgreSQL read, `.pgpass`: `host:port:database:user:password` on each line.

use std::iter::Peekable;
use std::str::Chars;

use crate::platform::kylin::secret::Secret;

/// Returns the password that a file has for a connection: that of the first line that fits, none if it is empty. A field
/// of `*` fits everything; `\` takes the meaning from the character after it.
pub fn password_from_pgpass(file: &str, host: &str, port: u16, database: &str, username: &str) -> Option<Secret> {
    let port = port.to_string();
    let wanted = [host, &port, database, username];
    let password = file.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.chars().peekable();
        let fits = wanted.iter().all(|wanted| match field(&mut rest) {
            Some(field) => field.is_any || field.text == **wanted,
            None => false,
        });
        // Four fields that fit, and no colon after them, are no line.
        if fits { field(&mut rest).map(|field| field.text) } else { None }
    });
    password.filter(|password| !password.is_empty()).map(Secret::new)
}

struct Field {
    text: String,
    /// Whether it is a `*` that no `\` precedes.
    is_any: bool,
}

/// Takes a field and the colon after it; none when the line is at its end.
fn field(rest: &mut Peekable<Chars<'_>>) -> Option<Field> {
    rest.peek()?;
    let mut text = String::new();
    let mut is_escaped = false;
    while let Some(c) = rest.next().filter(|c| *c != ':') {
        let after = if c == '\\' { rest.next() } else { None };
        is_escaped |= after.is_some();
        text.push(after.unwrap_or(c));
    }
    Some(Field { is_any: text == "*" && !is_escaped, text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn password(file: &str) -> Option<String> {
        password_from_pgpass(file, "db", 5432, "kylin", "me").map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        for (file, expected) in [
            ("db:5432:kylin:me:hunter2", Some("hunter2")),
            ("#db:5432:kylin:me:no\r\n\ndb:5432:other:me:no\r\n*:*:*:me:yes\r\ndb:5432:kylin:me:no", Some("yes")),
            ("db:5432:kylin:me:a\\:b\\\\c\\d", Some("a:b\\cd")),
            ("db:5432:kylin:me:a:b", Some("a")),
            ("db:5432:kylin:me:ends in \\", Some("ends in \\")),
            ("d\\b:5432:kylin:me:x", Some("x")),
            ("\\*:5432:kylin:me:x", None),
            ("**:5432:kylin:me:x", None),
            (" db:5432:kylin:me:x", None),
            ("db:5433:kylin:me:x", None),
            ("db:5432:kylin:me:\n*:*:*:*:x", Some("x")),
            ("db:5432:kylin:me", None),
            ("db:5432:kylin", None),
            ("", None),
        ] {
            assert_eq!(password(file).as_deref(), expected, "{file}");
        }
        let v6 = password_from_pgpass("\\:\\:1:5432:*:*:x", "::1", 5432, "kylin", "me");
        assert_eq!(v6.map(|secret| secret.expose().to_owned()).as_deref(), Some("x"));
    }

    proptest! {
        #[test]
        fn any_file_can_be_read(file in "([*:#\\\\\n]|db|5432|kylin|me)*") {
            password(&file);
        }
    }
}
