//! `timeReport`: shows clients the time of every server.
//!
//! This is the pattern of a periodic module with a cache. Every few seconds the timer makes the master ask all monitors. Each monitor tells the master its
//! time, which the master keeps. A client is answered from what is kept, so that its question costs no server anything.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
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
                agent.reports().forget_the_gone()?;
                agent.cluster().notify(&["*"], "testMsg")
            }
            // `keep` takes the reporting server from the connection, whatever the message says.
            Some(report) => agent.reports().keep(&report.time),
        }
    }

    fn monitor_handler(agent: &Agent) -> Result {
        let time = u64::try_from(agent.now().as_millis())?;
        agent.uplink().notify(&Report { server_id: agent.server_id(), time })
    }

    fn client_handler(agent: &Agent) -> Result<BTreeMap<String, u64>> {
        agent.reports().all()
    }
}
