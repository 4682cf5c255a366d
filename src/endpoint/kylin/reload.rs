//! Asks running nodes of Kylin to read all metadata anew, over REST.
//!
//! Nodes follow the audit log of their database by themselves, but are sure to see 1000 rows of a transaction only; and
//! of a store in files they never look again. So this is asked of each node after a restore: one that forwards it to
//! another is no concern, since Kylin answers this request where it arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;
use rustls::crypto::ring;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Timeout};

use crate::monitor::Monitor;
use crate::platform::kylin::node::Node;
use crate::platform::kylin::secret::Secret;

/// How often each node is asked.
const TRIES: u32 = 3;
/// How long to wait for a connection.
const CONNECT_SECS: u64 = 10;
/// How long to wait for the answer: it comes when all is read, which of a large store takes minutes.
const ANSWER_SECS: u64 = 600;
/// How much of an answer is looked at.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How much of what a node says is told.
const SAID_CHARS_MAX: usize = 200;
/// What Kylin's answers have as `code` when all went well.
const CODE_DONE: &str = "000";

/// Why a node did not reload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// There is no connection, or it was lost.
    #[error("it can't be reached: {why}")]
    Unreachable {
        /// What the network said.
        why: String,
    },
    /// There is a connection and no answer. It may still be reloading.
    #[error("it did not answer within {secs} s")]
    Silent {
        /// How long it had, in seconds.
        secs: u64,
    },
    /// It answered that it did not.
    #[error("it answered {status}{}", said.as_ref().map(|said| format!(" and said: {said}")).unwrap_or_default())]
    Answered {
        /// The HTTP status.
        status: u16,
        /// The message in the answer, if there was one.
        said: Option<String>,
    },
    /// What answered is no Kylin.
    #[error("it answered {status}, but not as Kylin does")]
    NoKylin {
        /// The HTTP status.
        status: u16,
    },
    /// The monitor asked for a stop.
    #[error("interrupted before it answered")]
    Interrupted,
}

impl ReloadError {
    /// Tells whether it may be otherwise a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Answered { status, .. } | Self::NoKylin { status } => *status >= 500,
            Self::Silent { .. } | Self::Interrupted => false,
        }
    }
}

/// Asks these nodes to reload, and waits until they have. `pause` is how long to wait before the second try; it doubles.
///
/// The user and password must be those of an administrator.
pub fn reload(
    nodes: &[(Node, String, Secret)],
    pause: Duration,
    monitor: &dyn Monitor,
) -> Vec<Result<(), ReloadError>> {
    let agent = agent();
    nodes.par_iter().map(|(node, user, password)| reload_one(&agent, node, user, password, pause, monitor)).collect()
}

fn reload_one(
    agent: &Agent,
    node: &Node,
    user: &str,
    password: &Secret,
    mut pause: Duration,
    monitor: &dyn Monitor,
) -> Result<(), ReloadError> {
    for attempt in 1.. {
        if monitor.is_interrupted() {
            return Err(ReloadError::Interrupted);
        }
        match ask(agent, node, user, password) {
            Err(error) if error.may_pass() && attempt < TRIES => wait(pause, monitor),
            result => return result,
        }
        pause *= 2;
    }
    unreachable!("the last try returns")
}

fn wait(pause: Duration, monitor: &dyn Monitor) {
    let end = Instant::now() + pause;
    while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|_| !monitor.is_interrupted()) {
        std::thread::sleep(rest.min(Duration::from_millis(50)));
    }
}

fn agent() -> Agent {
    // Only what a node behind TLS shows must be known: an https url that needs none of these fails later, by name.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<Certificate<'static>> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        // The password is for this node: not for a proxy that the environment names, nor for where a node redirects to.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(CONNECT_SECS)))
        .timeout_global(Some(Duration::from_secs(ANSWER_SECS)));
    config.build().new_agent()
}

fn ask(agent: &Agent, node: &Node, user: &str, password: &Secret) -> Result<(), ReloadError> {
    let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
    let asked = agent
        .post(format!("{}/api/system/metadata/reload", node.url))
        .header("Authorization", format!("Basic {credentials}"))
        .header("Content-Type", "application/json")
        .header("Accept", "application/vnd.apache.kylin-v4+json")
        .send_empty();
    let mut response = asked.map_err(failed)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
    judge(status, &body)
}

fn failed(error: ureq::Error) -> ReloadError {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            ReloadError::Unreachable { why: format!("no connection within {CONNECT_SECS} s") }
        }
        ureq::Error::Timeout(_) => ReloadError::Silent { secs: ANSWER_SECS },
        ureq::Error::Io(error) => ReloadError::Unreachable { why: error.to_string() },
        error => ReloadError::Unreachable { why: error.to_string() },
    }
}

/// Tells from an answer whether the node reloaded. Not every failure has a status that says so.
fn judge(status: u16, body: &[u8]) -> Result<(), ReloadError> {
    let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = |name: &str| answer.as_ref().and_then(|answer| answer.get(name)?.as_str());
    match (status, text("code")) {
        (200..300, Some(CODE_DONE)) => Ok(()),
        (200..300, None) => Err(ReloadError::NoKylin { status }),
        _ => Err(ReloadError::Answered { status, said: text("msg").filter(|said| !said.is_empty()).map(shortened) }),
    }
}

fn shortened(said: &str) -> String {
    said.trim_end_matches('.').chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_of_a_kylin_counts() {
        let answered =
            |status, said: Option<&str>| Err(ReloadError::Answered { status, said: said.map(ToOwned::to_owned) });
        for (status, body, expected) in [
            (200, r#"{"code":"000","data":"","msg":""}"#, Ok(())),
            (200, r#"{"code":"999","data":null,"msg":"is in\nmaintenance"}"#, answered(200, Some("is in maintenance"))),
            (200, "<html>log in</html>", Err(ReloadError::NoKylin { status: 200 })),
            (302, "", answered(302, None)),
            (401, "", answered(401, None)),
            (500, r#"{"code":"000","msg":"no"}"#, answered(500, Some("no"))),
        ] {
            assert_eq!(judge(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(ReloadError::Unreachable { why: String::new() }.may_pass());
        assert!(ReloadError::Answered { status: 503, said: None }.may_pass());
        assert!(!ReloadError::Answered { status: 401, said: None }.may_pass());
        assert!(!ReloadError::Silent { secs: 1 }.may_pass());
    }
}
