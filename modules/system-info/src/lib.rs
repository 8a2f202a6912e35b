//! `systemInfo`: how every server's machine is doing, as clients of the master see it. pomelo's module of that id, for its tools.
//!
//! The master asks all monitors every minute, and a monitor when its server comes. Each reports on its machine, and the master keeps the figures that
//! pomelo's tools show. A client of level 1 or 2 is answered from what is kept, `{id: figures}`, so that its question costs no server anything. The figures
//! are `Time`, `hostname`, `serverId`, `cpu_user`, `cpu_nice`, `cpu_system`, `cpu_iowait`,
//! `cpu_steal` and `cpu_idle` in percent, `tps`, `kb_read`, `kb_wrtn`, `kb_read_per` and `kb_wrtn_per` of the disks, `totalmem` and `freemem` in
//! bytes, `free/total`, and the load averages `m_1`, `m_5` and `m_15`. Figures that a machine does not report
//! are left out. So is a server that has not reported yet.
//!
//! The module has no options of its own; the configuration may set another `interval` (60) and `delay` (10), in seconds.

mod figures;

use std::collections::BTreeMap;

use pomelo_sdk::Arrivals;
use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use figures::Machine;

struct SystemInfo;

/// What a monitor tells the master: all that it knows of the machine. The id is for original masters, which take it from the message instead of the
/// connection.
#[derive(Serialize)]
struct Report {
    #[serde(rename = "serverId")]
    server_id: String,
    body: Box<RawValue>,
}

/// What the master reads of a report.
#[derive(Deserialize)]
struct Told {
    body: Machine,
}

#[module(id = "systemInfo", pull, interval = 60, delay = 10, level = 2)]
impl SystemInfo {
    fn master_handler(agent: &Agent, msg: Option<Told>) -> Result {
        match msg {
            None => agent.reports().ask_all(),
            Some(told) => agent.reports().keep(&told.body.figures(&agent.caller_id()?)?),
        }
    }

    fn monitor_handler(agent: &Agent) -> Result {
        let body = agent.process().system()?;
        agent.uplink().notify(&Report { server_id: agent.server_id(), body })
    }

    fn client_handler(agent: &Agent) -> Result<BTreeMap<String, Box<RawValue>>> {
        agent.reports().all()
    }

    fn server_events(agent: &Agent, arrivals: Arrivals) -> Result {
        agent.reports().ask_arrived(&arrivals)
    }
}
