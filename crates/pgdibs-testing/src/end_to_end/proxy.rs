//! A TCP proxy that delays, stalls, drops and cuts connections between the daemon and its server, or a client and the daemon.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::wait::{block, runtime};

/// The treatment of connections from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Open,
    /// Passes bytes on after a delay.
    Slow(Duration),
    /// Keeps bytes until the link is open again, like a hanging server or network.
    Stalled,
    /// Passes requests and drops answers.
    Mute,
    /// Resets both ends and rejects new connections.
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// Cuts so far; a cut ends all connections before it.
    cuts: usize,
    /// Freezes so far; a freeze stalls all connections before it for ever.
    freezes: usize,
    /// Connections before this many freezes are closed.
    closed: usize,
}

impl State {
    /// Whether a connection opened in this state has ended in a later one.
    fn is_over_in(self, later: Self) -> bool {
        later.cuts != self.cuts || self.freezes < later.closed
    }
}

/// Listens until it is dropped.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub fn to(target_port: u16) -> Self {
        let listener = block(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, _) = watch::channel(State { link: Link::Open, cuts: 0, freezes: 0, closed: 0 });
        let listening = runtime().spawn(listen(listener, target_port, state.clone()));
        Self { port, state, listening }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| {
            state.link = link;
            state.cuts += usize::from(link == Link::Cut);
        });
    }

    /// Resets every connection; new ones pass.
    pub fn cut_once(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Stalls the existing connections for ever without an error, like a change of a route; new ones pass.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.freezes += 1);
    }

    /// Ends the frozen connections, like the keepalives of both ends.
    pub fn close_frozen(&self) {
        self.state.send_modify(|state| state.closed = state.freezes);
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
            // The drop of these sockets sends a reset.
            let _ = client.set_zero_linger();
            if born.link == Link::Cut {
                return;
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            let _ = (server.set_zero_linger(), client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // The first direction that ends closes both.
            tokio::select! {
                () = pass(from_client, to_server, state.clone(), born, false) => {}
                () = pass(from_server, to_client, state.clone(), born, true) => {}
            }
        });
    }
}

/// Passes bytes in one direction until the end or a cut.
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
        // The bytes wait here while the link is stalled.
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
