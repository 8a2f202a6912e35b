//! What a burst of joins costs: the watchdog gathers changes, and tells several in one message.

use std::time::Duration;

use futures_util::future::join_all;

use crate::fleet::{Fleet, Node};
use crate::settles;

/// Monitors that join at once.
const MONITORS: usize = 200;

fn changes(node: &Node) -> usize {
    node.application.counts().changes()
}

async fn all_know_all(nodes: &[Node]) {
    settles("all know all", || {
        let behind = nodes.iter().filter(|node| node.application.view(|view| view.len()) != MONITORS + 1).count();
        if behind == 0 { Ok(()) } else { Err(format!("{behind} of {MONITORS} do not")) }
    })
    .await;
}

/// One message for each pair would be `MONITORS` changes a view.
#[tokio::test(flavor = "multi_thread")]
async fn w5_a_burst_of_joins_costs_far_less_than_a_message_for_each_pair() {
    let fleet = Fleet::new(1024);
    let (master, _own) = fleet.master(0).await;
    let joins = (0..MONITORS).map(|number| {
        let (fleet, master) = (fleet.clone(), master.address());
        async move { fleet.monitor(&format!("chat-{number}"), "chat", 5000 + number as u16, master).await }
    });
    let nodes = join_all(joins).await;
    all_know_all(&nodes).await;
    let most = nodes.iter().map(changes).max().unwrap_or_default();
    println!("{MONITORS} join: a view was changed {most} times at most");
    assert!(most < MONITORS / 4, "a view was changed {most} times");

    // A master that is restarted knows nobody, and all come back at once.
    let before: Vec<usize> = nodes.iter().map(changes).collect();
    let address = master.address();
    master.shut_down(Duration::ZERO).await;
    let (master, _own) = fleet.master(address.port()).await;
    settles("all are back", || match master.members().snapshot().servers.len() {
        count if count == MONITORS + 1 => Ok(()),
        count => Err(format!("{count} are")),
    })
    .await;
    all_know_all(&nodes).await;
    let most = nodes.iter().zip(before).map(|(node, before)| changes(node) - before).max().unwrap_or_default();
    println!("the master was restarted: {most} times");
    assert!(most < MONITORS / 4, "after the master's restart a view was changed {most} times");

    join_all(nodes.iter().map(|node| node.monitor.shut_down(Duration::ZERO))).await;
    master.shut_down(Duration::ZERO).await;
}
