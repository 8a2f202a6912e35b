//! The commands and their table. A command is a value: its help, the completion of its words, and its function.

mod app;
mod console;
mod dump;
mod fleet;
mod general;
mod modules;
mod scripts;
mod servers;
mod settings;
mod show;
mod watch;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Shell;
use super::line::Line;

/// A command of the shell.
pub(super) struct Command {
    pub name: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// One form a line, without examples.
    pub usage: &'static str,
    /// Details and examples.
    pub help: &'static str,
    /// What Tab offers after the arguments that stand before the cursor.
    pub complete: fn(&[&str]) -> Vec<Candidates>,
    pub run: for<'a> fn(&'a mut Shell, Arguments<'a>) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// All commands, in the order of their names.
pub(super) const ALL: &[&Command] = &[
    &console::ADD,
    &console::ADD_CRON,
    &fleet::APPLY,
    &console::BLACKLIST,
    &fleet::DESCRIBE,
    &app::DISABLE,
    &servers::DRAIN,
    &dump::DUMP,
    &app::ENABLE,
    &watch::EVENTS,
    &scripts::EXEC,
    &settings::GET,
    &general::HELP,
    &fleet::JOBS,
    &servers::KILL,
    &servers::LIST,
    &watch::LOGS,
    &modules::MODULES,
    &fleet::PLAN,
    &general::QUIT,
    &console::REMOVE_CRON,
    &modules::REQUEST,
    &servers::RESTART,
    &scripts::RUN,
    &settings::SET,
    &show::SHOW,
    &servers::STOP,
    &servers::UNDRAIN,
    &general::USE,
];

/// Finds a command; `?` means `help`, and `exit` means `quit`.
pub(super) fn find(word: &str) -> Option<&'static Command> {
    let name = match word {
        "?" => "help",
        "exit" => "quit",
        other => other,
    };
    ALL.iter().copied().find(|command| command.name == name)
}

/// Words that Tab offers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Candidates {
    Words(&'static [&'static str]),
    Commands,
    Servers,
    Modules,
    Files,
}

/// The words after the command's name.
pub(super) struct Arguments<'a> {
    line: &'a Line<'a>,
    words: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    pub fn new(line: &'a Line<'a>) -> Arguments<'a> {
        Arguments { line, words: line.arguments() }
    }

    pub fn words(&self) -> &[&'a str] {
        &self.words
    }

    pub fn owned(&self) -> Vec<String> {
        self.words.iter().map(|&word| word.to_owned()).collect()
    }

    /// The line after the first `words` arguments, as it was typed; without the quotes where it is one quoted word.
    pub fn rest(&self, words: usize) -> &'a str {
        let typed = self.line.rest(words + 1);
        match self.words[words.min(self.words.len())..] {
            [word] if typed.starts_with(['\'', '"']) => word,
            _ => typed,
        }
    }
}

/// The module that asks servers' applications.
const WATCH_SERVER: &str = "watchServer";

impl Shell {
    /// Asks `watchServer` about the chosen server, or all.
    async fn watch_server(&self, comd: &str, param: impl Into<Value>) -> anyhow::Result<Box<RawValue>> {
        self.watch_server_for(comd, param, Duration::ZERO).await
    }

    /// Asks `watchServer` something that takes `longer` than other answers may.
    async fn watch_server_for(
        &self,
        comd: &str,
        param: impl Into<Value>,
        longer: Duration,
    ) -> anyhow::Result<Box<RawValue>> {
        let body = json!({ "comd": comd, "param": param.into(), "context": self.context.to_string() });
        let master = self.master().await?;
        Ok(master.client.request_within(WATCH_SERVER, body, master.time + longer).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a5_every_command_of_pomelo_cli_is_there_with_help() {
        let names = [
            "use",
            "show",
            "exec",
            "get",
            "set",
            "add",
            "stop",
            "kill",
            "enable",
            "disable",
            "addCron",
            "removeCron",
            "blacklist",
            "run",
            "dump",
            "help",
            "quit",
        ];
        let others = ["?", "exit", "list", "restart", "modules", "request", "events", "logs"];
        for name in names.into_iter().chain(others).chain(["drain", "undrain", "jobs", "describe", "plan", "apply"]) {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(ALL.is_sorted_by_key(|command| command.name.to_lowercase()));
        for command in ALL {
            assert!(command.usage.lines().all(|form| form.split(' ').next() == Some(command.name)), "{}", command.name);
            let forms = command.usage.lines().map(|form| format!("  {form}"));
            let shown = forms.chain(command.help.lines().map(str::to_owned));
            let widest = shown.map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{} does not fit 80 columns", command.name);
        }
    }

    #[test]
    fn the_rest_is_typed_text_or_one_quoted_word() {
        let rest = |typed: &str, words| {
            let line = Line::parse(typed).unwrap();
            Arguments::new(&line).rest(words).to_owned()
        };
        assert_eq!(rest(r#"run app.get("x").size"#, 0), r#"app.get("x").size"#);
        assert_eq!(rest("run 'app.get(\"x\")'", 0), r#"app.get("x")"#);
        assert_eq!(rest(r#"request m {"a": "b"}"#, 1), r#"{"a": "b"}"#);
        assert_eq!(rest(r#"request m "text""#, 1), "text");
        assert_eq!((rest("run", 0), rest("request m", 1)), (String::new(), String::new()));
    }
}
