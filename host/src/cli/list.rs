//! `list` and `describe`: the servers of the fleet, with the figures of those that answer.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::admin::{CONSOLE, Session, parse, text};
use super::exit::Exit;
use super::plan;
use super::print;
use super::table::{self, Column};
use crate::fleet::now;

/// The pause between two looks at the servers while they are watched.
const PAUSE: Duration = Duration::from_secs(2);
/// Letters that a table has room for where a text may be long.
const SHORT: usize = 40;

/// Which servers `list` shows, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct ListQuery {
    /// Only those of this type.
    pub server_type: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
    /// Show them again whenever something has changed.
    pub watch: bool,
}

/// What the console says of all servers.
#[derive(Default, Deserialize)]
struct Listed {
    msg: BTreeMap<String, Value>,
    #[serde(default)]
    missing: BTreeMap<String, String>,
    /// The fleet. A master of an earlier version has none.
    #[serde(default)]
    servers: Vec<Map<String, Value>>,
}

/// One server, as far as it is known.
#[derive(Default)]
struct Row<'a> {
    record: Option<&'a Map<String, Value>>,
    figures: Option<&'a Value>,
    missing: Option<&'a String>,
}

impl Row<'_> {
    /// A member of the fleet's record, or of the figures where the fleet does not know the server, as it is with the master.
    fn get(&self, member: &str) -> Option<&Value> {
        self.record.and_then(|record| record.get(member)).or_else(|| self.figures?.get(member))
    }

    fn figure(&self, member: &str) -> Option<&Value> {
        self.figures?.get(member)
    }

    fn state(&self) -> &str {
        self.get("state").and_then(Value::as_str).unwrap_or(if self.missing.is_some() { "-" } else { "running" })
    }

    /// Whether figures ought to be there and are not.
    fn lacks_figures(&self) -> bool {
        self.missing.is_some() && self.record.is_none_or(|_| self.state() == "running")
    }
}

impl Listed {
    fn rows(&self) -> BTreeMap<&str, Row<'_>> {
        let mut rows: BTreeMap<&str, Row<'_>> = BTreeMap::new();
        for record in &self.servers {
            if let Some(id) = record.get("id").and_then(Value::as_str) {
                rows.entry(id).or_default().record = Some(record);
            }
        }
        for (id, figures) in &self.msg {
            rows.entry(id).or_default().figures = Some(figures);
        }
        for (id, why) in &self.missing {
            rows.entry(id).or_default().missing = Some(why);
        }
        rows
    }

    /// The servers that are wanted.
    fn wanted(&self, query: &ListQuery) -> BTreeMap<&str, Row<'_>> {
        let mut rows = self.rows();
        rows.retain(|_, row| {
            let of_type = |wanted: &String| row.get("serverType").and_then(Value::as_str) == Some(wanted);
            query.server_type.as_ref().is_none_or(of_type) && query.state.as_ref().is_none_or(|s| row.state() == s)
        });
        rows
    }
}

pub(super) async fn list(session: &Session, query: ListQuery) -> anyhow::Result<()> {
    let mut before = None;
    loop {
        let answer = session.client.request(CONSOLE, json!({ "signal": "list" })).await?;
        let listed: Listed = parse(&answer)?;
        let rows = listed.wanted(&query);
        let shown = (!session.json).then(|| changing(&rows));
        let on_terminal = io::stdout().is_terminal();
        if session.json {
            let shown = filtered(&answer, &query, &rows)?;
            if before.as_ref() != Some(&shown) {
                print::json(&shown)?;
                before = Some(shown);
            }
        } else if on_terminal || before != shown {
            if query.watch && on_terminal {
                print::clear()?;
            } else if before.is_some() {
                print::line("")?;
            }
            show(&rows)?;
            before = shown;
        }
        if !query.watch {
            if !session.json {
                plan::mention(session).await;
            }
            return figures_are_there(&rows);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The answer, unchanged where all servers are wanted.
fn filtered(answer: &RawValue, query: &ListQuery, rows: &BTreeMap<&str, Row<'_>>) -> anyhow::Result<String> {
    if query.server_type.is_none() && query.state.is_none() {
        return Ok(answer.get().to_owned());
    }
    let mut answer: Value = parse(answer)?;
    for member in ["msg", "missing"] {
        if let Some(Value::Object(servers)) = answer.get_mut(member) {
            servers.retain(|id, _| rows.contains_key(id.as_str()));
        }
    }
    if let Some(Value::Array(servers)) = answer.get_mut("servers") {
        servers.retain(|server| server["id"].as_str().is_some_and(|id| rows.contains_key(id)));
    }
    Ok(answer.to_string())
}

/// What counts as a change while the servers are watched. Memory and time change always.
fn changing(rows: &BTreeMap<&str, Row<'_>>) -> String {
    let members = ["state", "since", "why", "wanted", "job", "restarts", "connections"];
    let row = |(id, row): (&&str, &Row<'_>)| {
        let cells = members.map(|member| text(row.get(member))).join("\t");
        format!("{id}\t{cells}\t{}\n", text(row.figure("pid")))
    };
    rows.iter().map(row).collect()
}

fn show(rows: &BTreeMap<&str, Row<'_>>) -> anyhow::Result<()> {
    // What fits 80 columns; `describe` and `--json` have the rest.
    let cells = |(id, row): (&&str, &Row<'_>)| {
        vec![
            (*id).to_owned(),
            text(row.get("serverType")),
            text(row.figure("pid")),
            text(row.figure("rss")),
            text(row.get("restarts")),
            row.state().to_owned(),
            row.get("since")
                .and_then(Value::as_u64)
                .map_or_else(|| "-".into(), |since| age(now().saturating_sub(since))),
            why(row),
        ]
    };
    let columns = [
        Column::whole("id"),
        Column::optional("type", 5),
        Column::optional("pid", 6),
        Column::optional("rss(M)", 3),
        Column::optional("again", 4),
        Column::whole("state"),
        Column::optional("since", 1),
        "why".into(),
    ];
    Ok(table::print(&columns, rows.iter().map(cells).collect())?)
}

/// Why a server is as it is, or how its program last ended, shortened to fit a column.
fn why(row: &Row<'_>) -> String {
    let said = |value: Option<&Value>| value.and_then(Value::as_str).filter(|said| !said.is_empty()).map(str::to_owned);
    // These beginnings are those of `supervise`.
    let ended = |how: String| {
        let short = ["ended with ", "was ended by "].iter().find_map(|start| how.strip_prefix(start));
        short.unwrap_or(&how).to_owned()
    };
    let last = || said(row.record?.get("exits")?.as_array()?.last()?.get("how")).map(ended);
    let job = || row.get("job").and_then(Value::as_u64).map(|job| format!("job {job}"));
    let figures = || said(row.figures?.pointer("/lastExit/how")).map(ended);
    let missing = || row.missing.filter(|_| row.lacks_figures()).cloned();
    let unwanted = || {
        let by = said(row.record?.get("wantedBy"))?;
        (row.record?.get("wanted")?.as_str()? == "down").then(|| format!("by {by}"))
    };
    let why = said(row.get("why")).or_else(missing).or_else(job).or_else(unwanted).or_else(last).or_else(figures);
    let why = print::shown(&why.unwrap_or_else(|| "-".into()));
    match why.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &why[..end]),
        None => why,
    }
}

/// Figures of servers that run and do not answer are missing, which is a failure. A server that does not run has none.
fn figures_are_there(rows: &BTreeMap<&str, Row<'_>>) -> anyhow::Result<()> {
    let missing: Vec<String> = rows
        .iter()
        .filter(|(_, row)| row.lacks_figures())
        .filter_map(|(id, row)| Some(format!("{id} ({})", row.missing?)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Exit::failed(format!("no figures from {}", missing.join(", "))))
}

/// A time as the local clock shows it.
pub(super) fn clock(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".into(), |time| time.with_timezone(&chrono::Local).format("%m-%d %H:%M:%S").to_string())
}

/// So many milliseconds, in the largest unit of which there is one.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Shows all that is known of one server.
pub(super) async fn describe(session: &Session, id: &str) -> anyhow::Result<()> {
    let answer = session.client.request(CONSOLE, json!({ "signal": "list" })).await?;
    let listed: Listed = parse(&answer)?;
    let rows = listed.rows();
    let Some(row) = rows.get(id) else {
        return Err(Exit::failed(format!("there is no server {id} at {}", session.client.address())));
    };
    // Whoever may not see it, and a server that nobody has configured, have none.
    let run = session.client.command("describe", None, json!({ "id": id })).await.ok();
    let run: Option<Value> = run.as_deref().map(parse).transpose()?;
    if session.json {
        let known = json!({ "server": row.record, "figures": row.figures, "missing": row.missing, "run": run });
        return Ok(print::json(known)?);
    }
    let at = |member: &str| row.get(member).and_then(Value::as_u64).map(clock);
    let plain = |member: &str| row.get(member).map(|value| text(Some(value))).filter(|text| !text.is_empty());
    let figure = |member: &str, unit: &str| row.figure(member).map(|value| format!("{}{unit}", text(Some(value))));
    let since = at("since").map_or_else(String::new, |since| format!(" since {since}"));
    let wanted = plain("wanted").map(|wanted| {
        let by = plain("wantedBy").map_or_else(String::new, |by| format!(" by {by}"));
        format!("{wanted}{by}{}", at("wantedSince").map_or_else(String::new, |since| format!(" since {since}")))
    });
    let ready = plain("readyMs").map(|ready| format!("after {ready} ms"));
    let members = [
        ("id", Some(id.to_owned())),
        ("type", plain("serverType")),
        ("origin", plain("origin")),
        (
            "started by",
            plain("place").map(|place| if place == "ours" { "this master".into() } else { "others".into() }),
        ),
        ("state", Some(format!("{}{since}", row.state()))),
        ("why", plain("why")),
        ("wanted", wanted),
        ("job", plain("job")),
        ("restarts", plain("restarts")),
        ("ready", ready),
        ("connections", plain("connections")),
        ("pid", figure("pid", "")),
        ("memory", figure("rss", " MiB")),
        ("cpu", figure("cpu", " %")),
        ("up", figure("uptime", " min")),
        ("no figures", row.missing.cloned()),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            print::line(format!("{name:<12} {}", value))?;
        }
    }
    let exits = row.record.and_then(|record| record.get("exits")?.as_array()).map_or(&[][..], Vec::as_slice);
    // The newest first.
    for exit in exits.iter().rev() {
        let time = exit["time"].as_u64().map_or_else(|| "-".into(), clock);
        print::line(format!("{:<12} {time}  {}", "ended", text(exit.get("how"))))?;
        for line in exit["lines"].as_array().into_iter().flatten() {
            print::line(format!("    | {}", text(Some(line))))?;
        }
    }
    run.as_ref().map_or(Ok(()), how_it_is_run)
}

/// The answer to the command `describe`.
fn how_it_is_run(run: &Value) -> anyhow::Result<()> {
    let words = |member: &str| {
        let words: Vec<&str> = run[member].as_array()?.iter().filter_map(Value::as_str).collect();
        (!words.is_empty()).then(|| words.join(", "))
    };
    for (name, value) in [
        ("modules", words("modules")),
        ("log", run["log"].as_str().map(str::to_owned)),
        ("differs", words("differs").map(|keys| format!("{keys}: its process was begun before that was changed"))),
    ] {
        if let Some(value) = value {
            print::line(format!("{name:<12} {}", value))?;
        }
    }
    for (key, value) in run["spec"].as_object().into_iter().flatten() {
        print::line(format!("{:<12} {}: {}", "run by", key, text(Some(value))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        serde_json::from_value(json!({
            "msg": {"a": {"pid": 7}, "master": {"serverType": "master", "pid": 1}},
            "missing": {"b": "no answer", "c": "no answer", "old": "no answer"},
            "servers": [
                {"id": "a", "serverType": "chat", "state": "running", "wanted": "up"},
                {"id": "b", "serverType": "chat", "state": "running", "wanted": "up"},
                {"id": "c", "serverType": "gate", "state": "failed", "wanted": "up", "why": "no\u{1b} table"},
                {"id": "d", "serverType": "gate", "state": "stopped", "wanted": "down", "wantedBy": "ann"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn all_servers_are_rows_and_only_those_that_run_lack_figures() {
        let listed = listed();
        let rows = listed.rows();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), ["a", "b", "c", "d", "master", "old"]);
        let said = figures_are_there(&rows).unwrap_err().to_string();
        assert_eq!(said, "no figures from b (no answer), old (no answer)");
        assert_eq!(
            (why(&rows["c"]), why(&rows["d"]), why(&rows["a"])),
            ("no\\u001b table".into(), "by ann".into(), "-".into())
        );
    }

    #[test]
    fn an_age_is_short() {
        let ages = [0, 59_999, 60_000, 3_600_000, 90_000_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "1h", "1d"]);
    }

    #[test]
    fn rows_are_chosen_by_type_and_state() {
        let listed = listed();
        let ids = |server_type: Option<&str>, state: Option<&str>| {
            let (server_type, state) = (server_type.map(str::to_owned), state.map(str::to_owned));
            listed.wanted(&ListQuery { server_type, state, watch: false }).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(ids(Some("gate"), None), ["c", "d"]);
        assert_eq!(ids(None, Some("running")), ["a", "b", "master"]);
        assert_eq!(ids(Some("gate"), Some("failed")), ["c"]);
    }
}
