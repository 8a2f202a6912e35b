//! The user of a module that does nothing wrong. It asks without pause while another module misbehaves.

use std::fs;
use std::pin::pin;
use std::time::{Duration, Instant};

use pomelo_host::client::{AdminClient, Options};
use serde_json::Value;

use crate::built;
use crate::support::eventually;
use crate::target::Target;

/// A client of level 1 that asks the module `echo`.
pub struct Neighbour {
    client: AdminClient,
}

/// What it saw while it asked.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Requests that were answered. A request that fails ends the test.
    pub answered: usize,
    /// The middle and the 99th of a hundred times until the answer.
    pub p50: Duration,
    pub p99: Duration,
}

impl Neighbour {
    /// Puts `echo` into the modules' directory of the target, and waits until it answers.
    pub async fn of(target: &Target) -> Neighbour {
        fs::create_dir_all(target.cluster.path("modules")).unwrap();
        fs::copy(built("echo-v1.wasm"), target.cluster.path("modules/echo.wasm")).unwrap();
        eventually("echo answers", || target.cluster.request("echo", &Value::Null).ok());
        let options = Options { port: target.cluster.port, ..Options::default() };
        Neighbour { client: AdminClient::connect(options).await.unwrap() }
    }

    /// Asks so many times, one request at a time. Prints the times, because no test depends on them.
    pub async fn asks(&self, count: usize) -> Seen {
        self.asks_while(|asked| asked < count, std::future::pending::<()>()).await
    }

    /// Asks without pause, one request at a time, until `work` has ended. Prints the times, because no test depends on them.
    pub async fn asks_during(&self, work: impl Future) -> Seen {
        self.asks_while(|_| true, work).await
    }

    async fn asks_while(&self, more: impl Fn(usize) -> bool, work: impl Future) -> Seen {
        let mut work = pin!(work);
        let mut times = Vec::new();
        while more(times.len()) {
            let asked = Instant::now();
            let answer = self.client.request("echo", times.len());
            let answer = tokio::select! {
                biased;
                _ = &mut work => break,
                answer = answer => answer.unwrap_or_else(|error| panic!("request {}: {error}", times.len())),
            };
            times.push(asked.elapsed());
            let answer: Value = serde_json::from_str(answer.get()).unwrap();
            assert_eq!(answer["echo"], times.len() - 1);
        }
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let seen = Seen { answered: times.len(), p50: at(50), p99: at(99) };
        println!("the neighbour's calls: {} answered, p50 {:?}, p99 {:?}", seen.answered, seen.p50, seen.p99);
        seen
    }
}
