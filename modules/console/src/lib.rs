//! The console: what an operator asks of the cluster. A client's message names a `signal`:
//!
//! | signal | members | answer |
//! |---|---|---|
//! | `list` | | `{"msg": {id: figures}, "missing": {id: reason}}` |
//! | `stop` | `ids`, or none for all | `{"status": "part" or "all", "stopped": [id], "failed": {id: reason}}` |
//! | `kill` | `ids`, or none for all | `{"code": "ok"}` or `{"code": "remained", "serverIds": [id]}` |
//! | `restart` | `ids`, or `type`, or none for all but the master | the ids that failed |
//!
//! The master passes the signal on to the monitors' consoles, which act on the process they stand beside. Where the master is among those
//! to be ended it is the last, since it has to carry the others' answers.
//!
//! Options, in milliseconds: `timeout` (2000), how long `list` waits for a monitor; `stop-timeout` (10000), how long the others do.

mod client;
mod figures;
mod monitor;

use pomelo_sdk::prelude::*;
use serde::Serialize;

struct Console;

#[module(id = "__console__", operations(by = "signal", list = 2))]
impl Console {
    fn client_handler(agent: &Agent, command: client::Command) -> Result<client::Answer> {
        client::handle(agent, command)
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<monitor::Answer> {
        monitor::handle(agent, &message.signal)
    }
}

/// From the master to a monitor.
#[derive(Serialize, serde::Deserialize)]
struct Message {
    signal: String,
}

/// The failure for a signal that there is not.
fn unknown(signal: &str) -> Failure {
    Failure::new(
        "unknown-signal",
        [
            "There is no signal ",
            signal,
            ": it is list, stop, kill or restart.",
        ]
        .concat(),
    )
}
