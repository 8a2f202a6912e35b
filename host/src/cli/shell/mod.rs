//! `pomelo shell`: commands from a terminal or a pipe, for one server or all.
//!
//! | file | what |
//! |---|---|
//! | `line` | words, quotes, comments |
//! | `context` | which server the commands are for |
//! | `commands/` | the commands, a family a file, and the table of them |
//! | `complete` | what Tab offers |
//! | `misuse` | why a line is refused before anything is done |
//! | `input` | the terminal with its history, or the pipe |
//! | `connection` | the connection to the master, made again when it was lost |
//! | `output` | answers for people |
//!
//! The commands are those of pomelo-cli. A command that is also a subcommand of the program runs the same function (`admin`, `watch`).

mod commands;
mod complete;
mod connection;
mod context;
mod input;
mod line;
mod misuse;
mod output;

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use self::commands::Arguments;
use self::connection::Connection;
use self::context::Context;
use self::input::{Input, Read};
use self::line::Line;
use self::misuse::Misuse;
use super::admin::Session;
use super::arguments::AdminArgs;
use super::exit::{self, Exit};
use super::print;

/// What the commands act on.
struct Shell {
    connection: Arc<Connection>,
    context: Context,
    input: Input,
    /// Whether to ask before a command that stops, kills, restarts, drains, applies, adds or blacklists.
    asks: bool,
    /// Print answers as JSON.
    json: bool,
    /// The command that runs is meant to go on until Ctrl-C ends it.
    follows: bool,
    /// `quit` was given.
    over: bool,
}

/// Runs the shell until `quit`, Ctrl-D or the pipe's end. `yes` answers its questions.
///
/// # Errors
/// Where there is no master at the beginning; and from a pipe, the first command that failed, when all have been run.
pub(super) async fn run(admin: AdminArgs, yes: bool) -> anyhow::Result<()> {
    let json = admin.json;
    let connection = Arc::new(Connection::new(admin));
    let user = connection.session().await?.user.clone();
    let input = Input::open(&connection)?;
    let mut shell = Shell { connection, context: Context::All, input, asks: !yes, json, follows: false, over: false };
    let outcome = match &shell.input {
        Input::Terminal(_) => shell.converse(&user).await,
        Input::Pipe(_) => shell.obey().await,
    };
    shell.connection.close().await;
    outcome
}

impl Shell {
    /// Runs commands from a terminal. A failure is printed and does not end the shell.
    async fn converse(&mut self, user: &str) -> anyhow::Result<()> {
        print::line("`help` lists the commands, Tab completes, Ctrl-C abandons a command, Ctrl-D ends.")?;
        // In place before the first command runs: a Ctrl-C that comes between two of them must not end the shell.
        let mut interrupted = signal(SignalKind::interrupt()).context("Ctrl-C cannot be waited for")?;
        while !self.over {
            // A Ctrl-C that came after the last command ended must not abandon the next.
            while interrupted.recv().now_or_never().flatten().is_some() {}
            let prompt = format!("{user}@pomelo : {}> ", self.context);
            let line = match self.input.line(prompt).await? {
                Read::Line(line) => line,
                Read::Abandoned => continue,
                Read::End => break,
            };
            let done = tokio::select! {
                done = self.execute(&line) => done,
                _ = interrupted.recv() => {
                    if !self.follows {
                        print::line("abandoned; the master may still carry out what it was asked")?;
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                exit::tell("", &error);
            }
        }
        Ok(())
    }

    /// Runs commands from a pipe, all of them. The first failure decides the exit code.
    async fn obey(&mut self) -> anyhow::Result<()> {
        let (mut number, mut failed) = (0, None);
        while !self.over {
            number += 1;
            let Read::Line(line) = self.input.line(String::new()).await? else { break };
            if let Err(error) = self.execute(&line).await {
                exit::tell(&format!("pomelo: line {number}: "), &error);
                failed.get_or_insert((exit::code(&error), number));
            }
        }
        match failed {
            None => Ok(()),
            Some((code, line)) => {
                Err(Exit { code, message: format!("some commands failed, the first in line {line}") }.into())
            }
        }
    }

    /// Runs one line.
    async fn execute(&mut self, typed: &str) -> anyhow::Result<()> {
        let line = Line::parse(typed).map_err(|open| Exit::usage(open.to_string()))?;
        let Some(word) = line.command() else { return Ok(()) };
        let Some(command) = commands::find(word) else { return Err(unknown(word)) };
        self.follows = false;
        let done = (command.run)(self, Arguments::new(&line)).await;
        // A misuse is answered with the forms of the command.
        done.map_err(|error| match error.downcast_ref::<Misuse>() {
            Some(misuse) => Exit::usage(misuse.explained(command.usage)),
            None => error,
        })
    }

    /// The master, connected to again where it was lost.
    async fn master(&self) -> anyhow::Result<Arc<Session>> {
        self.connection.session().await
    }

    /// Asks whether to go on, on a terminal and without `--yes`. A no is not a failure.
    async fn confirm(&self, what: &str) -> anyhow::Result<bool> {
        if !self.asks {
            return Ok(true);
        }
        self.input.confirm(&format!("warning: do you really want to {what}?")).await
    }
}

fn unknown(word: &str) -> anyhow::Error {
    let near = commands::ALL.iter().map(|command| (strsim::damerau_levenshtein(word, command.name), command.name));
    let hint = match near.min() {
        Some((distance, name)) if distance <= 2 => format!("did you mean `{name}`?"),
        _ => "`help` lists the commands".to_owned(),
    };
    Exit::usage(format!("there is no command `{}`: {hint}", word))
}
