//! `addCron` and `removeCron`: change the crons of servers.

use pomelo_sdk::prelude::*;

use crate::answer::{Answer, ConsoleOptions};
use crate::arguments::{Arguments, Pairs, bad, pairs, require};
use crate::ask::command;
use crate::message::Message;

/// The keys that say which servers a cron is for. A cron has one of them.
const TARGETS: [&str; 2] = ["serverId", "serverType"];

pub fn add(agent: &Agent, args: Arguments) -> Result<Answer> {
    let cron = check(args, &["id", "time", "action"])?;
    pass_on(agent, "addCron", cron, "told of the cron")
}

pub fn remove(agent: &Agent, args: Arguments) -> Result<Answer> {
    let cron = check(args, &["id"])?;
    pass_on(agent, "removeCron", cron, "rid of the cron")
}

/// Checks that a cron has what it needs and nothing else. The monitors check its time, and whether the application has its action.
fn check(args: Arguments, keys: &[&str]) -> Result<Pairs> {
    let cron = pairs(args.one()?)?;
    require(&cron, keys)?;
    let targets = TARGETS.iter().filter(|key| cron.contains_key(**key)).count();
    if targets != 1 {
        return Err(bad("A cron is for one server or one type of servers: serverId= or serverType=."));
    }
    match cron.keys().find(|key| !keys.contains(&key.as_str()) && !TARGETS.contains(&key.as_str())) {
        None => Ok(cron),
        Some(key) => Err(bad(&["`", key, "` is nothing that a cron has here."].concat())),
    }
}

fn pass_on(agent: &Agent, signal: &str, cron: Pairs, what: &str) -> Result<Answer> {
    let target = match (cron.get("serverId"), cron.get("serverType")) {
        (Some(id), _) if id == "*" || id.starts_with("type:") => return Err(bad("serverId= names one server.")),
        (Some(id), _) => id.clone(),
        (None, server_type) => ["type:", server_type.map_or("", String::as_str)].concat(),
    };
    let message = Message { cron: Some(cron), ..Message::new(signal) };
    let timeout = agent.options::<ConsoleOptions>()?.timeout;
    Answer::of_outcomes(what, command(agent, &[target], &message, timeout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], keys: &[&str]) -> Result<Pairs> {
        check(Arguments::One(words.iter().map(|&word| word.to_owned()).collect()), keys)
    }

    #[test]
    fn c6_a_cron_is_checked_before_anybody_is_told() {
        let all = ["id", "time", "action"];
        let cron = parse(&["id=8", "time=0 30 10 * * *", "action=chatCron.send", "serverId=chat-1"], &all).unwrap();
        assert_eq!(cron["time"], "0 30 10 * * *");
        for (words, said) in [
            (&["id=8", "serverId=chat-1"][..], "Missing: time, action."),
            (&["id=8", "time=x", "action=a"], "serverId= or serverType="),
            (&["id=8", "time=x", "action=a", "serverId=a", "serverType=b"], "serverId= or serverType="),
            (&["id=8", "time=x", "action=a", "serverId=a", "main=b"], "`main` is nothing"),
        ] {
            let failure = parse(words, &all).unwrap_err();
            assert!(failure.message().contains(said), "{failure}");
        }
        assert!(parse(&["id=8", "serverType=chat"], &["id"]).is_ok());
    }
}
