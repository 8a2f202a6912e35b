//! `timeReport`: the time of every server, as clients of the master see it.
//!
//! The pattern of a periodic module that caches. Every few seconds the master's timer fires and it asks all monitors; each tells the
//! master its time, which the master keeps; a client is answered from what is kept, so that its question costs no server anything.
//!
//! A server's time is kept under the key `time:ID`, one key for each: handlers of several servers' messages may run at once.

use std::collections::{BTreeMap, BTreeSet};

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

struct TimeReport;

/// What a monitor tells the master.
#[derive(Serialize, Deserialize)]
struct Report {
    #[serde(rename = "serverId")]
    server_id: String,
    /// Milliseconds since 1970-01-01 00:00 UTC.
    time: u64,
}

#[module(id = "timeReport", pull, interval = 5, level = 2)]
impl TimeReport {
    fn master_handler(agent: &Agent, msg: Option<Report>) -> Result {
        match msg {
            None => {
                forget_the_gone(agent)?;
                agent.cluster().notify(&["*"], "testMsg")
            }
            // Who reports is what the connection says, whatever the message says.
            Some(report) => agent.store().set(&key(&agent.caller_id()?), &report.time),
        }
    }

    fn monitor_handler(agent: &Agent) -> Result {
        let time = u64::try_from(agent.now().as_millis())?;
        agent.uplink().notify(&Report {
            server_id: agent.server_id(),
            time,
        })
    }

    fn client_handler(agent: &Agent) -> Result<BTreeMap<String, u64>> {
        let present = present(agent)?;
        let times = agent.store().entries(PREFIX)?;
        Ok(times
            .into_iter()
            .map(|(key, time)| (server(&key).to_owned(), time))
            .filter(|(id, _)| present.contains(id))
            .collect())
    }
}

const PREFIX: &str = "time:";

fn key(server: &str) -> String {
    [PREFIX, server].concat()
}

fn server(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}

fn present(agent: &Agent) -> Result<BTreeSet<String>> {
    Ok(agent
        .cluster()
        .servers::<IgnoredAny>()?
        .servers
        .into_keys()
        .collect())
}

/// Drops the times of servers that have left; a client does not see them anyway, but they would stay in the store.
fn forget_the_gone(agent: &Agent) -> Result {
    let present = present(agent)?;
    for (key, _) in agent.store().entries_text(PREFIX) {
        if !present.contains(server(&key)) {
            agent.store().delete(&key);
        }
    }
    Ok(())
}
