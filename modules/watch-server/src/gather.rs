//! Asks several servers, and gathers their answers.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::question::{Members, Question};

/// What came of asking several servers.
#[derive(Default, Serialize)]
pub struct Gathered {
    /// What each answered, an object.
    msg: BTreeMap<String, Members>,
    /// Why each of the others did not answer.
    missing: BTreeMap<String, String>,
    /// The servers of the fleet, also those that do not run; absent where the master keeps none, and for other questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<Known>>,
}

/// A server, as the master knows it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    id: String,
    server_type: String,
    state: String,
    since: u64,
    #[serde(default)]
    why: String,
}

/// What the master knows of a server, as far as it is needed here.
#[derive(Deserialize)]
struct ServerInfo {
    #[serde(default)]
    host: Option<Box<RawValue>>,
    #[serde(default)]
    port: Option<Box<RawValue>>,
    #[serde(default)]
    frontend: Option<Box<RawValue>>,
}

impl ServerInfo {
    /// Whether players connect to it. The value may be a text, because it may come from a command line.
    fn is_frontend(&self) -> bool {
        self.frontend.as_ref().is_some_and(|frontend| matches!(frontend.get(), "true" | "\"true\""))
    }
}

/// The body of an answer. The id beside it is not read, because the host knows who answered.
#[derive(Deserialize)]
struct Answered {
    body: Members,
}

/// A row for each server. Its host and port are those that the master has.
pub fn servers(agent: &Agent, question: &Question<&str>, timeout: Duration) -> Result<Gathered> {
    let mut infos = agent.cluster().servers::<ServerInfo>()?.servers;
    let mut gathered = gather(agent, &["*"], question, timeout)?;
    for (id, row) in &mut gathered.msg {
        row.insert("serverId".to_owned(), to_raw_value(id)?);
        if let Some(ServerInfo { host, port, .. }) = infos.remove(id) {
            row.extend(host.map(|host| ("host".to_owned(), host)));
            row.extend(port.map(|port| ("port".to_owned(), port)));
        }
    }
    gathered.servers = match agent.starter().servers() {
        Err(failure) if failure.code() == "not-available" => None,
        servers => Some(servers?),
    };
    Ok(gathered)
}

/// What one frontend server answers, or all.
pub fn frontends(agent: &Agent, question: &Question<&str>, timeout: Duration) -> Result<Gathered> {
    let infos = agent.cluster().servers::<ServerInfo>()?.servers;
    let context = question.context.unwrap_or_default();
    if context == "all" {
        let ids: Vec<_> = infos.iter().filter(|(_, info)| info.is_frontend()).map(|(id, _)| id.as_str()).collect();
        return gather(agent, &ids, question, timeout);
    }
    match infos.get(context) {
        Some(info) if info.is_frontend() => {
            let Answered { body } = agent.cluster().request(context, question, timeout)?;
            Ok(Gathered { msg: [(context.to_owned(), body)].into(), ..Gathered::default() })
        }
        Some(_) => {
            Err(Failure::new("not-frontend", [context, " is no frontend server: nobody connects to it."].concat()))
        }
        None => Err(Failure::new("not-found", ["There is no server ", context, "."].concat())),
    }
}

fn gather(agent: &Agent, targets: &[&str], question: &Question<&str>, timeout: Duration) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    if targets.is_empty() {
        return Ok(gathered);
    }
    for (id, answer) in agent.cluster().request_many::<Answered>(targets, question, timeout)? {
        match answer {
            Ok(Answered { body }) => drop(gathered.msg.insert(id, body)),
            Err(failure) => drop(gathered.missing.insert(id, failure.message().to_owned())),
        }
    }
    if gathered.msg.is_empty() { Err(nobody(&gathered.missing)) } else { Ok(gathered) }
}

/// The failure if no server answered, because a client that reads only `msg` would see nothing.
fn nobody(missing: &BTreeMap<String, String>) -> Failure {
    Failure::of_all("No server answered", missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_watchserver_tells_a_frontend_server_by_a_word_or_a_text() {
        let frontend = |info: &str| serde_json::from_str::<ServerInfo>(info).unwrap().is_frontend();
        assert!(frontend(r#"{"frontend":true}"#) && frontend(r#"{"frontend":"true","host":"h","port":"1"}"#));
        assert!(!frontend("{}") && !frontend(r#"{"frontend":false}"#) && !frontend(r#"{"frontend":"false"}"#));
    }

    #[test]
    fn a_failure_names_every_server_that_did_not_answer() {
        let missing = [("a", "timeout"), ("b", "gone")].map(|(id, why)| (id.into(), why.into())).into();
        assert_eq!(nobody(&missing).message(), "No server answered: a: timeout; b: gone");
    }
}
