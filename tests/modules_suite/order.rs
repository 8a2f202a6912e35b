//! Handlers that are declared serial.

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{Ask, Plan, fixture, grants};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_calls_of_several_connections_run_one_at_a_time_in_the_order_of_arrival() {
    const CLIENTS: usize = 4;
    const EACH: usize = 50;
    let cluster =
        Plan::with([("serial", fixture("serial"))]).say("serial", grants(&["cluster", "uplink"])).start().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(cluster.viewer().await);
    }
    let counts = clients.iter().enumerate().map(|(client, connection)| async move {
        let ask = |number| connection.ask("serial", json!([client, number]));
        let counts: Vec<u64> =
            stream::iter(0..EACH).map(ask).buffered(EACH).map(|count| count.unwrap().as_u64().unwrap()).collect().await;
        assert!(counts.is_sorted(), "in the order of sending: {counts:?}");
        counts
    });
    let mut all = futures_util::future::join_all(counts).await.concat();
    all.sort_unstable();
    let expected: Vec<u64> = (1..=(CLIENTS * EACH) as u64).collect();
    assert_eq!(all, expected, "each count once");
    cluster.stop().await;
}
