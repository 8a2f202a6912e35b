//! `nodeInfo`: figures of every server's process, as clients of the master see them. pomelo's module of that id, for its tools.
//!
//! The master asks all monitors every minute, and a monitor when its server comes. Each reports the figures of the process that it stands beside, and the
//! master keeps them. A client of level 1 or 2 is answered from what is kept, `{id: figures}`, so that its question costs no server anything. The figures
//! have the members of pomelo-monitor's process information: `time`, `serverId`, `serverType`, `pid`, `cpuAvg`, `memAvg`, `vsz`, `rss`, `usr`, `sys` and
//! `gue`. A server that has not reported yet is left out.
//!
//! The module has no options of its own; the configuration may set another `interval` (60) and `delay` (10), in seconds.

use std::collections::BTreeMap;

use pomelo_sdk::Arrivals;
use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

struct NodeInfo;

/// What a monitor tells the master. The id is for original masters, which take it from the message instead of the connection.
#[derive(Serialize, Deserialize)]
struct Report {
    #[serde(default, rename = "serverId")]
    server_id: String,
    body: Box<RawValue>,
}

#[module(id = "nodeInfo", pull, interval = 60, delay = 10, level = 2)]
impl NodeInfo {
    fn master_handler(agent: &Agent, msg: Option<Report>) -> Result {
        match msg {
            None => agent.reports().ask_all(),
            Some(report) => agent.reports().keep(figures(&report.body)?),
        }
    }

    fn monitor_handler(agent: &Agent) -> Result {
        let body = agent.process().usage()?;
        agent.uplink().notify(&Report { server_id: agent.server_id(), body })
    }

    fn client_handler(agent: &Agent) -> Result<BTreeMap<String, Box<RawValue>>> {
        agent.reports().all()
    }

    fn server_events(agent: &Agent, arrivals: Arrivals) -> Result {
        agent.reports().ask_arrived(&arrivals)
    }
}

/// The figures. A server of pomelo that could not read those of its process says `null`.
fn figures(body: &RawValue) -> Result<&RawValue> {
    if body.get().starts_with('{') {
        return Ok(body);
    }
    Err(Failure::new("bad-message", "The server told no figures of its process."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_nodeinfo_takes_what_a_server_of_pomelo_tells() {
        let told = r#"{"serverId":"chat-server-1","body":{"time":"2026-11-22 1:45:29 PM","serverId":"chat-server-1","pid":23506,"cpuAvg":"3.1"}}"#;
        let report: Report = serde_json::from_str(told).unwrap();
        assert!(figures(&report.body).unwrap().get().contains(r#""cpuAvg":"3.1""#));
        let report: Report = serde_json::from_str(r#"{"serverId":"chat-server-1","body":null}"#).unwrap();
        assert_eq!(figures(&report.body).unwrap_err().code(), "bad-message");
        assert!(serde_json::from_str::<Report>(r#"{"serverId":"chat-server-1"}"#).is_err());
    }
}
