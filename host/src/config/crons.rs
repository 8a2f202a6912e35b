//! `crons.json`: what the servers' programs do at set times, as pomelo has it: server type → list of crons. A cron with a `serverId` is for
//! that server alone.

use serde_json::{Map, Value};

use super::reader::{Table, did_you_mean};
use super::servers::Server;
use super::tree::Tree;
use crate::cron::Schedule;

const EXAMPLE: &str = r#"{"chat": [{"id": 1, "time": "0 30 10 * * *", "action": "chatCron.send"}]}"#;

/// A cron of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    /// For servers of that type.
    pub server_type: String,
    /// For that server alone.
    pub server_id: Option<String>,
    /// All members as in the file: `id`, `time`, `action`, and whatever else its action is to be given.
    pub members: Map<String, Value>,
    /// When it is due; absent if its time has a fault.
    pub schedule: Option<Schedule>,
}

impl Cron {
    /// Whether it is for this server.
    pub fn is_for(&self, server: &Server) -> bool {
        self.server_type == server.server_type && self.server_id.as_ref().is_none_or(|id| *id == server.id)
    }

    /// Its id, as text.
    pub fn id(&self) -> Option<String> {
        match self.members.get("id")? {
            Value::String(id) => Some(id.clone()),
            id => Some(id.to_string()),
        }
    }
}

/// Reads the crons.
pub(super) fn crons(table: &Table<'_>, servers: &[Server]) -> Vec<Cron> {
    let file = table.file;
    let mut crons: Vec<Cron> = Vec::new();
    for group in table.members() {
        let types: Vec<&str> = servers.iter().map(|server| server.server_type.as_str()).collect();
        if !types.contains(&group.key.as_str()) {
            let what = format!("there is no server of type `{}` in servers.json", group.key);
            // pomelo passes over them, and applications have crons for types that an environment does not run.
            file.warn(group.at, format!("{what}: nothing of this is run"), did_you_mean(&group.key, &types));
        }
        let Tree::List(nodes) = &group.node.value else {
            file.wrong_type(&group.node, &group.key, "an array of crons", EXAMPLE);
            continue;
        };
        for node in nodes {
            let Some(mut table) = file.table(node, format!("a cron of type `{}`", group.key)) else { continue };
            let members = table.to_json();
            match table.get("id") {
                None => file.fault(node.at, format!("{} has no `id`", table.name), format!("for example: {EXAMPLE}")),
                Some(id) => match &id.value {
                    Tree::Number(_) => {}
                    Tree::Text(text) if !text.is_empty() && text.len() <= crate::wire::MAX_ID => {}
                    _ => file.wrong_type(id, "id", "a number or a text", "\"id\": 1"),
                },
            }
            let mut schedule = None;
            if let Some((time, at)) = table.required("time", EXAMPLE) {
                match Schedule::parse(time) {
                    Ok(read) => {
                        if let Some(field) = read.foreign() {
                            let what = format!(
                                "pomelo's own servers cannot read `{field}` in a time, and end when they start"
                            );
                            file.warn(
                                at,
                                what,
                                "`0/5` is every fifth; months are numbers from 0, days of the week from 0 (Sunday)",
                            );
                        }
                        schedule = Some(read);
                    }
                    Err(bad) => file.fault(at, bad.to_string(), "for example every minute: \"0 * * * * *\""),
                }
            }
            table.required("action", EXAMPLE);
            let server_id = table.text("serverId", "\"serverId\": \"chat-server-1\"");
            if let Some((id, at)) = server_id
                && !servers.iter().any(|server| server.id == id && server.server_type == group.key)
            {
                let known: Vec<&str> = servers
                    .iter()
                    .filter(|server| server.server_type == group.key)
                    .map(|server| server.id.as_str())
                    .collect();
                let what = format!("there is no server `{id}` of type `{}`: this cron is never fired", group.key);
                file.warn(at, what, did_you_mean(id, &known));
            }
            let server_id = server_id.map(|(id, _)| id.to_owned());
            let cron = Cron { server_type: group.key.clone(), server_id, members, schedule };
            if let Some(id) = cron.id() {
                let meets = |other: &Cron| {
                    let apart =
                        cron.server_id.is_some() && other.server_id.is_some() && cron.server_id != other.server_id;
                    other.server_type == cron.server_type && !apart
                };
                if crons.iter().any(|other| other.id().as_ref() == Some(&id) && meets(other)) {
                    file.fault(node.at, format!("the cron `{id}` is given twice"), "ids are unique on every server");
                }
            }
            crons.push(cron);
        }
    }
    crons
}
