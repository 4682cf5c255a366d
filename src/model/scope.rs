//! How much of a store an operation is about: all of it, or one project.

use std::fmt;

use crate::model::path::{BadPath, EntryPath, escape};

/// All of a store, or one project of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    System,
    /// What lies below one first path part.
    Project(EntryPath),
}

impl Scope {
    /// Returns the scope of the project called `name`.
    ///
    /// # Errors
    /// Refuses a name that is no single path part.
    pub fn project(name: &str) -> Result<Self, BadPath> {
        let path = EntryPath::new(name.as_bytes())?;
        if path.parts().count() == 1 { Ok(Self::Project(path)) } else { Err(path_with_parts(&path)) }
    }

    /// Tells whether an entry at `path` belongs to the scope.
    pub fn contains(&self, path: &EntryPath) -> bool {
        self.prefix().is_none_or(|prefix| path.is_within(prefix))
    }

    /// Tells whether everything in `other` is in this scope too.
    pub fn covers(&self, other: &Scope) -> bool {
        *self == Scope::System || self == other
    }

    /// Returns the directory that all paths of the scope lie in; nothing for the whole store.
    pub fn prefix(&self) -> Option<&[u8]> {
        match self {
            Self::System => None,
            Self::Project(name) => Some(name.as_bytes()),
        }
    }
}

fn path_with_parts(path: &EntryPath) -> BadPath {
    // `a/b` is a fine path but no project: say so with the words of a bad path.
    EntryPath::new([path.as_bytes(), b"/"].concat()).expect_err("a path that ends with `/` is refused")
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Project(name) => write!(f, "project {}", escape(name.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_is_one_part() {
        assert!(Scope::project("sales").is_ok());
        assert!(Scope::project("sales/x").is_err());
        assert!(Scope::project("..").is_err());
    }

    #[test]
    fn system_covers_projects_but_not_the_reverse() {
        let sales = Scope::project("sales").unwrap();
        assert!(Scope::System.covers(&sales) && sales.covers(&sales));
        assert!(!sales.covers(&Scope::System));
    }
}
