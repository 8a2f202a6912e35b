//! Passes a client's wish on to a server's monitor, and has it fulfilled by the application and the process there: for tests of both.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

struct Served;

/// To the master: which server, and what it is asked.
#[derive(Deserialize)]
struct Ask {
    server: String,
    wish: Wish,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Wish {
    Offers,
    Call { name: String, args: Value },
    AddCrons(Vec<Value>),
    RemoveCrons(Vec<String>),
    Crons,
    Servers,
    Stats,
    System,
    Usage,
    Output { since: Option<u64>, lines: u32, wait: u64 },
    Logs,
    LogTail { name: String, lines: u32 },
}

#[module(id = "served")]
impl Served {
    fn client_handler(agent: &Agent, ask: Ask) -> Result<Value> {
        agent.cluster().request(&ask.server, &ask.wish, Duration::from_secs(20))
    }

    fn monitor_handler(agent: &Agent, wish: Option<Wish>) -> Result<Value> {
        let (application, process) = (agent.application(), agent.process());
        match wish.ok_or_else(|| Failure::new("bad-message", "A wish is needed."))? {
            Wish::Offers => Ok(application.offers().into()),
            Wish::Call { name, args } => application.call(&name, &args),
            Wish::AddCrons(crons) => application.add_crons(&crons).map(|()| Value::Null),
            Wish::RemoveCrons(ids) => application.remove_crons(&ids).map(Value::from),
            Wish::Crons => application.crons::<Value>().map(Value::from),
            Wish::Servers => Ok(application.servers::<Value>()?.into_keys().collect()),
            Wish::Stats => process.stats(),
            Wish::System => process.system(),
            Wish::Usage => process.usage(),
            Wish::Output { since, lines, wait } => process.output(since, lines, Duration::from_millis(wait)),
            Wish::Logs => process.logs().map(Value::from),
            Wish::LogTail { name, lines } => process.log_tail(&name, lines).map(Value::from),
        }
    }
}
