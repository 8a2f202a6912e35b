//! Completion: the words that may stand at the cursor.

use std::sync::Arc;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use super::commands::{self, Candidates};
use super::connection::{Connection, Names};
use super::line::Line;
use crate::util::visible;

/// The word before the cursor, and what may stand there.
#[derive(Debug, PartialEq)]
enum WordPosition {
    /// One of these words, or names of these kinds.
    One { start: usize, typed: String, of: Vec<Candidates> },
    /// A file on this machine.
    File,
}

/// Finds the word before the cursor. Asks nobody: the line alone decides.
fn position(before: &str) -> WordPosition {
    let line = Line::so_far(before);
    let mut words: Vec<&str> = line.words().iter().map(|word| word.text.as_str()).collect();
    // After a blank a new word begins.
    let (start, typed) = match line.words().last() {
        Some(word) if word.at.end == before.len() => {
            words.pop();
            (word.at.start, word.text.clone())
        }
        _ => (before.len(), String::new()),
    };
    let of = match words.split_first() {
        None => vec![Candidates::Commands],
        Some((command, arguments)) => {
            commands::find(command).map_or_else(Vec::new, |command| (command.complete)(arguments))
        }
    };
    if of.contains(&Candidates::Files) { WordPosition::File } else { WordPosition::One { start, typed, of } }
}

/// The words that begin with what is typed, sorted, each once.
fn candidates(typed: &str, of: &[Candidates], names: impl FnOnce() -> Names) -> Vec<String> {
    let needs_names = of.iter().any(|kind| matches!(kind, Candidates::Servers | Candidates::Modules));
    let names = if needs_names { names() } else { Names::default() };
    let mut words: Vec<String> = Vec::new();
    for kind in of {
        match kind {
            Candidates::Commands => words.extend(commands::ALL.iter().map(|command| command.name.to_owned())),
            Candidates::Words(fixed) => words.extend(fixed.iter().map(|&word| word.to_owned())),
            Candidates::Servers => words.extend(names.servers.iter().cloned()),
            Candidates::Modules => words.extend(names.modules.iter().cloned()),
            Candidates::Files => {}
        }
    }
    // The editor prints them as they are.
    words.retain(|word| word.starts_with(typed) && !word.contains(visible::steers));
    words.sort_unstable();
    words.dedup();
    words
}

/// The completion that the line editor calls.
pub(super) struct Completion {
    connection: Arc<Connection>,
    runtime: Handle,
    files: FilenameCompleter,
    /// Whether a command is being typed, not the answer to a question.
    pub on: bool,
}

impl Completion {
    pub fn new(connection: Arc<Connection>, runtime: Handle) -> Completion {
        Completion { connection, runtime, files: FilenameCompleter::new(), on: true }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if !self.on {
            return Ok((cursor, Vec::new()));
        }
        match position(&line[..cursor]) {
            WordPosition::File => self.files.complete_path(line, cursor),
            WordPosition::One { start, typed, of } => {
                let words = candidates(&typed, &of, || self.connection.names(&self.runtime));
                // `key=` goes on with its value.
                let after = |word: &str| if word.ends_with('=') { word.to_owned() } else { format!("{word} ") };
                let pair = |word: String| Pair { replacement: after(&word), display: word };
                Ok((start, words.into_iter().map(pair).collect()))
            }
        }
    }
}

impl Helper for Completion {}
impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Tab offers after `before`, in a cluster of two servers and two modules.
    fn offered(before: &str) -> Vec<String> {
        let names = || Names {
            servers: ["chat-1", "gate-1"].map(String::from).into(),
            modules: ["__console__", "timeReport"].map(String::from).into(),
        };
        match position(before) {
            WordPosition::File => vec!["(files)".to_owned()],
            WordPosition::One { typed, of, .. } => candidates(&typed, &of, names),
        }
    }

    #[test]
    fn a5_commands_servers_modules_and_sub_words_are_completed() {
        let cases: [(&str, &[&str]); 26] = [
            ("addC", &["addCron"]),
            ("st", &["stop"]),
            ("  us", &["use"]),
            ("use ", &["all", "chat-1", "gate-1"]),
            ("use g", &["gate-1"]),
            ("use 'ga", &["gate-1"]),
            ("use chat-1 ", &[]),
            ("stop chat-1 g", &["gate-1"]),
            ("show se", &["servers", "settings"]),
            ("show config m", &["master", "monitor"]),
            ("enable ", &["app", "module"]),
            ("enable module t", &["timeReport"]),
            ("disable app ", &[]),
            ("help addC", &["addCron"]),
            ("dump cpu ", &["(files)"]),
            ("exec ", &["(files)"]),
            ("add server", &["serverType="]),
            ("events --", &["--since"]),
            ("logs ", &["-f", "-n", "chat-1", "gate-1"]),
            ("describe ga", &["gate-1"]),
            ("describe gate-1 ", &[]),
            ("drain ", &["all", "chat-1", "gate-1", "type"]),
            ("und", &["undrain"]),
            ("undrain chat-1 ", &["chat-1", "gate-1"]),
            ("jobs 7 --c", &["--cancel"]),
            ("nonsense ", &[]),
        ];
        for (before, expected) in cases {
            assert_eq!(offered(before), expected, "{before:?}");
        }
        assert_eq!(offered("").len(), commands::ALL.len());
    }

    #[test]
    fn what_is_replaced_begins_where_the_word_does() {
        let start = |before| match position(before) {
            WordPosition::One { start, .. } => start,
            WordPosition::File => panic!("no file is meant by {before:?}"),
        };
        assert_eq!([start("us"), start("use "), start("use ch"), start("use 'ch")], [0, 4, 4, 4]);
    }
}
