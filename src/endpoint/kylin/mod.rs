//! Metadata of Kylin in files: a directory or a zip whose names are read as a layout says.
//!
//! The layout turns names into paths (see [`crate::platform::kylin::layout`]). Where only the JSON of a document tells
//! its project, its path is settled when it is read, or recalled from an earlier snapshot that its stamp proves right.
//! Directories are not kept: the layout implies them.

mod listing;
pub mod reload;
mod target;
mod zipped;

use super::{Files, Listing, Put, Result, Source, Staging, Target};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::Monitor;
use crate::platform::kylin::layout::Layout;

use listing::KylinListing;
pub use zipped::ZippedFolder;

/// Metadata of Kylin in files.
pub struct KylinStore {
    files: Box<dyn Files>,
    layout: Layout,
    names: Box<dyn Fn(&EntryPath) -> EntryPath + Send + Sync>,
}

impl KylinStore {
    /// Returns the store in these files, which lie in this layout.
    pub fn new(files: Box<dyn Files>, layout: Layout) -> Self {
        let names = move |path: &EntryPath| layout.name_of(path).expect("paths without a place were left out");
        Self { files, layout, names: Box::new(names) }
    }

    fn read_as_laid_out(&self, files: Box<dyn Listing>, scope: &Scope) -> Result<Box<dyn Listing>> {
        Ok(Box::new(KylinListing::new(files, &self.location(), self.layout, scope.clone())?))
    }
}

impl Source for KylinStore {
    fn location(&self) -> String {
        self.files.location()
    }

    fn layout(&self) -> &'static str {
        self.layout.name()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.read_as_laid_out(self.files.scan(&Scope::System, monitor)?, scope)
    }
}

impl Target for KylinStore {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.read_as_laid_out(self.files.scan_target(&Scope::System, monitor)?, scope)
    }

    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        let files = listing.of_files().expect("the listing is one of this store");
        target::require_free(files, puts, &self.names)?;
        let staging = self.files.begin_named(files, puts, &self.names)?;
        Ok(Box::new(target::KylinStaging { staging, names: &self.names }))
    }
}
