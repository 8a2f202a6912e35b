//! `list`: the figures of all servers that answer, and the fleet's records of all.
//!
//! Both say how a program has ended, with the last lines that it has written. Those are a part of its output, which is for those who may ask for `logs`:
//! the others are told how it ended, and no lines.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::answer::{Answer, ConsoleOptions};
use crate::ask::{Reasons, ask, reason};
use crate::message::Message;

/// The members of an object, of which few are read.
type Members = BTreeMap<String, Box<RawValue>>;

pub fn list(agent: &Agent) -> Result<Answer> {
    /// The id in the answer is not read, because the host knows who answered.
    #[derive(Deserialize)]
    struct Listed {
        body: Box<RawValue>,
    }
    let timeout = agent.options::<ConsoleOptions>()?.timeout;
    let with_lines = agent.permits("logs");
    let (mut msg, mut missing) = (BTreeMap::new(), Reasons::new());
    for (id, answer) in ask::<Listed>(agent, &["*"], &Message::new("list"), timeout)? {
        match answer {
            // Whoever shows the list looks for members, and one row that has none must not cost the others.
            Ok(Listed { body }) if !body.get().starts_with('{') => {
                drop(missing.insert(id, "What it says of its process is not an object.".to_owned()));
            }
            Ok(Listed { body }) => drop(msg.insert(id, if with_lines { body } else { figures_without_lines(&body) })),
            Err(failure) => drop(missing.insert(id, reason(&failure))),
        }
    }
    let servers = match agent.starter().servers() {
        Err(failure) if failure.code() == "not-available" => None,
        servers => Some(servers?),
    };
    let servers =
        if with_lines { servers } else { servers.map(|records: Box<RawValue>| records_without_lines(&records)) };
    Ok(Answer::List { msg, missing, servers })
}

/// Figures whose `lastExit` has no lines. What is no object, which a server may answer, is left out as a whole.
fn figures_without_lines(figures: &RawValue) -> Box<RawValue> {
    let Ok(mut members) = serde_json::from_str::<Members>(figures.get()) else { return RawValue::NULL.to_owned() };
    if let Some(exit) = members.get_mut("lastExit") {
        *exit = exit_without_lines(exit);
    }
    raw(&members)
}

/// Records of the fleet whose `exits` have no lines.
fn records_without_lines(records: &RawValue) -> Box<RawValue> {
    let Ok(mut records) = serde_json::from_str::<Vec<Members>>(records.get()) else { return RawValue::NULL.to_owned() };
    for exits in records.iter_mut().filter_map(|record| record.get_mut("exits")) {
        let each = serde_json::from_str::<Vec<Box<RawValue>>>(exits.get()).unwrap_or_default();
        *exits = raw(&each.iter().map(|exit| exit_without_lines(exit)).collect::<Vec<_>>());
    }
    raw(&records)
}

fn exit_without_lines(exit: &RawValue) -> Box<RawValue> {
    let Ok(mut members) = serde_json::from_str::<Members>(exit.get()) else { return RawValue::NULL.to_owned() };
    members.remove("lines");
    raw(&members)
}

/// What was read from JSON can always be written.
fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_ask_for_logs_is_shown_how_a_program_ended_and_no_line_of_it() {
        let given = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let figures =
            figures_without_lines(&given(r#"{"pid":7,"lastExit":{"how":"code 1","lines":["secret"],"time":5}}"#));
        assert_eq!(figures.get(), r#"{"lastExit":{"how":"code 1","time":5},"pid":7}"#);
        for other in [r#""secret""#, r#"["secret"]"#, r#"{"lastExit":"secret"}"#, r#"{"lastExit":["secret"]}"#] {
            assert!(!figures_without_lines(&given(other)).get().contains("secret"), "{other}");
        }
        let records =
            r#"[{"id":"a","exits":[{"how":"code 1","time":1,"lines":["secret"]},{"how":"code 2"}]},{"id":"b"}]"#;
        let shown = records_without_lines(&given(records));
        assert_eq!(shown.get(), r#"[{"exits":[{"how":"code 1","time":1},{"how":"code 2"}],"id":"a"},{"id":"b"}]"#);
    }
}
