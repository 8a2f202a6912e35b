//! `events`, `logs`, `forget`. The first two can follow what happens, over a restart of the master too.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::admin::{CONSOLE, Session, parse};
use super::arguments::{AdminArgs, LOG_LINES};
use super::exit::Exit;
use super::print;
use crate::client::{AdminClient, ClientError};
use crate::journal::Event;
use crate::util::visible::escaped_but;

/// How long the master is asked to hold an answer until there is something new. The deadline of such a request is longer by as much.
const WAIT: Duration = Duration::from_secs(20);
/// The pause between two attempts to reach a master or a monitor that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause between two questions for lines that do not come.
const MOMENT: Duration = Duration::from_millis(200);
/// Lines that are asked for at a time while a log is followed.
const FOLLOWED: u32 = 1000;

/// A connection whose requests the master may hold for [`WAIT`].
async fn patient(admin: &AdminArgs) -> anyhow::Result<AdminClient> {
    let wait = WAIT.as_secs();
    Ok(Session::connect(&AdminArgs { timeout: admin.timeout + wait, ..admin.clone() }).await?.client)
}

pub(super) async fn events(admin: AdminArgs, follow: bool, since: u64) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        events: Vec<&'a RawValue>,
        last: u64,
        newest: u64,
        #[serde(default)]
        missed: u64,
        #[serde(default)]
        durable: bool,
    }
    let mut client = patient(&admin).await?;
    let (mut last, mut up_to_date, mut durable) = (since, false, false);
    // What happens while events are read is for those who follow. In a crash loop there would be no end otherwise.
    let mut end = None;
    loop {
        // Events that have happened already are shown without waiting.
        let wait = if up_to_date { WAIT } else { Duration::ZERO };
        let body = json!({ "since": last, "wait": u64::try_from(wait.as_millis())? });
        let answer = match client.command("events", None, body).await {
            Ok(answer) => answer,
            Err(ClientError::Disconnected { why, .. }) if follow => {
                print::note(format!("pomelo: the connection to the master is lost: {why}; connecting again"));
                client = back(&admin).await?;
                // A master that keeps no events numbers them from 1 when it is started again.
                if !durable {
                    last = 0;
                }
                up_to_date = false;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let page: Page<'_> = parse(&answer)?;
        durable = page.durable;
        // Without `--since` nobody asked for events that are no longer kept.
        if page.missed > 0 && last > 0 {
            print::note(format!(
                "pomelo: {} events before the next one are missing, because the master no longer keeps them",
                page.missed
            ));
        }
        let mut out = String::new();
        for event in &page.events {
            if admin.json {
                writeln!(out, "{event}")?;
            } else {
                show(&mut out, &parse(event)?)?;
            }
        }
        print::all(&out)?;
        let end = *end.get_or_insert(page.newest);
        if !follow && (page.events.is_empty() || page.last >= end) {
            client.close().await;
            return Ok(());
        }
        (last, up_to_date) = (page.last, page.events.is_empty());
    }
}

/// Tries to connect until a master can be reached.
///
/// # Errors
/// Where the master refuses the user.
async fn back(admin: &AdminArgs) -> anyhow::Result<AdminClient> {
    loop {
        match patient(admin).await {
            Err(error) if matches!(error.downcast_ref(), Some(ClientError::Connect { .. })) => {
                tokio::time::sleep(PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// `2026-01-31 12:00:00.000  kind  server  sentence`, and the lines of a program's output below it.
fn show(out: &mut impl Write, event: &Event) -> fmt::Result {
    let by = event.client.as_ref().map_or_else(String::new, |user| format!(" (by {})", printable(user)));
    let about = printable(event.server.as_deref().or(event.module.as_deref()).unwrap_or("-"));
    let kind = printable(&event.kind);
    let count = match (event.count, event.first) {
        (Some(count), Some(first)) => format!(" ({count} times since {})", clock(first)),
        _ => String::new(),
    };
    writeln!(out, "{}  {kind:<9}  {about:<18}  {}{by}{count}", clock(event.time), printable(&event.message))?;
    event.lines.iter().try_for_each(|line| writeln!(out, "    | {}", printable(line)))
}

/// A time in milliseconds since 1970 as the local clock shows it.
fn clock(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// A text of a program or a peer in one line. Tabs stay, because programs arrange their lines by them.
fn printable(text: &str) -> Cow<'_, str> {
    escaped_but(text, &['\t'])
}

/// A line that a program has written.
#[derive(Deserialize, Serialize)]
struct Line {
    server: String,
    n: u64,
    time: u64,
    error: bool,
    /// Whether a host says it, and not the program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    host: bool,
    text: String,
}

/// Lines of some servers.
#[derive(Deserialize)]
struct Page {
    lines: Vec<Line>,
    /// After which line of each server reading goes on.
    since: BTreeMap<String, u64>,
    /// The newest line of each server.
    last: BTreeMap<String, u64>,
    /// Whether there are lines that were not looked at.
    more: bool,
    #[serde(default)]
    failed: BTreeMap<String, String>,
}

impl Page {
    /// How many lines of each server were lost between the last one that was read and the first one here.
    fn missed<'a>(&self, since: &'a BTreeMap<String, u64>) -> BTreeMap<&'a str, u64> {
        let mut missed = BTreeMap::new();
        for (id, since) in since {
            let first = self.lines.iter().find(|line| line.server == *id);
            let lost = first.map_or(0, |line| line.n.saturating_sub(since + 1));
            if lost > 0 {
                missed.insert(id.as_str(), lost);
            }
        }
        missed
    }
}

/// Which lines `logs` shows.
#[derive(Clone, Debug, Default)]
pub(super) struct LogQuery {
    /// Of these servers.
    pub ids: Vec<String>,
    /// Of the servers of this type, also those that do not run.
    pub server_type: Option<String>,
    /// Keep printing new lines.
    pub follow: bool,
    /// At most so many of the newest lines; absent for all since a time, or [`LOG_LINES`].
    pub lines: Option<u32>,
    /// Lines of that time or later, milliseconds since 1970.
    pub from: Option<u64>,
    /// Lines that match.
    pub grep: Option<String>,
    /// Lines as the programs have written them, with their colours and all else that may steer the terminal.
    pub raw: bool,
}

pub(super) async fn logs(admin: AdminArgs, query: LogQuery) -> anyhow::Result<()> {
    let LogQuery { mut ids, server_type, follow, lines, from, grep, raw } = query;
    let mut client = patient(&admin).await?;
    let named = !ids.is_empty();
    // Where all lines since a time are wanted, reading begins at the first one, and otherwise at the newest.
    let from_the_first = from.is_some() && lines.is_none();
    let (mut since, mut up_to_date) = (BTreeMap::new(), false);
    let mut begun = false;
    loop {
        let wait = if up_to_date { u64::try_from(WAIT.as_millis())? } else { 0 };
        let count = if begun || from_the_first { FOLLOWED } else { lines.unwrap_or(LOG_LINES) };
        let after = if begun || !from_the_first { json!(since) } else { json!(0) };
        let mut body =
            json!({ "signal": "logs", "lines": count, "since": after, "wait": wait, "from": from, "grep": grep });
        if named || begun {
            body["ids"] = json!(ids);
        }
        if !named {
            body["type"] = json!(server_type);
        }
        let answer = match client.request(CONSOLE, body).await {
            Ok(answer) => answer,
            Err(ClientError::Disconnected { why, .. }) if follow => {
                print::note(format!("pomelo: the connection to the master is lost: {why}; connecting again"));
                client = back(&admin).await?;
                continue;
            }
            // The server's monitor may be restarting.
            Err(ClientError::Failed(failure)) if follow && begun && is_away(&failure.code) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let page: Page = parse(&answer)?;
        // What does not match is passed over, and not missing.
        if begun && grep.is_none() {
            for (id, missed) in page.missed(&since) {
                print::note(format!(
                    "pomelo: {missed} lines of {id} before the next one are missing, because they are no longer kept"
                ));
            }
        }
        if !begun {
            for (id, why) in &page.failed {
                print::note(format!("pomelo: {id}: {why}"));
            }
            if page.more && !from_the_first {
                print::note("pomelo: the answer is bounded, and there are older lines that are not shown");
            }
        }
        let several = server_type.is_some() || ids.len() > 1;
        let mut out = String::new();
        for line in &page.lines {
            let text = if raw { Cow::Borrowed(line.text.as_str()) } else { printable(&line.text) };
            if admin.json {
                writeln!(out, "{}", serde_json::to_string(line)?)?;
            } else if several {
                writeln!(out, "[{}] {text}", printable(&line.server))?;
            } else {
                writeln!(out, "{text}")?;
            }
        }
        if raw && !admin.json {
            print::raw(&out)?
        } else {
            print::all(&out)?
        }
        let at_end = !page.more || (!begun && !from_the_first);
        if at_end && !follow {
            client.close().await;
            let failed: Vec<&str> = page.failed.keys().map(String::as_str).collect();
            return match failed.is_empty() {
                true => Ok(()),
                false => Err(Exit::failed(format!("nothing was read of {}", failed.join(", ")))),
            };
        }
        up_to_date = at_end && page.lines.is_empty();
        for (id, end) in page.since {
            // Where a server's files are gone, its numbers begin again.
            let end = if page.last.get(&id).is_some_and(|last| *last < end) { 0 } else { end };
            if !ids.contains(&id) {
                ids.push(id.clone());
            }
            since.insert(id, end);
        }
        // A server of which nothing could be read is tried again, from its beginning.
        for id in page.failed.into_keys() {
            since.entry(id).or_insert(0);
        }
        if up_to_date {
            // What the master keeps of servers that are down is not waited for.
            tokio::time::sleep(MOMENT).await;
        }
        begun = true;
    }
}

/// Whether a failure says that the server's monitor cannot be reached at the moment.
fn is_away(code: &str) -> bool {
    use crate::failure::code::{DISCONNECTED, NOT_FOUND, TIMEOUT};
    [DISCONNECTED, NOT_FOUND, TIMEOUT].contains(&code) || code == "unreachable"
}

pub(super) async fn forget(session: &Session, ids: Vec<String>) -> anyhow::Result<()> {
    let answer = session.client.command("forget", None, json!({ "ids": ids })).await?;
    if session.json {
        return Ok(print::json(answer)?);
    }
    let gone: Vec<String> = parse(&answer)?;
    let gone = if gone.is_empty() { "none".to_owned() } else { gone.join(", ") };
    Ok(print::line(format!("removed: {gone}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::kind;

    #[test]
    fn an_event_is_a_line_with_the_programs_last_words_below_it() {
        let event = Event::new(kind::EXIT, "the program ended with code 7").server("chat-1");
        let event = event.exit(Some(7), None, vec!["no\u{1b}[2J such table".into()]);
        let mut text = String::new();
        show(&mut text, &event).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("exit") && lines[0].contains("chat-1") && lines[0].contains("code 7"), "{text}");
        assert_eq!(lines[1], "    | no\\u001b[2J such table", "a program cannot move the operator's cursor");
    }

    #[test]
    fn p_lines_are_followed_without_a_gap_however_many_come_at_once() {
        let line = |n| Line { server: "a".into(), n, time: 0, error: false, host: false, text: String::new() };
        let page = |numbers: std::ops::RangeInclusive<u64>| Page {
            lines: numbers.map(line).collect(),
            since: BTreeMap::new(),
            last: BTreeMap::new(),
            more: false,
            failed: BTreeMap::new(),
        };
        let missed = |page: Page, since| page.missed(&BTreeMap::from([("a".to_owned(), since)])).get("a").copied();
        assert_eq!(missed(page(4..=10), 3), None);
        assert_eq!(missed(page(21..=25), 10), Some(10), "what is no longer kept is said");
    }

    #[test]
    fn a_folded_event_says_how_often_and_since_when() {
        let event = Event::new(kind::EXIT, "ended").server("chat-1");
        let event = Event { time: 5_000, count: Some(7), first: Some(1_000), ..event };
        let mut text = String::new();
        show(&mut text, &event).unwrap();
        assert!(
            text.contains("ended (7 times since 1970-01-01") || text.contains("ended (7 times since 1969-12-31"),
            "{text}"
        );
    }
}
