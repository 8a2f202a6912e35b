//! Handlers that are declared serial.

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{Ask, Cluster, Plan, eventually, fixture, grants, renewed, sha256};

const CLIENTS: usize = 4;

async fn with_serial() -> Cluster {
    Plan::with([("serial", fixture("serial"))]).say("serial", grants(&["cluster", "uplink"])).start().await
}

/// Asks from several connections at once, and looks that every call counted once, in the order of sending on each connection.
async fn counts(cluster: &Cluster, each: usize) {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(cluster.viewer().await);
    }
    let counts = clients.iter().enumerate().map(|(client, connection)| async move {
        let ask = |number| connection.ask("serial", json!([client, number]));
        let counts: Vec<u64> =
            stream::iter(0..each).map(ask).buffered(50).map(|count| count.unwrap().as_u64().unwrap()).collect().await;
        assert!(counts.is_sorted(), "in the order of sending: {counts:?}");
        counts
    });
    let mut all = futures_util::future::join_all(counts).await.concat();
    all.sort_unstable();
    let expected: Vec<u64> = (1..=(CLIENTS * each) as u64).collect();
    assert_eq!(all, expected, "each count once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_calls_of_several_connections_run_one_at_a_time_in_the_order_of_arrival() {
    let cluster = with_serial().await;
    counts(&cluster, 50).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_serial_calls_keep_their_order_while_the_module_is_replaced() {
    let cluster = with_serial().await;
    let swaps = async {
        for number in 1..=3 {
            let new = renewed(&fixture("serial"), number);
            cluster.drop_in("serial", &new);
            cluster.in_force("serial", &sha256(&new)).await;
        }
    };
    tokio::join!(counts(&cluster, 200), swaps);
    assert_eq!(cluster.status("serial").unwrap().failures, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_a_message_that_comes_while_a_serial_start_runs_is_dealt_with_after_it() {
    let cluster = with_serial().await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.viewer().await;
    let counted = async || {
        let counted = client.ask("serial", json!({"server": "chat-1"})).await.unwrap();
        (counted.as_array().is_some_and(|list| list.len() > 1)).then_some(counted)
    };
    assert_eq!(eventually("both", counted).await, json!(["start", "message"]));
    server.stop().await;
    cluster.stop().await;
}
