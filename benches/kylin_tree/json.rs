//! JSON text the way Kylin's serializer lays it out.
//!
//! Kylin stores what Jackson's default pretty printer gives: two spaces of indentation, a space on both sides of the
//! colon, arrays on one line, objects inside arrays opened on the line of the bracket. How well a tree of such
//! documents compresses and where two versions of one differ depends on that, so a general writer would not do.

use std::fmt::{Display, Write};

/// The members of one object that is being written.
pub struct Object<'a> {
    out: &'a mut String,
    depth: usize,
    empty: bool,
}

/// Returns a whole document; there is no line feed at its end, as in Kylin.
pub fn document(fill: impl FnOnce(&mut Object<'_>)) -> String {
    let mut out = String::with_capacity(4096);
    braces(&mut out, 0, fill);
    out
}

fn braces(out: &mut String, depth: usize, fill: impl FnOnce(&mut Object<'_>)) {
    out.push('{');
    let mut object = Object { out, depth: depth + 1, empty: true };
    fill(&mut object);
    let empty = object.empty;
    if empty {
        out.push(' ');
    } else {
        line(out, depth);
    }
    out.push('}');
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        line(self.out, self.depth);
        quoted(self.out, key);
        self.out.push_str(" : ");
    }

    /// Adds a string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quoted(self.out, value);
    }

    /// Adds what needs no quotes: a number, `true`, `null`, `[ ]`.
    pub fn plain(&mut self, key: &str, value: impl Display) {
        self.key(key);
        write!(self.out, "{value}").expect("writing to a string cannot fail");
    }

    /// Adds `null` for each of the keys.
    pub fn nulls(&mut self, keys: &[&str]) {
        for key in keys {
            self.plain(key, "null");
        }
    }

    /// Adds `false` for each of the keys.
    pub fn no(&mut self, keys: &[&str]) {
        for key in keys {
            self.plain(key, false);
        }
    }

    /// Adds an object.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        braces(self.out, self.depth, fill);
    }

    /// Adds an array of objects.
    pub fn objects<T>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        let depth = self.depth;
        self.array(key, values, |out, value| {
            braces(out, depth, |object| fill(object, value));
        });
    }

    /// Adds an array of strings.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        self.array(key, values, |out, value| quoted(out, value.as_ref()));
    }

    /// Adds an array of numbers.
    pub fn numbers<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        self.array(key, values, |out, value| {
            write!(out, "{value}").expect("writing to a string cannot fail");
        });
    }

    /// Adds an array of arrays of strings.
    pub fn rows(&mut self, key: &str, rows: &[Vec<String>]) {
        self.array(key, rows, |out, row| {
            let cells: Vec<String> = row.iter().map(|cell| format!("\"{cell}\"")).collect();
            write!(out, "[ {} ]", cells.join(", ")).expect("writing to a string cannot fail");
        });
    }

    fn array<T>(&mut self, key: &str, values: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
        self.key(key);
        self.out.push('[');
        for (i, value) in values.into_iter().enumerate() {
            self.out.push_str(if i == 0 { " " } else { ", " });
            each(self.out, value);
        }
        self.out.push_str(" ]");
    }
}
