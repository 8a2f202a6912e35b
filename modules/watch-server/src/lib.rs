//! `watchServer`: shows the state of servers, and changes settings that their applications offer. pomelo's module of that id, for its tools.
//!
//! A client's message names a command, `comd`; `context`, a server's id or `all`; and what the command takes, `param`.
//!
//! | `comd` | level | context | `param` | answer |
//! |---|---|---|---|---|
//! | `servers` | 2 | any: always all | | `{"msg": {id: {serverId, serverType, host, port, pid, heapUsed, uptime}}, "missing", "servers": [{id, serverType, state, since, why}]}` |
//! | `connections`, `logins` | 2 | `all` frontend servers, or one | | `{"msg": {id: {serverId, totalConnCount, loginedCount, loginedList}}, "missing"}` |
//! | `modules` | 2 | `all`: the master; or a server | | `{"msg": [module id]}` |
//! | `status` | 2 | a server | | `{"msg": {serverId, body}}`, the process's figures; `application` in them is what the application says |
//! | `proxy`, `handler` | 2 | a server | | what it calls on others, what it answers to |
//! | `components` | 2 | a server | | the application's components; their options for level 1 alone |
//! | `settings` | 2 | a server | | the application's settings, see `shown` |
//! | `get` | 2 | a server | the key | the setting, see `shown` |
//! | `config` | 1 | a server | the component | its options; for `master` as `param`: `{"masterConfig", "masterInfo"}` |
//! | `set` | 1 | a server | `{"key", "value"}` | a sentence |
//! | `enable`, `disable` | 1 | a server | the setting | a sentence |
//! | `run` | 1 | a server | the script, a component in its text form | what it answers |
//! | `cpu` | 1 | a server | `{"times"}`, seconds | the profile |
//! | `memory` | 1 | a server | | what the application's `memory` says, or a sentence with the process's figures |
//!
//! `heapUsed` is in megabytes and `uptime` in minutes, both as texts with two decimals. If several servers were asked, `missing` names those that did not
//! answer, with the reasons. `servers` has all servers of the fleet, also those that do not run. If none answered, or the only one that was asked did
//! not, the request fails. If an application does not offer something, a sentence says so. The interface `application` names the functions that are called.
//!
//! Options, in milliseconds: `timeout` (2000), how long the master waits for servers. For `run` and `cpu` it waits as long as the call may take.

mod client;
mod gather;
mod monitor;
mod question;
mod shown;

use pomelo_sdk::prelude::*;

use question::Question;

struct WatchServer;

#[module(
    id = "watchServer",
    operations(
        by = "comd",
        servers = 2,
        connections = 2,
        logins = 2,
        modules = 2,
        status = 2,
        proxy = 2,
        handler = 2,
        components = 2,
        settings = 2,
        get = 2
    ),
    // For profiles.
    limits(wall_ms = 90_000, answer_kib = 3072, message_kib = 3072, memory_mib = 32)
)]
impl WatchServer {
    fn client_handler(agent: &Agent, command: Option<client::Command>) -> Result<client::Answer> {
        client::handle(agent, command)
    }

    fn monitor_handler(agent: &Agent, question: Question<String>) -> Result<monitor::Answer> {
        monitor::handle(agent, question)
    }
}
