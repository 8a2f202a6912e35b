//! A connection inside this process: how the master reaches its own monitor.
//!
//! It promises what sockets promise: frames in order, a bounded outbox for each direction, a close that delivers what was sent before it, and one call
//! of `closed` for each session. It has no pings and no frame limits, because neither side can fall silent. Neither side asks for acknowledgements.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Accept, Closed, Outbox, Outgoing, Peer, Session, Transport, Waiting};

/// Connects a new session to `accept`. Each outbox holds at most `capacity` frames. The returned peer is the one that `make_session` was given. What is
/// sent with it reaches the accepted session.
///
/// Must be called within a Tokio runtime.
pub fn pair(accept: &dyn Accept, capacity: usize, make_session: impl FnOnce(Peer) -> Arc<dyn Session>) -> Peer {
    let (near, near_outbox) = Peer::new(Transport::Memory, None, capacity, usize::MAX);
    let (far, far_outbox) = Peer::new(Transport::Memory, None, capacity, usize::MAX);
    let near_session = make_session(near.clone());
    let far_session = accept.accept(far.clone());
    let (near_cut, far_cut) = (near_outbox.cut.clone(), far_outbox.cut.clone());
    tokio::spawn(carry(near_outbox, far_cut, far, far_session));
    tokio::spawn(carry(far_outbox, near_cut, near.clone(), near_session));
    near
}

/// Carries frames from the sender's outbox to the receiver's session, until one of them ends the connection. All calls of one session come from this
/// one task, so that no frame can follow its `closed`.
async fn carry(sender: Outbox, receiver_cut: CancellationToken, receiver: Peer, session: Arc<dyn Session>) {
    let Outbox { mut frames, cut: sender_cut } = sender;
    let how = loop {
        match next(&mut frames, &sender_cut, &receiver_cut).await {
            Next::ReceiverEnded => break Closed::Ours(receiver.closed_because().unwrap_or_default()),
            Next::SenderCut => break Closed::Lost("the other side ended the connection".into()),
            Next::Outgoing(Outgoing::Frame(frame)) => session.frame(frame.topic.as_str(), &frame.payload.text(), None),
            // Cannot come: no frame of this transport asks for an acknowledgement.
            Next::Outgoing(Outgoing::Ack(..)) => {}
            Next::Outgoing(Outgoing::Close) => {
                // The other task serves the sender's own session. By this it learns that everything was delivered.
                sender_cut.cancel();
                break Closed::Left;
            }
        }
    };
    session.closed(how);
}

enum Next {
    Outgoing(Outgoing),
    SenderCut,
    ReceiverEnded,
}

async fn next(
    frames: &mut mpsc::Receiver<Waiting>,
    sender_cut: &CancellationToken,
    receiver_cut: &CancellationToken,
) -> Next {
    tokio::select! {
        biased;
        () = receiver_cut.cancelled() => Next::ReceiverEnded,
        () = sender_cut.cancelled() => Next::SenderCut,
        item = frames.recv() => match item {
            Some(item) => Next::Outgoing(item.outgoing),
            // Every handle is gone, so that nothing can be sent in this direction. The other direction may go on.
            None => tokio::select! {
                () = receiver_cut.cancelled() => Next::ReceiverEnded,
                () = sender_cut.cancelled() => Next::SenderCut,
            },
        },
    }
}
