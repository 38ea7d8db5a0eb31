//! The stream below TLS, bounded until the peer is known, and the one above it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::words;
use crate::transport::net::Stream;

/// Bytes that an unknown peer may send before it is known. What TLS keeps of them, twice at most,
/// is all that such a connection costs: below 64 KiB.
const UNKNOWN_BYTES_MAX: usize = 24 * 1024;

/// The stream below TLS.
pub(super) struct BelowTls {
    stream: Box<dyn Stream>,
    /// Bytes that may still be read. `None`: the peer is known.
    left: Option<usize>,
}

impl BelowTls {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            left: Some(UNKNOWN_BYTES_MAX),
        }
    }

    /// The peer is known, and may send as much as it likes.
    pub(super) fn set_known(&mut self) {
        self.left = None;
    }
}

impl AsyncRead for BelowTls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        };
        if left == 0 {
            let much = "it sent more than a handshake before it was known";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, much)));
        }
        let bytes = buffer.remaining().min(left);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(bytes));
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        self.left = Some(left - read);
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BelowTls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream above TLS, whose errors say what they mean. A dialer learns only from its first read
/// that its certificate was refused.
pub(super) struct Above<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Above<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_read(cx, buffer)
            .map_err(words::explain)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Above<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0)
            .poll_write(cx, bytes)
            .map_err(words::explain)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(cx, parts);
        written.map_err(words::explain)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(words::explain)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_shutdown(cx)
            .map_err(words::explain)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_unknown_peer_is_read_only_so_far_and_a_known_one_is_read_on() {
        let (here, mut there) = tokio::io::duplex(1024 * 1024);
        let mut below = BelowTls::new(Box::new(here));
        there
            .write_all(&vec![7; UNKNOWN_BYTES_MAX + 10])
            .await
            .unwrap();
        let mut read = vec![0; UNKNOWN_BYTES_MAX];
        below.read_exact(&mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        let error = below.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        below.set_known();
        assert_eq!(below.read(&mut read).await.unwrap(), 10);
    }
}
