//! Synthetic metadata trees with the shape of Apache Kylin's, of any size.
//!
//! [`generate`] writes `DIR/<TYPE>/<key>.json`, the layout of Kylin 5.0.0 and later, with documents that refer to each
//! other as Kylin's do; [`churn`] changes such a tree as a day of work would. Both are fixed by a seed: no clock, no
//! order of directories, no number of threads enters, so that figures taken at different times compare.

// Written like a library, of which every bench uses its own part.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod churn;
mod dice;
mod edit;
mod json;
mod models;
mod names;
mod old;
mod project;
mod segments;
mod system;
mod tables;
mod tree;
mod writer;

use std::io;
use std::path::Path;

use rayon::prelude::*;

pub use churn::{Changing, Churn, Churned, Part, churn};
pub use tree::Written;

use project::Project;
use tree::Tree;

/// The size of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Exactly how many documents. References are complete from about 100 per project.
    pub documents: u64,
    /// Trees of equal seeds and sizes are equal.
    pub seed: u64,
    /// How many projects; 0 chooses by the number of documents.
    pub projects: u32,
    /// How the documents lie.
    pub layout: Layout,
}

/// How documents lie in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// As in Kylin 5.0.0 and later.
    #[default]
    New,
    /// As before 5.0.0: what has a document of its own now is in others then, so there are fewer.
    Old,
}

/// Writes a tree into a directory, which is made if needed.
///
/// Holds one project per thread in memory, never the tree. Files get the times of their documents.
pub fn generate(dir: &Path, shape: &Shape) -> io::Result<Written> {
    let mut tree = Tree::new(dir, shape.documents, shape.layout);
    for global in system::globals(shape.seed, shape.documents) {
        tree.put(global.kind, &global.key, global.modified, &global.content)?;
    }
    let quotas = quotas(shape, tree.left());
    let projects = quotas
        .into_par_iter()
        .enumerate()
        .map(|(number, quota)| {
            let project = Project::new(shape.seed, number as u64, quota);
            let mut tree = Tree::new(dir, quota, shape.layout);
            writer::write(&project, &mut tree)?;
            tree.finish()
        })
        .try_reduce(Written::default, |a, b| Ok(a.plus(b)))?;
    Ok(tree.finish()?.plus(projects))
}

/// Returns how many documents each project gets; the largest has about four times those of the smallest.
fn quotas(shape: &Shape, documents: u64) -> Vec<u64> {
    let projects = match shape.projects {
        0 => (documents / 5_000).clamp(1, 100),
        chosen => u64::from(chosen),
    };
    let weights: Vec<u64> = (0..projects).map(|number| 2 + number * 5 % 7).collect();
    let total: u64 = weights.iter().sum();
    let mut before = 0;
    let mut given = 0;
    let mut quotas = Vec::new();
    for weight in weights {
        before += weight;
        let until = u128::from(documents) * u128::from(before) / u128::from(total);
        let until = u64::try_from(until).unwrap_or(documents);
        quotas.push(until - given);
        given = until;
    }
    quotas
}
