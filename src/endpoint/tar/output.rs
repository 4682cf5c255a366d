//! A tar that goes to a stream: it can be written once and never read.

use std::borrow::Cow;
use std::io::Write;

use super::scan::TarListing;
use super::write::{Stream, TarStaging};
use super::{Packing, named};
use crate::endpoint::{Files, Listing, Names, Put, Result, Source, Staging, Target};
use crate::model::scope::Scope;
use crate::monitor::Monitor;

/// A stream that is to become a tar. Nothing is written to it before all of the archive is there and verified.
pub struct TarOutput {
    location: String,
    packing: Packing,
    stream: Stream,
}

impl TarOutput {
    /// Returns the target that is a stream, and calls itself `location`.
    pub fn new(stream: Box<dyn Write + Send>, location: &str, packing: Packing) -> Self {
        Self { location: location.to_owned(), packing, stream: Stream::new(stream) }
    }

    fn begin_with<'a>(&'a self, puts: Cow<'a, [Put]>) -> Result<Box<dyn Staging + 'a>> {
        Ok(Box::new(TarStaging::to_stream(self.location.clone(), &self.stream, self.packing, puts)?))
    }
}

impl Source for TarOutput {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn scan(&self, _: &Scope, _: &dyn Monitor) -> Result<Box<dyn Listing>> {
        Ok(Box::new(TarListing::nothing(None)))
    }
}

impl Target for TarOutput {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.scan(scope, monitor)
    }

    fn begin<'a>(&'a self, _: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        self.begin_with(Cow::Borrowed(puts))
    }
}

impl Files for TarOutput {
    fn begin_named<'a>(
        &'a self,
        _: &'a dyn Listing,
        puts: &'a [Put],
        names: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>> {
        self.begin_with(Cow::Owned(named(puts, names)))
    }
}
