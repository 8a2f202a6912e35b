//! A monitor's side: asks the application and the process that the monitor stands beside.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::question::{Members, Question, bad, text, unknown};

/// What a monitor answers.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    Figures {
        #[serde(rename = "serverId")]
        server_id: String,
        body: Members,
    },
    Modules {
        msg: Vec<String>,
    },
    Sentence(String),
    /// What the application answered, as it is.
    Plain(Box<RawValue>),
}

/// What the host says of the process.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    pid: u32,
    /// Bytes, as are the two after it.
    rss: u64,
    heap_total: u64,
    heap_used: u64,
    /// Seconds.
    uptime: f64,
}

/// What the application's `get`, `enable` and `disable` take.
#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
}

/// What its `set` takes.
#[derive(Serialize, Deserialize)]
struct Setting {
    key: String,
    value: Box<RawValue>,
}

/// What `cpu` takes.
#[derive(Deserialize)]
struct Profile {
    /// Seconds, a number or a text of digits, because shells send what was typed.
    times: Box<RawValue>,
}

/// The argument of functions that need none.
#[derive(Serialize)]
struct Nothing {}

pub fn handle(agent: &Agent, question: Question<String>) -> Result<Answer> {
    let param = question.param.as_deref();
    let server_id = agent.server_id();
    match question.comd.as_str() {
        "servers" => row(agent, server_id),
        "connections" => statistics(agent, "connections", server_id),
        // An application without `logins` answers both with `connections`, as pomelo does.
        "logins" => statistics(agent, if offers(agent, "logins") { "logins" } else { "connections" }, server_id),
        "modules" => Ok(Answer::Modules { msg: agent.modules() }),
        "status" => status(agent, server_id),
        "config" => {
            let key = [&text(param, "the component")?, "Config"].concat();
            agent.application().call("get", &Key { key: &key }).map(Answer::Plain)
        }
        "proxy" => ask(agent, "proxies"),
        "handler" => ask(agent, "handlers"),
        "components" => ask(agent, "components"),
        "settings" => ask(agent, "settings"),
        "get" => {
            let key = text(param, "the key of a setting")?;
            agent.application().call("get", &Key { key: &key }).map(Answer::Plain)
        }
        "set" => set(agent, param),
        comd @ ("enable" | "disable") => {
            let key = text(param, "the setting's name")?;
            agent.application().call::<serde::de::IgnoredAny>(comd, &Key { key: &key })?;
            Ok(done(&[comd, " ", &key]))
        }
        "run" => {
            let script = text(param, "the script: a component in its text form")?;
            agent.scripts().run_content(script.as_bytes(), &Nothing {}).map(Answer::Plain)
        }
        "cpu" => cpu(agent, param),
        "memory" => memory(agent, &server_id),
        other => Err(unknown(other)),
    }
}

/// A row of `servers`, without host and port, which the master adds.
fn row(agent: &Agent, server_id: String) -> Result<Answer> {
    let Stats { pid, heap_used, uptime, .. } = agent.process().stats()?;
    let body = [
        ("serverId", to_raw_value(&server_id)?),
        ("serverType", to_raw_value(&agent.server_type())?),
        ("pid", to_raw_value(&pid)?),
        ("heapUsed", to_raw_value(&two_decimals(heap_used / 10_000))?),
        // The cast makes 0 of a negative number.
        ("uptime", to_raw_value(&two_decimals((uptime * 100.0 / 60.0) as u64))?),
    ];
    Ok(Answer::Figures { server_id, body: body.map(|(name, figure)| (name.to_owned(), figure)).into() })
}

fn ask(agent: &Agent, name: &str) -> Result<Answer> {
    agent.application().call(name, &Nothing {}).map(Answer::Plain)
}

fn offers(agent: &Agent, name: &str) -> bool {
    agent.application().offers().iter().any(|offered| offered == name)
}

/// How many are connected. The figures have the server's id among them, because pomelo's tools read it there.
fn statistics(agent: &Agent, name: &str, server_id: String) -> Result<Answer> {
    let mut body: Members = agent.application().call(name, &Nothing {})?;
    body.insert("serverId".to_owned(), to_raw_value(&server_id)?);
    Ok(Answer::Figures { server_id, body })
}

/// The process's figures, and the application's `status` if it offers one. If that fails, its failure stands in its place.
fn status(agent: &Agent, server_id: String) -> Result<Answer> {
    let mut body: Members = agent.process().usage()?;
    if offers(agent, "status") {
        let said = match agent.application().call("status", &Nothing {}) {
            Ok(said) => said,
            Err(failure) => to_raw_value(failure.message())?,
        };
        body.insert("application".to_owned(), said);
    }
    Ok(Answer::Figures { server_id, body })
}

fn set(agent: &Agent, param: Option<&RawValue>) -> Result<Answer> {
    let setting = param.and_then(|param| serde_json::from_str::<Setting>(param.get()).ok());
    let setting = setting.filter(|setting| !setting.key.is_empty());
    let setting = setting.ok_or_else(|| bad(&["`param` has `key`, the setting's name, and `value`."]))?;
    agent.application().call::<serde::de::IgnoredAny>("set", &setting)?;
    let value = serde_json::from_str::<String>(setting.value.get());
    Ok(done(&["set ", &setting.key, ":", value.as_deref().unwrap_or(setting.value.get())]))
}

fn done(what: &[&str]) -> Answer {
    Answer::Sentence([what.concat().as_str(), " ok"].concat())
}

fn cpu(agent: &Agent, param: Option<&RawValue>) -> Result<Answer> {
    let profile = param.and_then(|param| serde_json::from_str::<Profile>(param.get()).ok());
    let times = profile.and_then(|profile| profile.times.get().trim_matches('"').parse::<u32>().ok());
    let times = times.filter(|times| *times > 0);
    let times = times.ok_or_else(|| bad(&["`param` has `times`: for how many seconds, 1 or more."]))?;
    let duration = Duration::from_secs(times.into());
    if duration >= agent.time_left() {
        let message = "A call may not take so long: take fewer seconds, or raise `wall_ms` in [module.watchServer.limits] of the \
                       server and of the master.";
        return Err(Failure::new("bad-message", message));
    }
    agent.profiler().cpu(duration).map(Answer::Plain)
}

/// What the application's `memory` answers, because only the program can tell what its heap holds; else a sentence with the figures.
fn memory(agent: &Agent, server_id: &str) -> Result<Answer> {
    if offers(agent, "memory") {
        return ask(agent, "memory");
    }
    let Stats { rss, heap_total, heap_used, .. } = agent.process().stats()?;
    let megabytes = |bytes: u64| two_decimals(bytes / 10_000);
    let figures = [("rss ", rss), (" MB, heapTotal ", heap_total), (" MB, heapUsed ", heap_used)];
    let mut sentence = [server_id, ": "].concat();
    for (name, bytes) in figures {
        sentence.push_str(name);
        sentence.push_str(&megabytes(bytes));
    }
    sentence.push_str(" MB. No snapshot was written: the application does not offer `memory`.");
    Ok(Answer::Sentence(sentence))
}

/// A number of hundredths with two decimals. It is formatted as integers, because the code that formats floating-point numbers is a fifth of a small
/// module.
fn two_decimals(hundredths: u64) -> String {
    let digits = (100 + hundredths % 100).to_string();
    [&(hundredths / 100).to_string(), ".", &digits[1..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_decimals() {
        for (hundredths, expected) in [(0, "0.00"), (7, "0.07"), (120, "1.20"), (1347, "13.47")] {
            assert_eq!(two_decimals(hundredths), expected);
        }
    }

    #[test]
    fn p_watchserver_says_what_was_set_as_pomelo_does() {
        let Answer::Sentence(said) = done(&["set ", "name", ":", "value"]) else { panic!() };
        assert_eq!(said, "set name:value ok");
    }
}
