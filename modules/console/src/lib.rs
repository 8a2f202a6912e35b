//! The console: what an operator asks of the cluster. A client's message names a `signal`:
//!
//! | signal | members | answer |
//! |---|---|---|
//! | `list` | | `{"msg": {id: figures}, "missing": {id: reason}}` |
//! | `add` | `args`: `key=value` words of a server, or a list of such lists | `{"status", "done": [id], "failed": {id: reason}}` |
//! | `stop` | `ids`, or none for all | `{"status": "part" or "all", "stopped": [id], "failed": {id: reason}}` |
//! | `kill` | `ids`, or none for all | `{"code": "ok"}` or `{"code": "remained", "serverIds": [id]}` |
//! | `restart` | `ids`, or `type`, or none for all but the master | the ids that failed |
//! | `logs` | `id`; `lines`, at most so many; `since`, those after a number; `wait` for one, milliseconds | `{"lines": [{n, time, error, text}], "last"}` |
//! | `addCron` | `args`: `id=`, `time=`, `action=`, and `serverId=` or `serverType=` | as to `add` |
//! | `removeCron` | `args`: `id=`, and `serverId=` or `serverType=` | as to `add` |
//! | `blacklist` | `args`: addresses, networks, patterns such as `10.0.*.*` | as to `add` |
//!
//! `status` is `ok`, as pomelo's is, or `part` where some servers failed; where all did, the answer is a failure that names them.
//!
//! The master passes the signal on to the monitors' consoles, which act on the process and the application that they stand beside; what a monitor
//! is sent has pomelo's form. Where the master is among those to be ended it is the last, since it has to carry the others' answers.
//!
//! Options, in milliseconds: `timeout` (2000), how long `list` and what concerns applications wait for a monitor; `stop-timeout` (10000), how long
//! the others do.

mod add;
mod arguments;
mod ask;
mod blacklist;
mod client;
mod crons;
mod figures;
mod logs;
mod monitor;
mod restart;
mod stop_kill;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use arguments::Pairs;

struct Console;

#[module(id = "__console__", operations(by = "signal", list = 2))]
impl Console {
    fn client_handler(agent: &Agent, command: client::Command) -> Result<client::Answer> {
        client::handle(agent, command)
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<monitor::Answer> {
        monitor::handle(agent, message)
    }
}

/// From the master to a monitor.
#[derive(Default, Serialize, Deserialize)]
struct Message {
    signal: String,
    /// With `addCron` and `removeCron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<Pairs>,
    /// With `blacklist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blacklist: Option<Vec<String>>,
    /// With `logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logs: Option<logs::Wanted>,
}

impl Message {
    fn new(signal: &str) -> Self {
        Self { signal: signal.to_owned(), ..Self::default() }
    }
}

/// The failure for a signal that there is not.
fn unknown(signal: &str) -> Failure {
    const SIGNALS: &str = ": it is list, add, stop, kill, restart, logs, addCron, removeCron or blacklist.";
    Failure::new("unknown-signal", ["There is no signal ", signal, SIGNALS].concat())
}
