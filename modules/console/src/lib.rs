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
