//! A TCP proxy that delays, holds back, swallows and cuts: between the daemon and its server, or between a client and the daemon.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::runtime;

/// How a connection is treated from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// What arrives is passed on after a while.
    Slow(Duration),
    /// What arrives is kept until the link is open again: a server that hangs, a network that lost its way.
    Stalled,
    /// Requests pass, answers are kept for ever: the peer never hears what became of them.
    Mute,
    /// Both ends get a reset, and nobody new comes through.
    Cut,
}

/// What every connection follows.
#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// Connections from before the last cut are gone.
    cuts: usize,
    /// Those from before the last freeze stay silent for ever.
    freezes: usize,
    /// Those from before this many freezes are found dead by both ends.
    buried: usize,
}

impl State {
    /// Whether a connection that began in this state is over in a later one.
    fn is_over_in(self, later: Self) -> bool {
        later.cuts != self.cuts || self.freezes < later.buried
    }
}

/// Listens on a port of its own until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn to(target_port: u16) -> Self {
        let listener = super::block(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, _) = watch::channel(State { link: Link::Open, cuts: 0, freezes: 0, buried: 0 });
        let listening = runtime().spawn(listen(listener, target_port, state.clone()));
        Self { port, state, listening }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, link: Link) {
        self.state.send_modify(|state| {
            state.link = link;
            state.cuts += usize::from(link == Link::Cut);
        });
    }

    /// Resets every connection; new ones are treated as before.
    pub(crate) fn cut_once(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Those that are connected hear nothing any more, ever, and are not told; new ones pass. As after a change of a route.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.freezes += 1);
    }

    /// Frozen connections end, as when the keepalives of both ends have found them dead.
    pub(crate) fn bury(&self) {
        self.state.send_modify(|state| state.buried = state.freezes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Link::Cut);
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: u16, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = state.subscribe();
        tokio::spawn(async move {
            let born = *state.borrow();
            // A reset, not a farewell, when these are dropped in the middle of something.
            let _ = client.set_zero_linger();
            if born.link == Link::Cut {
                return;
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            let _ = (server.set_zero_linger(), client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // Whichever ends first takes the other with it.
            tokio::select! {
                () = pass(from_client, to_server, state.clone(), born, false) => {}
                () = pass(from_server, to_client, state.clone(), born, true) => {}
            }
        });
    }
}

/// Passes bytes on in one direction until an end or a cut.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    born: State,
    is_answer: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => match read { Ok(count @ 1..) => count, _ => break },
            changed = state.changed() => {
                if changed.is_err() || born.is_over_in(*state.borrow_and_update()) { return }
                continue;
            }
        };
        // What has arrived waits here for as long as the line says.
        loop {
            let now = *state.borrow_and_update();
            if born.is_over_in(now) {
                return;
            }
            let link = if now.freezes == born.freezes { now.link } else { Link::Stalled };
            match link {
                Link::Open => break,
                Link::Cut => return,
                Link::Mute if !is_answer => break,
                Link::Slow(time) => {
                    tokio::time::sleep(time).await;
                    break;
                }
                Link::Stalled | Link::Mute => {
                    if state.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
