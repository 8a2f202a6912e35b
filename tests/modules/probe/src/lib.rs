//! Shows what a module sees of its host, and behaves at its start and its turns as its store or its options say: for tests of both hosts.
//!
//! A client's message says what to do, `{"do": "get", "key": "x"}`. Its `start` counts itself under the key `starts`, and then does what the key
//! `on-start` says: a test sets that before the next version comes.

use std::sync::atomic::{AtomicU32, Ordering};

use pomelo_sdk::prelude::*;
use serde::Deserialize;
use serde_json::json;

struct Probe;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Wish {
    /// What the host says of itself and of the call.
    Look,
    Get {
        key: String,
    },
    Set {
        key: String,
        value: Value,
    },
    /// A key of another module's store.
    Read {
        module: String,
        key: String,
    },
    /// How many calls this very instance has served.
    Calls,
    Trap,
    /// Asks a server, and answers with what it says.
    Ask {
        server: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Options {
    /// So many `start`s fail.
    failing_starts: u32,
    /// A turn of the `pull` timer asks this server, and waits for its answer for a minute at most.
    turn_asks: Option<String>,
}

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);
/// Lives as long as its instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

#[module(id = "probe", level = 2)]
impl Probe {
    fn client_handler(agent: &Agent, wish: Wish) -> Result<Value> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        match wish {
            Wish::Look => look(agent),
            Wish::Get { key } => Ok(agent.store().get(&key)?.unwrap_or_default()),
            Wish::Set { key, value } => agent.store().set(&key, &value).map(|()| Value::Null),
            Wish::Read { module, key } => Ok(agent.store().read(&module, &key)?.unwrap_or_default()),
            Wish::Calls => Ok(calls.into()),
            Wish::Trap => panic!("as it was asked to"),
            Wish::Ask { server } => agent.cluster().request(&server, "look", LONG),
        }
    }

    /// Where it is, for the master; a turn of the `push` timer is told to the master.
    fn monitor_handler(agent: &Agent, msg: Option<Value>) -> Result<Value> {
        match msg {
            Some(_) => look(agent),
            None => agent.uplink().notify("turn").map(|()| Value::Null),
        }
    }

    /// Counts the turns of its own timer under `turns`, and those that servers tell of under `turn:ID`.
    fn master_handler(agent: &Agent, msg: Option<Value>) -> Result {
        match msg {
            Some(_) => count(agent, &["turn:", &agent.caller_id()?].concat()),
            None => {
                count(agent, "turns")?;
                match agent.options::<Options>()?.turn_asks {
                    Some(server) => agent.cluster().request::<Value>(&server, "turn", LONG).map(drop),
                    None => Ok(()),
                }
            }
        }
    }

    fn start(agent: &Agent) -> Result {
        count(agent, "starts")?;
        let starts: u32 = agent.store().get("starts")?.unwrap_or_default();
        if starts <= agent.options::<Options>()?.failing_starts {
            return Err(Failure::new("not-yet", "It does not start yet."));
        }
        let wish: Option<String> = agent.store().get("on-start")?;
        match wish.as_deref() {
            None => Ok(()),
            Some("fail") => Err(Failure::new("bad-start", "It was told not to start.")),
            // The name of a server that does not answer.
            Some(server) => agent.cluster().request::<Value>(server, "start", LONG).map(drop),
        }
    }
}

fn look(agent: &Agent) -> Result<Value> {
    Ok(json!({
        "id": agent.module_id(),
        "server": agent.server_id(),
        "type": agent.server_type(),
        "options": agent.options::<Value>()?,
        "caller": agent.caller().id,
        "user": agent.caller().user,
        "level": agent.caller().level,
    }))
}

fn count(agent: &Agent, key: &str) -> Result {
    let so_far: u32 = agent.store().get(key)?.unwrap_or_default();
    agent.store().set(key, &(so_far + 1))
}
