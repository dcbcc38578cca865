//! Frames of wire version 1 over any asynchronous stream. The length is judged before anything of
//! the body is read.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use twinlock_protocol::codec::DecodeError;
use twinlock_protocol::wire::{self, LENGTH_BYTES};

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// What came is no frame of the protocol.
    #[error("the peer breaks the protocol")]
    Decode(#[from] DecodeError),
}

/// The next message; none at the end of the stream. Not cancel-safe: a cancelled read loses the
/// stream's place.
///
/// # Errors
/// [`FrameError`]; an end inside a frame is [`FrameError::Io`].
pub async fn read<T: serde::de::DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<T>, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    match stream.read_exact(&mut prefix).await {
        Ok(_) => {}
        // Also an end inside the prefix: nothing of a message is lost with it.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = wire::body_length(prefix, limit)?;
    let mut body = Vec::new();
    // Room grows with what really comes, not with what the prefix promised.
    let got = stream.take(length as u64).read_to_end(&mut body).await?;
    if got != length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Some(wire::message(&body, limit)?))
}

/// Writes a message, whole.
///
/// # Errors
/// [`FrameError::Io`].
pub async fn write<T: serde::Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), FrameError> {
    stream.write_all(&wire::frame(message)).await?;
    stream.flush().await?;
    Ok(())
}
