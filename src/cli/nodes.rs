//! Running nodes of Kylin, which are to reload after a restore.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use metastash::endpoint::kylin::reload::{ReloadError, reload};
use metastash::platform::kylin::node::Node;
use metastash::platform::kylin::secret::Secret;
use serde_json::json;

use super::exit::Usage;
use super::output::Output;
use super::progress::Progress;
use super::values::variable;

/// Who is to know of a restore.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Reload the metadata of this node of Kylin afterwards, over REST: http://host:7070/kylin; may be repeated
    // The url may hold a password, which `--help` would show.
    #[arg(
        long = "kylin-url",
        value_name = "URL",
        env = "METASTASH_KYLIN_URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub kylin_urls: Vec<String>,
}

/// How long to wait before a node is asked a second time.
const PAUSE: Duration = Duration::from_secs(1);

/// Nodes, each with who asks it.
pub(crate) struct Nodes(Vec<(Node, String, Secret)>);

impl Nodes {
    /// Reads the urls, and fills in user and password from the environment.
    pub(crate) fn parse(urls: &[String]) -> Result<Self> {
        let wrong = |what: String| anyhow::Error::from(Usage(format!("--kylin-url: {what}")));
        let mut nodes = Vec::new();
        for url in urls {
            let node = Node::parse(url).map_err(|error| wrong(error.to_string()))?;
            let user = node.username.clone().or_else(|| variable("METASTASH_KYLIN_USER"));
            let password = node.password.clone().or_else(|| variable("METASTASH_KYLIN_PASSWORD").map(Secret::new));
            let (Some(user), Some(password)) = (user, password) else {
                return Err(wrong(format!(
                    "{} reloads for an administrator only: user and password are in the url, or in METASTASH_KYLIN_USER and \
                     METASTASH_KYLIN_PASSWORD",
                    node.url
                )));
            };
            if user.contains(':') {
                return Err(wrong("a user with a `:` in the name can't be sent".to_owned()));
            }
            nodes.push((node, user, password));
        }
        Ok(Self(nodes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the nodes reload. Returns whether all did.
    pub(crate) fn reload(&self, output: &Output, progress: &Progress<'_>) -> Result<bool> {
        let results = reload(&self.0, PAUSE, progress);
        for ((node, ..), result) in self.0.iter().zip(&results) {
            let error = result.as_ref().err();
            output.message(
                "node_reload",
                json!({
                    "url": node.url,
                    "reloaded": error.is_none(),
                    "message": error.map(ToString::to_string),
                    "hint": error.map(|error| hint(error, node)),
                }),
            )?;
            match error {
                None => output.say(&format!("{} reloaded its metadata", node.url))?,
                Some(error) => output.result(&format!(
                    "{} was not reloaded: {error}; the restore is done, and {}",
                    node.url,
                    hint(error, node)
                ))?,
            }
        }
        Ok(results.iter().all(Result::is_ok))
    }
}

/// Returns what is to be done, as the rest of a sentence.
fn hint(error: &ReloadError, node: &Node) -> String {
    let again = format!("restart it, or POST to {}/api/system/metadata/reload", node.url);
    match error {
        ReloadError::Unreachable { .. } => format!("the node reads all when it starts; if it runs, {again}"),
        ReloadError::Silent { .. } => {
            format!("the node may still be reading; if it shows the old state later, {again}")
        }
        ReloadError::Answered { status: 401 | 403, .. } => {
            format!("the node shows the old state: user and password must be an administrator's; {again}")
        }
        ReloadError::Answered { status: 404, .. } | ReloadError::NoKylin { .. } => {
            "the node shows the old state: is the url right? Kylin's is http://HOST:7070/kylin".to_owned()
        }
        ReloadError::Answered { .. } | ReloadError::Interrupted => format!("the node shows the old state: {again}"),
    }
}
