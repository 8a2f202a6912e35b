//! The console answers what an operator asks of the cluster. A client's message names a `signal`:
//!
//! | signal | members | answer |
//! |---|---|---|
//! | `list` | | `{"msg": {id: figures}, "missing": {id: reason}}` |
//! | `add` | `args`: `key=value` words of a server, or a list of such lists | `{"status", "done": [id], "failed": {id: reason}}` |
//! | `stop` | `ids`, or none for all | `{"status": "part" or "all", "stopped": [id], "failed": {id: reason}}` |
//! | `kill` | `ids`, or none for all | `{"code": "ok"}` or `{"code": "remained", "serverIds": [id]}` |
//! | `restart` | `ids`, or `type`, or none for all but the master | the ids that failed |
//! | `logs` | `id`; `lines`, at most so many; `since`, those after a number; `from`, those after a time; `grep`, a pattern; `wait` for one, milliseconds | `{"lines": [{n, time, error, text}], "last"}` |
//! | `logs` | `ids` or `type`; the same, and `since` may be a map from id to number | `{"lines": [{server, n, time, error, text}], "since": {id: n}, "last": {id: n}, "more", "failed": {id: reason}}` |
//! | `addCron` | `args`: `id=`, `time=`, `action=`, and `serverId=` or `serverType=` | as to `add` |
//! | `removeCron` | `args`: `id=`, and `serverId=` or `serverType=` | as to `add` |
//! | `blacklist` | `args`: addresses, networks, patterns such as `10.0.*.*` | as to `add` |
//!
//! `status` is `ok`, as pomelo's is, or `part` if some servers failed. If all failed, the answer is a failure that names them.
//!
//! The master passes the signal on to the consoles of the monitors. A monitor's console acts on the process and the application that the monitor stands
//! beside. What a monitor is sent has pomelo's form. If the master itself is to end, it ends last, because it has to carry the answers of the others.
//!
//! Options, in milliseconds: `timeout` (2000), how long the master waits for a monitor at `list`, `addCron`, `removeCron` and `blacklist`;
//! `stop-timeout` (10000), how long it waits at `stop`, `kill` and `restart`.
//!
//! | file | what is there |
//! |---|---|
//! | `client`, `monitor` | the master's and a monitor's side: from a message to its signal |
//! | `add`, `stop_kill`, `restart`, `logs`, `crons`, `blacklist` | one signal each, or two |
//! | `ask` | asking the monitors, and what their failures mean |
//! | `message`, `answer`, `arguments`, `figures` | the forms of what is sent |

mod add;
mod answer;
mod arguments;
mod ask;
mod blacklist;
mod client;
mod crons;
mod figures;
mod logs;
mod message;
mod monitor;
mod restart;
mod stop_kill;

use pomelo_sdk::prelude::*;

use message::Message;

struct Console;

#[module(id = "__console__", operations(by = "signal", list = 2))]
impl Console {
    fn client_handler(agent: &Agent, command: client::Command) -> Result<answer::Answer> {
        client::handle(agent, command)
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<monitor::Answer> {
        monitor::handle(agent, message)
    }
}
