//! The profiler shows where a server's process, or a module, spends its time. A client's message has an `action`:
//!
//! | action | members | answer |
//! |---|---|---|
//! | `list` | | the ids of the servers |
//! | `start` | `type`: `CPU`; `serverId`; `seconds` | a profile of the server's process |
//! | `start` | `type`: `module`; `serverId`; `moduleId`; `seconds` | a profile of the module's calls on that server |
//!
//! Without a `serverId` the master is meant. A profile takes `seconds` (5), at most 60. It is the answer, as JSON in the Firefox Profiler's processed
//! format. pomelo-admin's profiler is stopped by a second message. Here a profile ends by itself, so that none goes on for ever after its client has
//! gone.

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

struct Profiler;

#[module(
    id = "profiler",
    operations(by = "action"),
    limits(wall_ms = 90_000, answer_kib = 3072, message_kib = 3072, memory_mib = 32)
)]
impl Profiler {
    fn client_handler(agent: &Agent, message: Message) -> Result<Answer> {
        match message.action.as_str() {
            "list" => {
                let servers = agent.cluster().servers::<IgnoredAny>()?.servers.into_keys().collect();
                Ok(Answer::Servers(servers))
            }
            "start" => {
                let server = message.server_id.clone().unwrap_or_else(|| agent.server_id());
                agent.cluster().request(&server, &message, agent.time_left()).map(Answer::Profile)
            }
            "stop" => Err(bad("A profile ends by itself, after the `seconds` of its `start`, which answers with it.")),
            other => Err(bad(&["There is no action ", other, ": it is list or start."].concat())),
        }
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<Answer> {
        let seconds = message.seconds.unwrap_or(DEFAULT_SECONDS);
        let duration =
            Duration::try_from_secs_f64(seconds).map_err(|_| bad("`seconds` is a number of seconds, at most 60."))?;
        let profiler = agent.profiler();
        let profile = match message.kind.as_deref() {
            Some("CPU") => profiler.cpu(duration),
            Some("module") => {
                let module = message.module_id.ok_or_else(|| bad("`moduleId` says which module."))?;
                profiler.guest(&module, duration)
            }
            Some("heap" | "Heap") => {
                let message = "Snapshots of the heap are made of JavaScript programs only, and not by this host.";
                Err(Failure::new("not-available", message))
            }
            _ => Err(bad("`type` is `CPU` or `module`.")),
        };
        profile.map(Answer::Profile)
    }
}

const DEFAULT_SECONDS: f64 = 5.0;

/// From a client to the master, and from the master to a monitor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    action: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    server_id: Option<String>,
    #[serde(default)]
    module_id: Option<String>,
    #[serde(default)]
    seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Servers(Vec<String>),
    Profile(Box<RawValue>),
}

fn bad(message: &str) -> Failure {
    Failure::new("bad-message", message)
}
