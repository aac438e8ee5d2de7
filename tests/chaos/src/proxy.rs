//! A proxy for TCP that cuts, refuses, delays and swallows.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What is done to what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Open,
    /// It is held back for so long.
    Slow(Duration),
    /// It is held back until the mode changes.
    Hole,
    /// There are no connections.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all connections were cut.
    cuts: u64,
}

/// A proxy, for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
}

/// The most that is under way on a connection.
const CHUNK_BYTES: usize = 16 << 10;
const CHUNKS: usize = 256;

impl Proxy {
    /// Listens at `address` (port 0: any) for whoever wants to talk to `target`.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State {
            mode: Mode::Open,
            cuts: 0,
        });
        let target = target.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Once the proxy is dropped, there is nobody to talk to.
                if watched.has_changed().is_err() {
                    return;
                }
                tokio::spawn(carry(client, target.clone(), watched.clone()));
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does that.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }

    /// Cuts all connections there are.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

/// Carries one connection until one side ends it, or it is cut.
async fn carry(client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let State { mode, cuts } = *state.borrow_and_update();
    if mode == Mode::Refuse {
        return;
    }
    // The part may be down: then the client is cut off, as without us.
    let Ok(server) = TcpStream::connect(&target).await else {
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = async {
        tokio::join!(
            pump(from_client, to_server, state.clone()),
            pump(from_server, to_client, state.clone())
        )
    };
    let mut watched = state.clone();
    let cut = watched.wait_for(|state| state.cuts != cuts || state.mode == Mode::Refuse);
    tokio::select! {
        _ = both => {}
        _ = cut => {}
    }
}

/// One direction.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: watch::Receiver<State>) {
    let (held, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let watched = state.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let Ok(length @ 1..) = from.read(&mut chunk).await else {
                return;
            };
            chunk.truncate(length);
            let delay = match watched.borrow().mode {
                Mode::Slow(delay) => delay,
                _ => Duration::ZERO,
            };
            if held.send((Instant::now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    };
    let mut state = state;
    let write = async move {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            if state.wait_for(|state| state.mode != Mode::Hole).await.is_err()
                || to.write_all(&chunk).await.is_err()
            {
                return;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use support::eventually;
    use tokio::time::timeout;

    use super::*;

    /// Says everything back.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn what_is_said_comes_through_slowly_if_asked_for() {
        let proxy = Proxy::start("127.0.0.1:0", &echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let long = vec![b'x'; 100_000];
        assert_eq!(says(&mut stream, &long).await.unwrap(), long);
        proxy.set(Mode::Slow(Duration::from_millis(100)));
        let began = Instant::now();
        assert_eq!(
            says(&mut stream, b"there and back").await.unwrap(),
            b"there and back"
        );
        assert!(began.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_hole_keeps_what_is_said_and_the_connection() {
        let proxy = Proxy::start("127.0.0.1:0", &echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Mode::Hole);
        let mut answer = Box::pin(says(&mut stream, b"hello"));
        assert!(timeout(Duration::from_millis(200), &mut answer).await.is_err());
        proxy.set(Mode::Open);
        assert_eq!(answer.await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn connections_are_cut_and_refused_and_possible_again() {
        let proxy = Proxy::start("127.0.0.1:0", &echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, b"one").await.unwrap(), b"one");
        proxy.cut();
        eventually("it is cut", async || says(&mut stream, b"two").await.err()).await;
        proxy.set(Mode::Refuse);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says(&mut refused, b"three").await.is_err());
        proxy.set(Mode::Open);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, b"four").await.unwrap(), b"four");
    }
}
