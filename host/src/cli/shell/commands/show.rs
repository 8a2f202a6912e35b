//! `show`: what the module `watchServer` tells of all servers, or of one.

use chrono::{DateTime, Local};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::super::exit::Exit;
use super::super::super::print::{self, Unprinted};
use super::super::super::table::{self, Column};
use super::super::misuse::Misuse;
use super::super::{Shell, output};
use super::{Arguments, Candidates, Command};

pub(super) const SHOW: Command = Command {
    name: "show",
    summary: "show servers, connections, settings and more",
    usage: "show servers|connections|modules\n\
            show logins|status|proxy|handler|components|settings\n\
            show config <component>|master",
    help: "The topics of the second line, and `show config <component>`, are about the\n\
           server chosen with `use`.\n\
           \n  show servers\n  show connections\n  show config connector",
    complete: |before| match before {
        [] => vec![Candidates::Words(TOPICS)],
        ["config"] => vec![Candidates::Words(CONFIGURED)],
        _ => vec![],
    },
    run: |shell, arguments| Box::pin(show(shell, arguments)),
};

const TOPICS: &[&str] =
    &["components", "config", "connections", "handler", "logins", "modules", "proxy", "servers", "settings", "status"];

/// Topics that need a chosen server.
const OF_ONE: &[&str] = &["components", "handler", "logins", "proxy", "settings", "status"];

/// The words after `show config`: components of pomelo's applications, and the master.
const CONFIGURED: &[&str] = &[
    "channel",
    "connection",
    "connector",
    "globalChannel",
    "localSession",
    "master",
    "monitor",
    "protobuf",
    "proxy",
    "remote",
    "scheduler",
    "server",
    "session",
];

/// The word after `show config` that needs no chosen server.
const MASTER: &str = "master";

async fn show(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let (topic, param) = match *arguments.words() {
        ["config", of] => ("config", of),
        ["config", ..] => return Err(Misuse::words("the configuration of which component?")),
        [topic] if TOPICS.contains(&topic) => (topic, ""),
        [topic] => return Err(Misuse::words(format!("there is nothing called `{}`", topic))),
        _ => return Err(Misuse::words("one topic")),
    };
    if OF_ONE.contains(&topic) || (topic == "config" && param != MASTER) {
        shell.context.server(&format!("show {topic}"))?;
    }
    let answer = shell.watch_server(topic, param).await?;
    if shell.json {
        print::json(&answer)?;
    } else {
        print_answer(topic, &answer)?;
    }
    complete(&answer)
}

/// Prints an answer as its topic is shown. An answer of another form, which a server may send, is printed as any value.
fn print_answer(topic: &str, answer: &RawValue) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_str(answer.get())?;
    match (topic, answer.get("msg")) {
        ("servers", Some(Value::Object(servers))) => output::by_id(
            &with_states(servers, answer.get("servers")),
            &[
                ("serverType", Column::optional("type", 3)),
                ("host", Column::whole("host")),
                ("port", Column::whole("port")),
                ("pid", Column::optional("pid", 4)),
                ("heapUsed", Column::optional("heap(M)", 2)),
                ("uptime", Column::optional("up(m)", 1)),
                ("state", Column::whole("state")),
            ],
        )?,
        ("connections", Some(Value::Object(servers))) => {
            output::by_id(servers, &[("totalConnCount", "connections".into()), ("loginedCount", "logged in".into())])?;
        }
        ("logins", Some(Value::Object(servers))) => servers.iter().try_for_each(|(id, server)| logins(id, server))?,
        ("status", Some(Value::Object(status))) => output::value(status.get("body").unwrap_or(&Value::Null))?,
        (_, Some(found)) => output::value(found)?,
        (_, None) => output::value(&answer)?,
    }
    Ok(())
}

/// The rows of the servers that answered, with their states, and rows of those that do not run. `fleet` is a list of all; a master of an earlier
/// version has none. What answers and is not in it, as the master, runs.
fn with_states(answered: &Map<String, Value>, fleet: Option<&Value>) -> Map<String, Value> {
    let mut rows = answered.clone();
    for row in rows.values_mut().filter_map(Value::as_object_mut) {
        row.insert("state".into(), "running".into());
    }
    for server in fleet.and_then(Value::as_array).into_iter().flatten() {
        let Some(id) = server.get("id").and_then(Value::as_str) else { continue };
        let Some(row) = rows.entry(id).or_insert_with(|| Map::new().into()).as_object_mut() else { continue };
        for member in ["serverType", "state"] {
            row.extend(server.get(member).map(|value| (member.to_owned(), value.clone())));
        }
    }
    rows
}

fn logins(id: &str, server: &Value) -> Result<(), Unprinted> {
    let count = |member| server.get(member).map_or("-".into(), output::cell);
    let (connections, users) = (count("totalConnCount"), count("loginedCount"));
    print::line(format!("{}: {connections} connections, {users} logged in", id))?;
    match server.get("loginedList") {
        Some(Value::Array(logins)) if !logins.is_empty() => {
            let cell = |login: &Value, member| login.get(member).map_or("-".into(), output::cell);
            let row = |login: &Value| vec![time(login.get("loginTime")), cell(login, "uid"), cell(login, "address")];
            table::print(&["since", "uid", "address"], logins.iter().map(row).collect())
        }
        _ => print::line("nobody is logged in"),
    }
}

/// Milliseconds since 1970 as local time; anything else unchanged.
fn time(value: Option<&Value>) -> String {
    let moment = value.and_then(Value::as_i64).and_then(DateTime::from_timestamp_millis);
    match moment {
        Some(moment) => moment.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        None => value.map_or("-".into(), output::cell),
    }
}

/// Fails where servers are missing from an answer.
fn complete(answer: &RawValue) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Missing {
        #[serde(default)]
        missing: Map<String, Value>,
    }
    let missing = serde_json::from_str(answer.get()).map_or_else(|_| Map::new(), |Missing { missing }| missing);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<_> = missing.iter().map(|(id, why)| format!("{id} ({})", output::cell(why))).collect();
    Err(Exit::failed(format!("no answer from {}", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_are_missing_are_a_failure_that_names_them() {
        let answer = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
        assert!(complete(&answer(r#"{"msg":{}}"#)).is_ok() && complete(&answer("[1]")).is_ok());
        let error = complete(&answer(r#"{"msg":{},"missing":{"a":"no answer"}}"#)).unwrap_err();
        assert_eq!(error.to_string(), "no answer from a (no answer)");
    }

    #[test]
    fn servers_that_do_not_run_have_a_row_with_their_state() {
        let answered = serde_json::json!({"chat-1": {"serverType": "chat", "pid": 7}, "master": {"pid": 1}});
        let fleet = serde_json::json!([
            {"id": "chat-1", "serverType": "chat", "state": "draining", "since": 1, "why": ""},
            {"id": "chat-2", "serverType": "chat", "state": "failed", "since": 1, "why": "ended with code 1"},
        ]);
        let rows = with_states(answered.as_object().unwrap(), Some(&fleet));
        let states: Vec<_> = rows.iter().map(|(id, row)| (id.as_str(), row["state"].as_str().unwrap())).collect();
        assert_eq!(states, [("chat-1", "draining"), ("chat-2", "failed"), ("master", "running")]);
        assert_eq!((&rows["chat-1"]["pid"], &rows["chat-2"]["serverType"]), (&7.into(), &"chat".into()));
        assert_eq!(with_states(answered.as_object().unwrap(), None).len(), 2);
    }

    #[test]
    fn topics_of_one_server_are_topics() {
        assert!(OF_ONE.iter().all(|topic| TOPICS.contains(topic)) && CONFIGURED.contains(&MASTER));
    }
}
