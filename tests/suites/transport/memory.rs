//! The connection inside the process promises what sockets do.

use std::sync::Arc;

use pomelo_host::transport::{Closed, SendError, Transport, memory};
use pomelo_host::wire::Topic;
use tokio::sync::mpsc;

use crate::support::{Accepted, Probe, Probes, closed, frame, number};

fn pair(capacity: usize) -> (Accepted, Accepted) {
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let mut told = None;
    let near = memory::pair(&Probes(sender), capacity, |peer| {
        let (probe, receiver) = Probe::new(peer, false);
        told = Some(receiver);
        probe as Arc<_>
    });
    ((near, told.unwrap()), accepted.try_recv().unwrap())
}

#[tokio::test]
async fn frames_keep_their_order_and_a_close_delivers_them() {
    let ((near, mut at_near), (far, mut at_far)) = pair(1000);
    assert_eq!((near.transport(), near.remote()), (Transport::Memory, None));
    for n in 0..1000 {
        near.send(Topic::Client, number(n)).unwrap();
    }
    for n in 0..1000 {
        assert_eq!(frame(&mut at_far).await, ("client".into(), number(n).get().into()));
        assert_eq!(frame(&mut at_near).await, ("client".into(), number(n).get().into()));
    }
    far.send(Topic::Monitor, number(7)).unwrap();
    far.close("done");
    assert_eq!(frame(&mut at_near).await, ("monitor".into(), number(7).get().into()));
    assert_eq!(closed(&mut at_near).await, Closed::Left);
    assert_eq!(closed(&mut at_far).await, Closed::Ours("done".into()));
    assert_eq!(near.send(Topic::Client, number(1)), Err(SendError::Closed));
}

#[tokio::test]
async fn a_full_outbox_cuts_the_connection_for_both() {
    let ((near, mut at_near), (_far, mut at_far)) = pair(2);
    // Nothing is carried while this test does not yield.
    near.send(Topic::Monitor, number(0)).unwrap();
    near.send(Topic::Monitor, number(1)).unwrap();
    assert_eq!(near.send(Topic::Monitor, number(2)), Err(SendError::Full));
    assert!(matches!(closed(&mut at_near).await, Closed::Ours(_)));
    assert!(matches!(closed(&mut at_far).await, Closed::Lost(_)));
}
