//! `monitorLog`: the last lines of a server's log. pomelo's module of that id, for its tools.
//!
//! A client names a server and a log. It needs level 1, because a log may hold anything.
//!
//! | member | meaning |
//! |---|---|
//! | `serverId` | the server |
//! | `logfile` | the name of a file in the log directory of its application, or pomelo's short form: `con-log` is `con-log-ID.log` |
//! | `number` | how many lines, a number or a text of digits; absent: 100 |
//!
//! The answer is `{"serverId", "body": {"logfile", "dataArray"}}`. `dataArray` has an entry for each line, with `serverId` and `params`, the line. If the
//! line's message is a JSON object, as in the logs of pomelo's routes, `params` is the text of that object, and the entry has its `time`, `route` (or
//! `service`) and `timeUsed` as well. If there is no such log, the failure names those that there are.
//!
//! The master checks the log's name, because a server of pomelo puts it into a shell command. The monitor's module and its host check it again.
//!
//! LogOptions: `max-lines` (1000), the most that a client is given; `timeout` (2000), how long a server is waited for, in milliseconds.

mod lines;
mod name;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use lines::Entry;

struct MonitorLog;

/// From a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    server_id: Option<String>,
    logfile: Option<String>,
    /// A number or a text of digits, because web pages send what was typed.
    number: Option<Box<RawValue>>,
}

/// From the master to a monitor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    server_id: String,
    logfile: String,
    number: u32,
}

/// From a monitor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    server_id: String,
    body: Body,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    logfile: String,
    data_array: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct LogOptions {
    max_lines: u32,
    /// Milliseconds.
    timeout: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { max_lines: 1000, timeout: 2_000 }
    }
}

const DEFAULT_LINES: u32 = 100;

#[module(id = "monitorLog")]
impl MonitorLog {
    fn client_handler(agent: &Agent, command: Command) -> Result<Box<RawValue>> {
        let options = agent.options::<LogOptions>()?;
        let server_id = command.server_id.unwrap_or_default();
        let logfile = command.logfile.unwrap_or_default();
        if server_id.is_empty() || logfile.is_empty() {
            return Err(bad("`serverId` and `logfile` are needed: the server, and which of its logs."));
        }
        name::check(&logfile)?;
        let number = lines_wanted(command.number)?.min(options.max_lines);
        // A tenth of the time is left for the answer, because this call's own deadline must not come first.
        let timeout = Duration::from_millis(options.timeout).min(agent.time_left() * 9 / 10);
        let target = server_id.clone();
        agent.cluster().request(&target, &Question { server_id, logfile, number }, timeout)
    }

    fn monitor_handler(agent: &Agent, question: Question) -> Result<Answer> {
        name::check(&question.logfile)?;
        let server_id = agent.server_id();
        let logs = agent.process().logs()?;
        let file = name::find(&logs, &question.logfile, &server_id)?;
        let lines = agent.process().log_tail(file, question.number)?;
        let data_array = lines.into_iter().map(|line| Entry::new(line, &server_id)).collect();
        Ok(Answer { body: Body { logfile: question.logfile, data_array }, server_id })
    }
}

fn lines_wanted(number: Option<Box<RawValue>>) -> Result<u32> {
    let number = match number {
        None => Some(DEFAULT_LINES),
        Some(number) => number.get().trim_matches('"').parse().ok(),
    };
    number.filter(|number| *number > 0).ok_or_else(|| bad("`number` is the number of lines, 1 or more."))
}

fn bad(message: &str) -> Failure {
    Failure::new("bad-message", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_monitorlog_takes_the_number_as_a_number_or_a_text() {
        let wanted = |message: &str| {
            let command: Command = serde_json::from_str(message).unwrap();
            lines_wanted(command.number)
        };
        assert_eq!(wanted("{}"), Ok(DEFAULT_LINES));
        assert_eq!(wanted(r#"{"number":20}"#), Ok(20));
        assert_eq!(wanted(r#"{"number":"20"}"#), Ok(20));
        for bad in [r#"{"number":0}"#, r#"{"number":"20; reboot"}"#, r#"{"number":""}"#] {
            assert_eq!(wanted(bad).unwrap_err().code(), "bad-message", "{bad}");
        }
    }
}
