//! The console answers what an operator asks of the cluster. A client's message names a `signal`:
//!
//! | signal | members | answer |
//! |---|---|---|
//! | `list` | | `{"msg": {id: figures}, "missing": {id: reason}}`; lines of programs are in it for those alone who may ask for `logs` |
//! | `add` | `args`: `key=value` words of a server, or a list of such lists | `{"status", "done": [id], "failed": {id: reason}}` |
//! | `stop` | `ids`, or `type`, or none for all | `{"status": "part" or "all", "stopped": [id], "failed": {id: reason}, "job"}` |
//! | `kill` | as `stop` | `{"code": "ok"}` or `{"code": "remained", "serverIds": [id]}` |
//! | `restart` | `ids`, or `type`, or none for all but the master | the ids that failed |
//! | `start`, `drain` | `ids`, or `type`, or none for all | as to `add` |
//! | `undrain` | `ids` | as to `add` |
//! | `apply` | `plan`, the digest of the files, or none for those that are there | `{"status", "job", "done": [id], "failed": {id: reason}, "notes": [sentence]}` |
//! | `jobs` | | the jobs that are kept, the newest first |
//! | `job` | `job`, its number; `revision` and `wait`, to wait for a change | the job |
//! | `cancelJob`, `resumeJob` | `job`, its number | the job |
//! | `logs` | `id`; `lines`, at most so many; `since`, those after a number; `from`, those after a time; `grep`, a pattern; `wait` for one, milliseconds | `{"lines": [{n, time, error, text}], "last"}` |
//! | `logs` | `ids` or `type`; the same, and `since` may be a map from id to number | `{"lines": [{server, n, time, error, text}], "since": {id: n}, "last": {id: n}, "more", "failed": {id: reason}}` |
//! | `addCron` | `args`: `id=`, `time=`, `action=`, and `serverId=` or `serverType=` | as to `add` |
//! | `removeCron` | `args`: `id=`, and `serverId=` or `serverType=` | as to `add` |
//! | `blacklist` | `args`: addresses, networks, patterns such as `10.0.*.*` | as to `add` |
//!
//! `add`, `start`, `stop`, `kill`, `restart`, `drain` and `apply` are orders to the fleet: each is a job of the host, which goes on when the client has left. They
//! may have `options`, `queue`, `wait` (milliseconds that the client waits for the job) and `progress` (the client is told of the job's progress). A
//! client whose time is over is answered `{"status": the job's state, "job": its number}`.
//!
//! `status` is `ok`, as pomelo's is, or `part` if some servers failed. If all failed, the answer is a failure that names them.
//!
//! The master passes the signal on to the consoles of the monitors. A monitor's console acts on the process and the application that the monitor stands
//! beside. What a monitor is sent has pomelo's form. If the master itself is to end, it ends last, because it has to carry the answers of the others.
//!
//! Option, in milliseconds: `timeout` (2000), how long the master waits for a monitor at `list`, `logs`, `addCron`, `removeCron` and `blacklist`. How long
//! an order may take follows from the servers' own deadlines.
//!
//! | file | what is there |
//! |---|---|
//! | `client`, `monitor` | the master's and a monitor's side: from a message to its signal |
//! | `orders`, `order` | orders to the fleet: their answers, and how their jobs are followed |
//! | `add`, `list`, `logs`, `crons`, `blacklist` | one signal each, or two |
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
mod list;
mod logs;
mod message;
mod monitor;
mod order;
mod orders;

use pomelo_sdk::prelude::*;

use message::Message;

struct Console;

#[module(
    id = "__console__",
    operations(by = "signal", list = 2, reads("jobs", "job", "logs")),
    limits(answer_kib = 4096, memory_mib = 48)
)]
impl Console {
    fn client_handler(agent: &Agent, command: client::Command) -> Result<answer::Answer> {
        client::handle(agent, command)
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<monitor::Answer> {
        monitor::handle(agent, message)
    }
}
