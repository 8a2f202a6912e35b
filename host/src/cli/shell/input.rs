//! Where commands come from: a terminal with a line editor, or a pipe.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};
use tokio::runtime::Handle;

use super::super::exit::Exit;
use super::super::print;
use super::complete::Completion;
use super::connection::Connection;
use crate::util::private;

/// Lines of history that are kept.
const HISTORY: usize = 1000;
/// The longest line that a pipe may bring, bytes.
const MAX_LINE: usize = 64 * 1024;

/// What was read.
pub(super) enum Read {
    Line(String),
    /// Ctrl-C: the line is dropped.
    Abandoned,
    End,
}

pub(super) enum Input {
    Terminal(Terminal),
    Pipe(BufReader<Stdin>),
}

impl Input {
    /// Standard input, as a terminal or a pipe.
    pub fn open(connection: &Arc<Connection>) -> anyhow::Result<Input> {
        if std::io::stdin().is_terminal() {
            Ok(Input::Terminal(Terminal::open(connection)?))
        } else {
            Ok(Input::Pipe(BufReader::new(tokio::io::stdin())))
        }
    }

    /// The next line. A pipe is shown no prompt.
    pub async fn line(&mut self, prompt: String) -> anyhow::Result<Read> {
        match self {
            Input::Terminal(terminal) => {
                let read = terminal.read(prompt, true).await?;
                if let Read::Line(line) = &read {
                    terminal.remember(line);
                }
                Ok(read)
            }
            Input::Pipe(pipe) => {
                let mut line = Vec::new();
                pipe.take(MAX_LINE as u64).read_until(b'\n', &mut line).await.context("reading commands")?;
                match line.last() {
                    None => Ok(Read::End),
                    Some(last) if *last != b'\n' && line.len() >= MAX_LINE => {
                        Err(Exit::usage(format!("a line is longer than {MAX_LINE} bytes")))
                    }
                    Some(_) => {
                        let line = String::from_utf8(line).map_err(|_| Exit::usage("a line is not UTF-8"))?;
                        Ok(Read::Line(line.trim_end_matches(['\n', '\r']).to_owned()))
                    }
                }
            }
        }
    }

    /// Asks whether to go on. From a pipe the answer is always yes, because nobody can be asked.
    pub async fn confirm(&self, question: &str) -> anyhow::Result<bool> {
        match self {
            Input::Pipe(_) => Ok(true),
            Input::Terminal(terminal) => {
                let read = terminal.read(format!("{question} [yes/no] "), false).await?;
                Ok(matches!(read, Read::Line(line) if ["yes", "y"].contains(&line.trim())))
            }
        }
    }
}

type LineEditor = Editor<Completion, FileHistory>;

pub(super) struct Terminal {
    /// Locked by the thread that reads. An abandoned question leaves that thread behind until a key is hit.
    editor: Arc<Mutex<LineEditor>>,
    history: Option<PathBuf>,
}

impl Terminal {
    fn open(connection: &Arc<Connection>) -> anyhow::Result<Terminal> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .context("the line editor cannot be set up")?
            .history_ignore_space(true)
            .build();
        let mut editor = LineEditor::with_history(config.clone(), FileHistory::with_config(&config))
            .context("the terminal cannot be used")?;
        editor.set_helper(Some(Completion::new(connection.clone(), Handle::current())));
        let history = history_file();
        if let Some(file) = &history {
            match editor.load_history(file) {
                Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => print::note(format!("the history in {} cannot be read: {error}", file.display())),
                Ok(()) => {}
            }
        }
        Ok(Terminal { editor: Arc::new(Mutex::new(editor)), history })
    }

    async fn read(&self, prompt: String, command: bool) -> anyhow::Result<Read> {
        let editor = self.editor.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut editor = editor.lock();
            if let Some(completion) = editor.helper_mut() {
                completion.on = command;
            }
            editor.readline(&prompt)
        });
        match read.await.context("the line editor has failed")? {
            Ok(line) => Ok(Read::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Read::Abandoned),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(error) => Err(error).context("reading from the terminal"),
        }
    }

    /// Appends a command to the history file at once, because other shells may be open and this one may be killed. A failure is said once.
    fn remember(&mut self, line: &str) {
        let mut editor = self.editor.lock();
        if line.trim().is_empty() || !editor.add_history_entry(line).is_ok_and(|added| added) {
            return;
        }
        let Some(file) = &self.history else { return };
        if let Err(error) = editor.append_history(file) {
            print::note(format!("the history cannot be written to {}: {error}", file.display()));
            self.history = None;
        }
    }
}

/// The history file: `POMELO_HISTORY`, where empty means none; otherwise in the user's state directory.
fn history_file() -> Option<PathBuf> {
    match std::env::var_os("POMELO_HISTORY") {
        Some(file) if file.is_empty() => None,
        Some(file) => Some(file.into()),
        None => {
            let directories = directories::ProjectDirs::from("", "", "pomelo")?;
            let directory = directories.state_dir().unwrap_or(directories.data_local_dir());
            private::directory(directory).ok()?;
            Some(directory.join("history"))
        }
    }
}
