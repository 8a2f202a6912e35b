//! What several servers answered.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Question;

/// What came of asking several servers.
#[derive(Serialize)]
pub struct Gathered<T> {
    pub msg: BTreeMap<String, T>,
    /// Who did not answer, and why.
    pub missing: BTreeMap<String, String>,
}

/// What the master knows of a server.
#[derive(Deserialize)]
pub struct Place {
    #[serde(default)]
    pub host: Option<Box<RawValue>>,
    #[serde(default)]
    pub port: Option<Box<RawValue>>,
    #[serde(default)]
    frontend: Option<Box<RawValue>>,
}

impl Place {
    /// Whether players connect to it. Command lines have no truth but as a text.
    pub fn is_frontend(&self) -> bool {
        self.frontend.as_ref().is_some_and(|frontend| matches!(frontend.get(), "true" | "\"true\""))
    }
}

/// The body of an answer. The id beside it is not read: the host knows who answered.
#[derive(Deserialize)]
struct Answered<T> {
    body: T,
}

/// A row of `servers`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    #[serde(default)]
    server_id: String,
    server_type: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<Box<RawValue>>,
    pid: Box<RawValue>,
    heap_used: Box<RawValue>,
    uptime: Box<RawValue>,
}

/// The rows of all servers.
pub fn servers(agent: &Agent, question: &Question<&str>, timeout: Duration) -> Result<Gathered<Row>> {
    let places = agent.cluster().servers::<Place>()?.servers;
    let mut gathered = gather::<Row>(agent, &["*"], question, timeout)?;
    for (id, row) in &mut gathered.msg {
        row.server_id.clone_from(id);
        if let Some(place) = places.get(id) {
            row.host = place.host.clone().or(row.host.take());
            row.port = place.port.clone().or(row.port.take());
        }
    }
    Ok(gathered)
}

/// What the frontend servers say, all or one.
pub fn frontends(agent: &Agent, question: &Question<&str>, timeout: Duration) -> Result<Gathered<Box<RawValue>>> {
    let places = agent.cluster().servers::<Place>()?.servers;
    let context = question.context.unwrap_or_default();
    if context == "all" {
        let ids: Vec<_> = places.iter().filter(|(_, place)| place.is_frontend()).map(|(id, _)| id).collect();
        return gather(agent, &ids, question, timeout);
    }
    match places.get(context) {
        Some(place) if place.is_frontend() => {
            let Answered { body } = agent.cluster().request(context, question, timeout)?;
            Ok(Gathered { msg: [(context.to_owned(), body)].into(), missing: BTreeMap::new() })
        }
        Some(_) => {
            Err(Failure::new("not-frontend", [context, " is no frontend server: nobody connects to it."].concat()))
        }
        None => Err(Failure::new("not-found", ["There is no server ", context, "."].concat())),
    }
}

fn gather<T: serde::de::DeserializeOwned>(
    agent: &Agent,
    targets: &[impl AsRef<str>],
    question: &Question<&str>,
    timeout: Duration,
) -> Result<Gathered<T>> {
    let mut gathered = Gathered { msg: BTreeMap::new(), missing: BTreeMap::new() };
    if targets.is_empty() {
        return Ok(gathered);
    }
    for (id, answer) in agent.cluster().request_many::<Answered<T>>(targets, question, timeout)? {
        match answer {
            Ok(Answered { body }) => drop(gathered.msg.insert(id, body)),
            Err(failure) => drop(gathered.missing.insert(id, failure.message().to_owned())),
        }
    }
    if gathered.msg.is_empty() { Err(nobody(&gathered.missing)) } else { Ok(gathered) }
}

/// Clients that only look at what was answered would see nothing at all.
fn nobody(missing: &BTreeMap<String, String>) -> Failure {
    let mut message = "No server answered".to_owned();
    for (index, (id, reason)) in missing.iter().enumerate() {
        message.push_str(if index == 0 { ": " } else { "; " });
        message.push_str(id);
        message.push_str(": ");
        message.push_str(reason);
    }
    Failure::new("failed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_watchserver_tells_a_frontend_server_by_a_word_or_a_text() {
        let frontend = |info: &str| serde_json::from_str::<Place>(info).unwrap().is_frontend();
        assert!(frontend(r#"{"frontend":true}"#) && frontend(r#"{"frontend":"true","host":"h","port":"1"}"#));
        assert!(!frontend("{}") && !frontend(r#"{"frontend":false}"#) && !frontend(r#"{"frontend":"false"}"#));
    }

    #[test]
    fn p_watchserver_reads_a_row_of_pomelos() {
        let told = r#"{"serverId":"gate-server-1","body":{"serverId":"gate-server-1","serverType":"gate","host":"127.0.0.1","pid":22728,"heapUsed":"14.19","uptime":"0.38"}}"#;
        let Answered { body } = serde_json::from_str::<Answered<Row>>(told).unwrap();
        let written = serde_json::to_string(&body).unwrap();
        assert!(told.contains(&written), "{written}");
    }

    #[test]
    fn a_failure_names_every_server_that_did_not_answer() {
        let missing = [("a", "timeout"), ("b", "gone")].map(|(id, why)| (id.into(), why.into())).into();
        assert_eq!(nobody(&missing).message(), "No server answered: a: timeout; b: gone");
    }
}
