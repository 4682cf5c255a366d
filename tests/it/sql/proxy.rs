//! Something between a client and a server that cuts or holds what they say, at a certain place.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// At which place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Never,
    /// After so many bytes of all clients.
    Sent(u64),
    /// When a client is about to say this.
    Says(&'static str),
    /// When a client is about to commit.
    Commits,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// Nothing.
    Goes,
    /// It is cut on both sides.
    Cut,
    /// The server gets what was said, the client no answer.
    Unanswered,
    /// It is cut on the client's side; the server gets what was said a while later.
    Late,
    /// It is cut on the client's side. The server hears nothing more, and does not learn why.
    Half,
    /// Nobody hears anything any more.
    Stalls,
}

type Act = Box<dyn FnOnce() + Send>;

struct Trap {
    when: When,
    how: How,
    act: Option<Act>,
}

struct Shared {
    server: u16,
    sent: AtomicU64,
    trap: Mutex<Option<Trap>>,
    // Later connections are refused once the trap was sprung.
    refuses_after: bool,
    is_done: AtomicBool,
    /// Whether that failed.
    has_failed: AtomicBool,
    is_closed: AtomicBool,
}

/// A proxy that ends with the value.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start(server: u16, when: When, how: How, refuses_after: bool, act: Option<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let trap = Mutex::new(Some(Trap { when, how, act }));
        let (sent, is_closed) = (AtomicU64::new(0), AtomicBool::new(false));
        let (is_done, has_failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { server, sent, trap, refuses_after, is_done, has_failed, is_closed });
        let own = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if own.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                if own.refuses_after && own.trap.lock().unwrap().is_none() {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", own.server)) {
                    join(&own, client, server);
                }
            }
        });
        Self { port, shared }
    }

    /// Returns the url of a database as it is reached through the proxy, without TLS.
    pub(crate) fn url(&self, url: &str) -> String {
        let (from, to) = (format!(":{}/", self.shared.server), format!(":{}/", self.port));
        assert!(url.contains(&from));
        format!("{}?tls=off&connect_timeout=5", url.replace(&from, &to))
    }

    /// Returns how many bytes clients have sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Lets nothing happen any more; tells whether the place was reached, once what was to be done there is done.
    pub(crate) fn finish(&self) -> bool {
        if self.shared.trap.lock().unwrap().take().is_some() {
            return false;
        }
        while !self.shared.is_done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!self.shared.has_failed.load(Ordering::SeqCst), "what was to be done at this place failed");
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        // It waits for the next one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// Counts what is said; returns the trap if this springs it, and how much goes before.
    fn hear(&self, said: &[u8]) -> Option<(usize, Trap)> {
        let before = self.sent.fetch_add(said.len() as u64, Ordering::SeqCst);
        let mut trap = self.trap.lock().unwrap();
        let at = match trap.as_ref()?.when {
            When::Never => None,
            When::Sent(limit) => {
                let is_here = before <= limit && limit < before + said.len() as u64;
                is_here.then(|| usize::try_from(limit - before).unwrap())
            }
            // As one message of PostgreSQL, or of MySQL.
            When::Commits => [&b"Q\0\0\0\x0bCOMMIT\0"[..], b"\x07\0\0\0\x03COMMIT"].contains(&said).then_some(0),
            When::Says(text) => said.windows(text.len()).any(|some| some == text.as_bytes()).then_some(0),
        };
        at.and_then(|at| Some((at, trap.take()?)))
    }

    fn wait_for_end(&self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Carries what client and server say until one of them ends it.
fn join(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    // What is said is said at once.
    [&client, &server].into_iter().for_each(|stream| stream.set_nodelay(true).unwrap());
    let is_mute = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let mute = is_mute.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            if mute.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (to_client.shutdown(Shutdown::Both), from_server.shutdown(Shutdown::Both));
    });
    let shared = shared.clone();
    thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let said = &buffer[..count];
            if let Some((at, trap)) = shared.hear(said) {
                let goes_on = spring(&shared, trap, (&client, &mut server), said.split_at(at), &is_mute);
                if !goes_on {
                    break;
                }
            } else if server.write_all(said).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

/// Does what a trap is for; tells whether the connection goes on.
fn spring(
    shared: &Shared,
    trap: Trap,
    (client, server): (&TcpStream, &mut TcpStream),
    (before, after): (&[u8], &[u8]),
    is_mute: &AtomicBool,
) -> bool {
    let act = || {
        // Whoever waits for this must not wait for ever when it fails.
        let acted =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trap.act.into_iter().for_each(|act| act())));
        shared.has_failed.store(acted.is_err(), Ordering::SeqCst);
        shared.is_done.store(true, Ordering::SeqCst);
    };
    let mut tell = |text: &[u8]| server.write_all(text).is_ok();
    match trap.how {
        How::Goes => {
            act();
            tell(before) && tell(after)
        }
        How::Cut => {
            tell(before);
            act();
            false
        }
        How::Unanswered => {
            is_mute.store(true, Ordering::SeqCst);
            tell(before);
            tell(after);
            act();
            // It ends with the answer.
            let _ = server.set_read_timeout(Some(Duration::from_secs(20)));
            let mut client = client;
            let _ = client.read(&mut [0]);
            false
        }
        How::Late => {
            is_mute.store(true, Ordering::SeqCst);
            tell(before);
            let _ = client.shutdown(Shutdown::Both);
            act();
            thread::sleep(Duration::from_millis(700));
            tell(after);
            // The other thread hears the answer and hangs up.
            thread::sleep(Duration::from_millis(300));
            false
        }
        How::Half | How::Stalls => {
            is_mute.store(true, Ordering::SeqCst);
            tell(before);
            if matches!(trap.how, How::Half) {
                let _ = client.shutdown(Shutdown::Both);
            }
            act();
            shared.wait_for_end();
            false
        }
    }
}
