//! The receiving half of pomelo-admin's wire.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncRead;

#[path = "../../host/src/transport/mqtt/codec.rs"]
pub mod codec;
// The host also asks how much is held.
#[allow(dead_code)]
#[path = "../../host/src/transport/mqtt/input.rs"]
mod input;

/// Passes each packet of `stream`, which is always ready, to `each` until the stream ends. Gives the reason if something was refused before that.
pub fn read(
    stream: impl AsyncRead + Unpin,
    limit: usize,
    mut each: impl FnMut(&[u8], codec::Length),
) -> Option<codec::Bad> {
    let mut input = input::Input::new(stream);
    loop {
        let packet = pin!(input.packet(|| limit)).poll(&mut Context::from_waker(Waker::noop()));
        match packet {
            Poll::Ready(Ok((packet, length))) => each(&packet, length),
            Poll::Ready(Err(input::ReadError::Bad(bad))) => return Some(bad),
            Poll::Ready(Err(_)) => return None,
            Poll::Pending => unreachable!("the stream is always ready"),
        }
    }
}
