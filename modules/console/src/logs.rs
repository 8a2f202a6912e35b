//! `logs`: reads what servers' programs write. The monitor of a server is asked first. Where there is none, because the server is down, the master reads
//! what is kept on its machine.

use std::collections::{BTreeMap, BTreeSet};

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::arguments::bad;
use crate::ask::{Reasons, ask, is_unknown, reason, single};
use crate::message::{Message, Wanted};

/// How many lines are read if the client does not say.
const LINES: u32 = 100;
/// Bytes of an answer that the servers share, fewer than an answer may have.
const BYTES: usize = 512 << 10;
/// Servers that are asked for at once.
const SERVERS: usize = 200;

/// What is read of a server's `info`.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "serverType")]
    server_type: String,
}

/// What is read of the fleet's record of a server.
#[derive(Deserialize)]
struct Known {
    id: String,
    #[serde(rename = "serverType")]
    server_type: String,
}

/// After which line reading goes on.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Since {
    /// After this line of each server.
    All(u64),
    /// After a line of its own for each server.
    Each(BTreeMap<String, u64>),
}

impl Default for Since {
    fn default() -> Self {
        Since::Each(BTreeMap::new())
    }
}

impl Since {
    fn of(&self, id: &str) -> Option<u64> {
        match self {
            Since::All(n) => Some(*n),
            Since::Each(each) => each.get(id).copied(),
        }
    }
}

/// A line of one of several servers.
#[derive(Serialize, Deserialize)]
pub struct Line {
    #[serde(default)]
    server: String,
    n: u64,
    time: u64,
    error: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    host: bool,
    text: String,
}

/// What a host answers of one server.
#[derive(Deserialize)]
struct Read {
    lines: Vec<Line>,
    last: u64,
    end: u64,
    #[serde(rename = "endTime")]
    end_time: u64,
    more: bool,
}

/// Lines of several servers, by their time.
#[derive(Default, Serialize)]
pub struct Merged {
    lines: Vec<Line>,
    /// After which line of each server reading goes on.
    since: BTreeMap<String, u64>,
    /// The number of the last line of each server.
    last: BTreeMap<String, u64>,
    /// Whether there are lines that were not looked at.
    more: bool,
    /// Why nothing could be read of some servers.
    failed: Reasons,
}

/// On the master: lines of one server, as its monitor has them in memory. If there is no monitor, those that are kept.
pub fn of_one(agent: &Agent, id: &str, wanted: Wanted, since: Since) -> Result<Box<RawValue>> {
    let since = since.of(id);
    let kept = wanted.from.is_some() || wanted.grep.is_some();
    let wanted = Wanted { since, kept, wait: wanted.wait.map(|wait| wait.min(longest(agent))), ..wanted };
    let message = Message { logs: Some(wanted), ..Message::new("logs") };
    let table = agent.cluster().servers::<Info>()?;
    if is_pomelos(&table, id) {
        return agent.kept_output().read(id, &message.logs);
    }
    let mut answers = ask::<Box<RawValue>>(agent, &[id], &message, all_time(agent))?;
    match answers.pop() {
        Some((_, Err(failure))) if is_away(&failure) => agent.kept_output().read(id, &message.logs),
        Some((_, answer)) => answer,
        None => agent.kept_output().read(id, &message.logs),
    }
}

/// On the master: lines of several servers, or of all of a type.
pub fn of_several(
    agent: &Agent,
    ids: Vec<String>,
    server_type: Option<String>,
    wanted: &Wanted,
    since: Since,
) -> Result<Merged> {
    let (ids, failed) = single(ids);
    let mut ids: BTreeSet<String> = ids.into_iter().collect();
    let table = agent.cluster().servers::<Info>()?;
    if let Some(server_type) = &server_type {
        let of_type = table.servers.iter().filter(|(_, info)| info.server_type == *server_type);
        ids.extend(of_type.map(|(id, _)| id.clone()));
        // Those that are down are in the fleet alone.
        let fleet = match agent.starter().servers::<Vec<Known>>() {
            Err(failure) if failure.code() == "not-available" => Vec::new(),
            servers => servers?,
        };
        ids.extend(fleet.into_iter().filter(|known| known.server_type == *server_type).map(|known| known.id));
    }
    if ids.is_empty() && failed.is_empty() {
        return Err(match server_type {
            Some(name) => Failure::new("not-found", ["There is no server of type ", &name, "."].concat()),
            None => bad("`logs` needs the `id` of a server, `ids`, or a `type`."),
        });
    }
    if ids.len() > SERVERS {
        return Err(bad("`logs` reads at most 200 servers at once."));
    }
    // One that has nothing to say holds up the lines of the others.
    let wait = wanted.wait.map(|wait| if ids.len() == 1 { wait.min(longest(agent)) } else { wait.min(1000) });
    let bytes = Some(BYTES / ids.len().max(1));
    let wanted = Wanted { kept: true, wait, bytes, ..wanted.clone() };
    let lines = wanted.lines.unwrap_or(LINES);
    let mut merged = Merged { failed, ..Merged::default() };
    let (mut cut, mut last_failure) = (None, None);
    // Servers whose reading begins after the same line are asked at once.
    let mut groups: BTreeMap<Option<u64>, Vec<String>> = BTreeMap::new();
    for id in ids {
        groups.entry(since.of(&id)).or_default().push(id);
    }
    let newest = groups.contains_key(&None);
    let several = groups.len() > 1;
    for (since, ids) in groups {
        let wait = if several { None } else { wanted.wait };
        let message = Message { logs: Some(Wanted { since, wait, ..wanted.clone() }), ..Message::new("logs") };
        let (pomelos, ours): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| is_pomelos(&table, id));
        let mut answers = ask::<Read>(agent, &ours, &message, all_time(agent))?;
        answers.extend(pomelos.into_iter().map(|id| (id, Err(Failure::new("not-found", "")))));
        for (id, answer) in answers {
            let answer = match answer {
                Err(failure) if is_away(&failure) => {
                    // Those that do not run have no line that could be waited for.
                    agent.kept_output().read::<Read>(&id, &Wanted { since, wait: None, ..wanted.clone() })
                }
                answer => answer,
            };
            match answer {
                Ok(read) => merged.add(id, since, read, &mut cut),
                Err(failure) => {
                    merged.failed.insert(id, reason(&failure));
                    last_failure = Some(failure);
                }
            }
        }
    }
    merged.in_order(cut, newest.then_some(lines));
    if merged.since.is_empty() {
        return Err(match last_failure {
            Some(failure) if merged.failed.len() == 1 => Failure::new(failure.code(), reason(&failure)),
            _ => Failure::of_all("Nothing can be read".to_owned(), &merged.failed),
        });
    }
    Ok(merged)
}

impl Merged {
    /// Adds what was read of a server. `cut` is the time up to which all servers were read.
    fn add(&mut self, id: String, since: Option<u64>, read: Read, cut: &mut Option<u64>) {
        if read.more && since.is_some() {
            *cut = Some(cut.map_or(read.end_time, |cut| cut.min(read.end_time)));
        }
        self.more |= read.more;
        self.lines.extend(read.lines.into_iter().map(|line| Line { server: id.clone(), ..line }));
        self.since.insert(id.clone(), read.end);
        self.last.insert(id, read.last);
    }

    /// Sorts the lines by time. Lines after the time `cut` are left for the next answer. With `newest`, only so many of the newest are kept.
    fn in_order(&mut self, cut: Option<u64>, newest: Option<u32>) {
        if let Some(cut) = cut {
            for line in self.lines.iter().filter(|line| line.time > cut) {
                if let Some(since) = self.since.get_mut(&line.server) {
                    *since = (*since).min(line.n - 1);
                }
            }
            self.lines.retain(|line| line.time <= cut);
        }
        self.lines.sort_by_key(|line| line.time);
        if let Some(newest) = newest {
            let older = self.lines.len().saturating_sub(newest as usize);
            self.lines.drain(..older);
        }
    }
}

/// Whether a server is one of pomelo 2.x, which has no monitor of ours. The master keeps its output.
fn is_pomelos(table: &pomelo_sdk::Servers<Info>, id: &str) -> bool {
    table.servers.contains_key(id) && !table.capabilities.contains_key(id)
}

/// How long a monitor may wait for a line, milliseconds, so that the answer comes back within this call.
fn longest(agent: &Agent) -> u64 {
    u64::try_from((agent.time_left() * 6 / 10).as_millis()).unwrap_or(u64::MAX)
}

fn all_time(agent: &Agent) -> u64 {
    u64::try_from(agent.time_left().as_millis()).unwrap_or(u64::MAX)
}

/// Whether there is no monitor of ours that could have answered.
fn is_away(failure: &Failure) -> bool {
    is_unknown(failure) || ["unreachable", "disconnected"].contains(&failure.code())
}

/// On a monitor: reads what its program has written.
pub fn read(agent: &Agent, wanted: Option<Wanted>) -> Result<Box<RawValue>> {
    let wanted = wanted.unwrap_or_default();
    if wanted.kept {
        return agent.kept_output().read(&agent.server_id(), &wanted);
    }
    let wait = Duration::from_millis(wanted.wait.unwrap_or(0));
    agent.process().output(wanted.since, wanted.lines.unwrap_or(LINES), wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(times: &[u64], more: bool) -> Read {
        let line = |(n, time): (usize, &u64)| Line {
            server: String::new(),
            n: n as u64 + 1,
            time: *time,
            error: false,
            host: false,
            text: String::new(),
        };
        let lines: Vec<Line> = times.iter().enumerate().map(line).collect();
        let (end, end_time) = lines.last().map_or((0, 0), |line| (line.n, line.time));
        Read { lines, last: 100, end, end_time, more }
    }

    #[test]
    fn lines_of_several_servers_are_one_sequence_over_all_answers() {
        let (mut merged, mut cut) = (Merged::default(), None);
        merged.add("a".into(), Some(0), read(&[1, 5, 9], false), &mut cut);
        merged.add("b".into(), Some(0), read(&[2, 6], true), &mut cut);
        merged.in_order(cut, None);
        let seen: Vec<_> = merged.lines.iter().map(|line| (&*line.server, line.time)).collect();
        assert_eq!(seen, [("a", 1), ("b", 2), ("a", 5), ("b", 6)]);
        assert_eq!((merged.since["a"], merged.since["b"], merged.more), (2, 2, true), "the last line of a comes later");
    }
}
