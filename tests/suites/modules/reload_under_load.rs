//! A module is replaced while clients ask it without pause: no call is lost, and none goes back to the old version.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use pomelo_host::client::AdminClient;

use crate::support::{Ask, Cluster, Plan, eventually, fixture, outside, sha256};

/// Requests of a connection at the least.
const REQUESTS: usize = 2_000;
/// Those before the file is replaced.
const BEFORE: usize = 500;
/// Requests under way at a time on a connection that does not wait for one answer before it asks again.
const IN_FLIGHT: usize = 16;

/// Asks until there were enough requests and the new version is in force. Gives the versions that answered, in the order of sending.
async fn versions(
    client: &AdminClient,
    id: &str,
    in_flight: usize,
    answered: &AtomicUsize,
    done: &AtomicUsize,
) -> Vec<u64> {
    // A connection stops only after the new version is in force, because it has to see the switch.
    let more = |number: &usize| {
        let enough = *number >= REQUESTS && done.load(Ordering::Acquire) == 1;
        std::future::ready(!enough)
    };
    let ask = async |number: usize| {
        let answer = client.ask(id, number).await.unwrap_or_else(|failure| panic!("request {number}: {failure}"));
        assert_eq!(answer["echo"], number);
        answered.fetch_add(1, Ordering::AcqRel);
        answer["version"].as_u64().unwrap()
    };
    let mut seen: Vec<u64> = stream::iter(0..).take_while(more).map(ask).buffered(in_flight).collect().await;
    seen.push(ask(usize::MAX >> 12).await);
    seen
}

/// `versions` are a module's first and second, which answer with `echo` and `version`; `id` is its id and the name of its file.
async fn replaced_under_load(id: &'static str, [v1, v2]: [Vec<u8>; 2], replace: impl Fn(&Cluster, &[u8])) {
    let cluster = Plan::with([(id, v1)]).start().await;
    let (one, many, others) = (cluster.admin().await, cluster.admin().await, cluster.admin().await);
    let (answered, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let swap = async {
        eventually("some load", async || (answered.load(Ordering::Acquire) > 3 * BEFORE).then_some(())).await;
        replace(&cluster, &v2);
        cluster.in_force(id, &sha256(&v2)).await;
        done.store(1, Ordering::Release);
    };
    let (one, many, others, ()) = tokio::join!(
        versions(&one, id, 1, &answered, &done),
        versions(&many, id, IN_FLIGHT, &answered, &done),
        versions(&others, id, IN_FLIGHT, &answered, &done),
        swap
    );
    for seen in [one, many, others] {
        assert!(seen.len() > REQUESTS);
        assert_eq!((seen[0], seen[seen.len() - 1]), (1, 2));
        let switches = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(switches, 1, "in the order of sending, the version changes once");
    }
    let status = cluster.status(id).unwrap();
    assert_eq!(status.failures, 0);
    assert_eq!(status.calls as usize, answered.load(Ordering::Acquire), "every call is counted, over both versions");
    cluster.stop().await;
}

fn echo() -> [Vec<u8>; 2] {
    [fixture("echo-v1"), fixture("echo-v2")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_no_call_is_lost_when_a_file_is_replaced_by_renaming() {
    replaced_under_load("echo", echo(), |cluster, file| cluster.drop_in("echo", file)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_no_call_is_lost_when_a_file_is_written_over() {
    replaced_under_load("echo", echo(), |cluster, file| cluster.overwrite("echo", file)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_module_from_a_crate_outside_this_workspace_is_replaced_without_a_lost_call() {
    let versions = [outside("greeter-1"), outside("greeter-2")];
    replaced_under_load("greeter", versions, |cluster, file| cluster.drop_in("greeter", file)).await;
}
