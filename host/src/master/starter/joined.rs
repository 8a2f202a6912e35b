//! The starter as modules see it. It answers when a server has joined, so that a client which is told that a server was started finds it in the
//! cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use super::ServerStarter;
use crate::failure::{Failure, code};
use crate::master::Members;
use crate::plugin::capability::{Outcomes, Starter};
use crate::wire::Info;

/// How long a server that was started may take to join.
const JOIN: Duration = Duration::from_secs(7);

/// A starter that waits for servers to join.
pub(in crate::master) struct UntilJoined {
    starter: Arc<ServerStarter>,
    members: Arc<Members>,
    /// The table's revision at which a server was told to stay down.
    kept_down_at: Mutex<BTreeMap<String, u64>>,
}

impl UntilJoined {
    pub fn new(starter: Arc<ServerStarter>, members: Arc<Members>) -> Self {
        UntilJoined { starter, members, kept_down_at: Mutex::default() }
    }

    /// Follows the table. A server that is kept down and joins was started by somebody on purpose: it is no longer kept down. Ends with the members.
    pub async fn follow(self: Arc<Self>) {
        let mut revision = self.members.revision();
        while revision.changed().await.is_ok() {
            let kept_down = self.starter.record().kept_down();
            if kept_down.is_empty() {
                continue;
            }
            let table = self.members.snapshot();
            let back: Vec<String> = {
                let kept_down_at = self.kept_down_at.lock();
                let is_back = |id: &String| {
                    let since = kept_down_at.get(id).copied().unwrap_or_default();
                    table.servers.get(id).is_some_and(|entry| entry.since > since)
                };
                kept_down.into_iter().filter(is_back).collect()
            };
            if let Err(failure) = self.starter.set_kept_down(&back, false).await {
                tracing::error!(%failure, "servers that have joined again will be kept down by the next master, because that could not be written");
            }
        }
    }

    async fn joined(&self, id: &str) -> Result<(), Failure> {
        tokio::time::timeout(JOIN, self.members.joined(id)).await.map_err(|_| {
            Failure::new(code::TIMEOUT, format!("{id} was started and has not joined within {JOIN:?}: see the log"))
        })
    }
}

impl Starter for UntilJoined {
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            self.starter.start(&id).await?;
            self.joined(&id).await
        }
        .boxed()
    }

    fn add(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<Outcomes, Failure>> {
        async move {
            let running: Vec<String> = self.members.snapshot().servers.into_keys().collect();
            let outcomes = self.starter.add(&servers, &running).await?;
            let joined = outcomes.into_iter().map(|(id, started)| async move {
                let outcome = match started {
                    Ok(()) => self.joined(&id).await,
                    failed => failed,
                };
                (id, outcome)
            });
            Ok(join_all(joined).await)
        }
        .boxed()
    }

    // `hold` is the word of the WIT interface.
    fn hold(&self, ids: Vec<String>, down: bool) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let rev = self.members.snapshot().rev;
            {
                let mut kept_down_at = self.kept_down_at.lock();
                for id in &ids {
                    // Only what the starter knows is ever kept down, so that this map cannot grow beyond it.
                    match down && self.starter.knows(id) {
                        true => drop(kept_down_at.insert(id.clone(), rev)),
                        false => drop(kept_down_at.remove(id)),
                    }
                }
            }
            self.starter.set_kept_down(&ids, down).await
        }
        .boxed()
    }

    fn servers(&self) -> Vec<String> {
        self.starter.servers()
    }
}
