//! The stream that lettre's client talks through.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read from the socket at once; answers are a few lines.
const READ_BYTES: usize = 4096;

/// A stream that gives at most one line at a time to whoever reads.
///
/// lettre reads through a buffer that outlives the change from plain text to TLS. Whatever an attacker on the wire puts
/// behind the answer to STARTTLS would wait there and be read after the handshake, as if the server had said it under
/// TLS (the "NO STARTTLS" attacks, CVE-2011-0411 and others). Line by line nothing is left over: what follows the
/// answer goes into the handshake, and breaks it.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<S> Wire<S> {
    /// Over `stream`, which is connected to `peer`.
    pub fn new(stream: S, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.start == wire.end {
            let mut buffer = ReadBuf::new(&mut wire.buffer);
            match Pin::new(&mut wire.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => (wire.start, wire.end) = (0, buffer.filled().len()),
                other => return other,
            }
        }
        let waiting = wire.buffer.get(wire.start..wire.end).unwrap_or_default();
        let line = waiting
            .iter()
            .position(|&b| b == b'\n')
            .map_or(waiting.len(), |newline| newline + 1);
        let taken = line.min(out.remaining());
        out.put_slice(waiting.get(..taken).unwrap_or_default());
        wire.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_read_never_goes_beyond_a_line() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"220 ready\r\n250-evil\r\n25")
            .await
            .unwrap();
        let mut wire = Wire::new(ours, SocketAddr::from(([127, 0, 0, 1], 25)));
        let mut buffer = [0; 100];
        for expected in ["220 ready\r\n", "250-evil\r\n", "25"] {
            let count = wire.read(&mut buffer).await.unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..count]).unwrap(), expected);
        }
        drop(theirs);
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_small_reader_gets_the_line_in_pieces() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"abc\ndef\n")
            .await
            .unwrap();
        let mut wire = Wire::new(ours, SocketAddr::from(([127, 0, 0, 1], 25)));
        let mut all = Vec::new();
        let mut buffer = [0; 3];
        while all.len() < 8 {
            let count = wire.read(&mut buffer).await.unwrap();
            all.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(all, b"abc\ndef\n");
    }
}
