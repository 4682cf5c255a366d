//! Which store a metadata url means.

use std::path::PathBuf;

use crate::platform::kylin::Error;
use crate::platform::kylin::jdbc::Jdbc;
use crate::platform::kylin::url::{MetadataUrl, Scheme};

/// The store a metadata url points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine. If relative, then to Kylin's working directory, which only the caller may know.
    Directory(PathBuf),
    /// A zip of this machine: the file itself if the name ends in `.zip`, else a directory with a `metadata.zip`.
    Zip(PathBuf),
    /// On the file system of the working directory.
    Hdfs {
        /// Where; without one, Kylin takes the newest backup under the working directory.
        path: Option<String>,
        /// Whether a zip is there, named as for [`Location::Zip`].
        is_zip: bool,
    },
    /// Tables of a database.
    Jdbc(Jdbc),
    /// A store of a class that the installation brings along.
    Custom {
        /// The scheme that its configuration names the class for.
        scheme: String,
    },
}

impl MetadataUrl {
    /// Returns the store that is meant.
    ///
    /// # Errors
    /// When the parameters do not say which, or say something Kylin would not start with.
    pub fn location(&self) -> Result<Location, Error> {
        if self.identifier.contains("://") && !self.identifier.starts_with("file:") {
            return Err(Error::UrlOfAnotherKind);
        }
        let is_zip = self.parameters.contains_key("zip");
        match &self.scheme {
            // Kylin takes the identifier and does not look at `path`. Following either would surprise someone.
            Scheme::File if self.parameters.contains_key("path") => Err(Error::PathOfFile),
            Scheme::File if is_zip => Ok(Location::Zip(self.directory())),
            Scheme::File => Ok(Location::Directory(self.directory())),
            Scheme::Hdfs => Ok(Location::Hdfs { path: self.parameters.get("path").cloned(), is_zip }),
            Scheme::Jdbc => Jdbc::new(self).map(Location::Jdbc),
            Scheme::Other(_) => Ok(Location::Custom { scheme: self.scheme.to_string() }),
        }
    }

    /// Kylin accepts `file:///data` as well as `/data`.
    fn directory(&self) -> PathBuf {
        let path = self.identifier.strip_prefix("file:").unwrap_or(&self.identifier);
        PathBuf::from(path.strip_prefix("//").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str) -> Result<Location, Error> {
        url.parse::<MetadataUrl>()?.location()
    }

    #[test]
    fn location_is_that_of_kylin() {
        let hdfs = |path: Option<&str>, is_zip| Location::Hdfs { path: path.map(str::to_owned), is_zip };
        for (url, expected) in [
            ("/data/meta", Location::Directory("/data/meta".into())),
            ("meta@file,zip", Location::Zip("meta".into())),
            ("file:///data/meta@file", Location::Directory("/data/meta".into())),
            ("file:/data/meta@file", Location::Directory("/data/meta".into())),
            ("", Location::Directory("kylin_metadata".into())),
            ("kylin_metadata@hdfs", hdfs(None, false)),
            ("kylin_metadata@hdfs,path=/b/core_meta/,zip=1", hdfs(Some("/b/core_meta/"), true)),
            ("a@tablestore,x=y", Location::Custom { scheme: "tablestore".to_owned() }),
        ] {
            assert_eq!(location(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn urls_of_another_kind_are_refused() {
        for url in ["postgres://b:hunter2@h:5432/k", "hdfs://h/kylin", "jdbc:mysql://h/k?password=a@b"] {
            assert_eq!(location(url), Err(Error::UrlOfAnotherKind), "{url}");
        }
    }

    #[test]
    fn path_of_file_is_refused() {
        assert_eq!(location("meta@file,path=/data/meta"), Err(Error::PathOfFile));
    }

    #[test]
    fn jdbc_is_jdbc() {
        assert!(matches!(location("@jdbc"), Ok(Location::Jdbc(_))));
    }
}
