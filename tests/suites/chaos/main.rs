//! A real cluster under everything at once: processes that are killed and stopped, connections that are cut and slowed, a full disk, a clock that jumps, modules
//! that are good, bad and trapping, hostile peers of each role, and requests without pause.
//!
//! What happens is a function of a seed (`plan.rs`), so that a run that failed can be run again: its seed is kept below. When things happen to processes still
//! depends on the machine, so that a seed makes a fault likely and not certain. `tests/chaos/run.sh` runs other seeds, and longer.
//!
//! What is looked at afterwards: every request had exactly one outcome; no call of the module under reload failed; every program's view has the members that
//! the master has; memory and descriptors of those that lived through it are what they were after a shorter run of the same kind.

mod act;
mod asking;
mod checks;
mod hostile;
mod npm;
#[path = "../attacks/peers.rs"]
#[allow(dead_code)]
mod peers;
mod plan;
mod proxy;
#[path = "../../support/random.rs"]
mod random;
mod stage;
#[path = "../../support/processes/mod.rs"]
mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use act::Acts;
use asking::{Book, Client, Wire};
use checks::{Figures, settled};
use stage::Stage;

/// Lines of each log that a failure shows.
const TAIL: usize = 40;

/// A run: a part of `warm_up`, after which memory and descriptors are measured, and then the rest of the same plan.
async fn run(seed: u64, warm_up: Duration, length: Duration, long: bool) {
    let steps = plan::steps(seed, length);
    println!("seed {seed}: {} actions in {length:?}", steps.len());
    let stage = Arc::new(Stage::start().await);
    stage.left_out().iter().for_each(|what| println!("left out: {what}"));
    let (acts, book) = (Arc::new(Acts::default()), Arc::new(Book::default()));
    let outcome = AssertUnwindSafe(async {
        settled(&stage).await;
        let (first, rest): (Vec<_>, Vec<_>) = steps.iter().copied().partition(|step| step.at < warm_up);
        phase(seed, &stage, &first, Duration::ZERO, &acts, &book).await;
        let before = Figures::of(&stage);
        phase(seed ^ 1, &stage, &rest, warm_up, &acts, &book).await;
        checks::hold(&stage, &book, &acts, &before, long);
    });
    if let Err(panic) = outcome.catch_unwind().await {
        println!("--- seed {seed}: what happened");
        acts.log.lock().iter().for_each(|line| println!("{line}"));
        for (name, log) in stage.logs() {
            let lines: Vec<_> = log.lines().collect();
            println!("--- {name}");
            lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| println!("{line}"));
        }
        // What the processes wrote was shown. They are ended before the test is, so that they do not show it whole.
        drop(stage);
        std::panic::resume_unwind(panic);
    }
}

/// Does the steps while clients ask, and waits until all is well again.
async fn phase(
    seed: u64,
    stage: &Arc<Stage>,
    steps: &[plan::Step],
    begun: Duration,
    acts: &Arc<Acts>,
    book: &Arc<Book>,
) {
    let end = CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    // Through a proxy of their own, which breaks their connections now and then.
    let between = proxy::Proxy::to(stage.address()).await;
    let client = |number: u64, wire, breaks, at_once| Client {
        wire,
        address: if breaks { between.address } else { stage.address() },
        breaks,
        name: format!("{wire:?}-{number}-{seed}"),
        seed: seed.wrapping_mul(31).wrapping_add(number),
        at_once,
    };
    let all =
        [(Wire::SocketIo, false, 2), (Wire::Pomelo, false, 2), (Wire::SocketIo, true, 1), (Wire::Pomelo, true, 1)];
    for (number, (wire, breaks, at_once)) in (0..).zip(all) {
        clients.spawn(client(number, wire, breaks, at_once).ask(book.clone(), end.clone()));
    }
    let npm = npm::Npm::start(stage.cluster.port);
    acts.perform(seed, stage, steps, begun, &between).await;
    end.cancel();
    npm.end().await.into_iter().for_each(|wrong| book.fault(wrong));
    // Each ends when its last requests have an outcome.
    while let Some(ended) = clients.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    settled(stage).await;
}

/// The seed of the test command, and those with which a fault was found.
macro_rules! seeds {
    ($($name:ident: $seed:expr;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            run($seed, Duration::from_secs(15), Duration::from_secs(60), false).await;
        }
    )* };
}

seeds! {
    a_minute_of_chaos: 1;
}

/// As long and with the seed that the variables say: for `tests/chaos/run.sh`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told to"]
async fn as_long_as_it_is_told_to() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seconds = 60 * number("POMELO_CHAOS_MINUTES").unwrap_or(10);
    let seed = number("POMELO_CHAOS_SEED").unwrap_or(1);
    run(seed, Duration::from_secs(seconds / 5), Duration::from_secs(seconds), true).await;
}
