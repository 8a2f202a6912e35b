//! How a server's program is run: splits commands and replaces placeholders.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::reader::{File, Table, did_you_mean};
use super::tree::{Node, Tree};

/// How a server's program is run. All placeholders are replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments; never empty. No shell is involved.
    pub command: Vec<String>,
    /// The directory in which it runs; by default the host's.
    pub cwd: Option<PathBuf>,
    /// Variables that are added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
}

/// Shows no values of the environment and no arguments, because they may be secrets.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.command.first())
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// Reads `command`, `cwd` and `env` of a server. Placeholders may name `members`. A relative `cwd` begins at `base`.
pub(super) fn read(table: &mut Table<'_>, members: &Map<String, Value>, base: &Path) -> Option<Launch> {
    let file = table.file;
    let command = table.get("command").map(|node| (words(file, node, members), node.at));
    let cwd = table.text("cwd", r#""cwd": "../server""#).map(|(dir, at)| (base.join(dir), at));
    let mut env = BTreeMap::new();
    if let Some(variables) = table.table("env") {
        for member in variables.members() {
            let value = match &member.node.value {
                Tree::Text(text) => fill(file, member.node.at, text, members),
                Tree::Number(number) => number.to_string(),
                Tree::Bool(flag) => flag.to_string(),
                _ => {
                    file.wrong_type(&member.node, &member.key, "a string", r#""env": {"RUST_LOG": "info"}"#);
                    continue;
                }
            };
            if member.key.is_empty() || member.key.contains(['=', '\0']) || value.contains('\0') {
                let what = "this is no environment variable";
                file.fault(member.at, what, "its name has no `=`, and neither name nor value has a zero byte");
            }
            env.insert(member.key.clone(), value);
        }
    }
    let Some((command, at)) = command else {
        if let Some((_, at)) = cwd {
            file.fault(at, "`cwd` without a `command`", "say which program runs there, or take `cwd` away");
        }
        return None;
    };
    if command.first().is_none_or(String::is_empty) {
        file.fault(at, "`command` is empty", r#"for example: "command": "./server --port ${port}""#);
        return None;
    }
    Some(Launch { command, cwd: cwd.map(|(dir, _)| dir), env })
}

pub(super) fn words(file: File<'_>, node: &Node, members: &Map<String, Value>) -> Vec<String> {
    const EXAMPLE: &str = r#""command": "./server --port ${port}" or "command": ["./server", "--port", "${port}"]"#;
    let parts: Vec<(String, usize)> = match &node.value {
        Tree::Text(text) => match shell_words::split(text) {
            Ok(words) => words.into_iter().map(|word| (word, node.at)).collect(),
            Err(_) => {
                file.fault(
                    node.at,
                    "`command` has a quote that is never closed",
                    "close it, or write an array of strings",
                );
                // The fault has been kept. This word keeps the fault `is empty` from being added to it.
                vec![("?".to_owned(), node.at)]
            }
        },
        Tree::List(nodes) => nodes
            .iter()
            .filter_map(|word| match &word.value {
                Tree::Text(text) => Some((text.clone(), word.at)),
                _ => {
                    file.wrong_type(word, "command", "a string or an array of strings", EXAMPLE);
                    None
                }
            })
            .collect(),
        _ => {
            file.wrong_type(node, "command", "a string or an array of strings", EXAMPLE);
            return vec!["?".to_owned()];
        }
    };
    // Placeholders are replaced after the split, so that a value with a blank stays one word.
    parts.into_iter().map(|(word, at)| fill(file, at, &word, members)).collect()
}

/// Replaces `${name}` by the member of that name. `$${` stands for `${` itself.
pub(super) fn fill(file: File<'_>, at: usize, text: &str, members: &Map<String, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(literal) = rest[..start].strip_suffix('$') {
            filled.push_str(literal);
            filled.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        filled.push_str(&rest[..start]);
        let Some(length) = rest[start..].find('}') else {
            file.fault(at, "a placeholder is never closed", "write `${name}`, or `$${` for the text `${` itself");
            return filled;
        };
        let name = &rest[start + 2..start + length];
        match members.get(name) {
            Some(Value::String(value)) => filled.push_str(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => filled.push_str(&value.to_string()),
            Some(_) => {
                file.fault(at, format!("`${{{name}}}` is neither a text nor a number"), "name another member");
            }
            None => {
                let known: Vec<&str> = members.keys().map(String::as_str).collect();
                let hint = format!(
                    "{} Write `$${{{name}}}` for the text itself, which a shell would replace",
                    sentence(&did_you_mean(name, &known))
                );
                file.fault(at, format!("`${{{name}}}` names no member of this server"), hint);
            }
        }
        rest = &rest[start + length + 1..];
    }
    filled.push_str(rest);
    filled
}

/// The names of the placeholders in the programs of a server's `command` and of the `command` of its `health`: what they stand for decides what is run.
pub(super) fn programs(members: &Map<String, Value>) -> Vec<String> {
    let commands = [members.get("command"), members.get("health").and_then(|health| health.get("command"))];
    let programs = commands.into_iter().flatten().filter_map(|command| match command {
        Value::String(text) => shell_words::split(text).ok()?.into_iter().next(),
        Value::Array(words) => words.first()?.as_str().map(str::to_owned),
        _ => None,
    });
    programs.flat_map(|program| names(&program)).collect()
}

/// The names of the placeholders in a text.
fn names(text: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find("${") {
        let is_literal = rest[..start].ends_with('$');
        rest = &rest[start + 2..];
        if let Some(end) = rest.find('}').filter(|_| !is_literal) {
            names.push(rest[..end].to_owned());
        }
    }
    names
}

fn sentence(hint: &str) -> String {
    if hint.ends_with('?') { hint.to_owned() } else { format!("{hint}.") }
}
