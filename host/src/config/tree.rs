//! JSON and TOML as one kind of tree in which every key and value knows its place.
//!
//! Texts become trees here, and [`super::reader`] reads settings from the trees. This step is needed because serde reports only the first fault of a
//! file, and serde_json does not keep the places of values. This part knows no setting.

use std::path::{Path, PathBuf};

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// How deep JSON may be nested. What a server says of itself is sent to peers, whose parsers take little more.
const MAX_DEPTH: usize = 100;

/// A file's name and text.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A value and the byte offset at which it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Tree,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Member>),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) node: Node,
}

impl Node {
    /// The kind of value, for messages, which must not repeat the value because it may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Tree::Null => "null",
            Tree::Bool(_) => "a boolean",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a string",
            Tree::List(_) => "an array",
            Tree::Table(_) => "an object",
        }
    }

    /// The value without places. If a key stands twice, the last counts.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(value) => Value::Number(value.clone()),
            Tree::Text(value) => Value::String(value.clone()),
            Tree::List(nodes) => nodes.iter().map(Node::to_json).collect(),
            Tree::Table(members) => Value::Object(to_map(members)),
        }
    }
}

/// Members without places.
pub(super) fn to_map(members: &[Member]) -> Map<String, Value> {
    members.iter().map(|member| (member.key.clone(), member.node.to_json())).collect()
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        // Editors on Windows begin files with a byte order mark.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Source { path: path.to_owned(), text }
    }

    /// Whether this text is not from a file.
    pub(super) fn is_nowhere(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// A fault at a byte offset.
    pub(super) fn fault(&self, at: usize, what: impl Into<String>, hint: impl Into<String>) -> Fault {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Fault {
            file: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// Parses the text as JSON.
    pub(super) fn json(&self) -> Result<Node, Fault> {
        // serde_json decides what is JSON, because the parser that knows places accepts more than JSON. That parser bounds the depth, to 512.
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&self.text) {
            let (line, column) = (error.line(), error.column());
            return Err(Fault { line, column, ..self.not_json(0, without_place(&error.to_string())) });
        }
        let parsed = jsonc_parser::parse_to_ast(&self.text, &CollectOptions::default(), &ParseOptions::default());
        let parsed = parsed.map_err(|error| self.not_json(error.range().start, &error.kind().to_string()))?;
        parsed.value.map_or_else(|| Err(self.not_json(0, "the file is empty")), |value| self.json_node(value, 0))
    }

    fn json_node(&self, value: ast::Value<'_>, depth: usize) -> Result<Node, Fault> {
        let at = value.start();
        if depth > MAX_DEPTH {
            return Err(self.fault(
                at,
                format!("this is nested more than {MAX_DEPTH} deep"),
                "nothing here needs that",
            ));
        }
        let value = match value {
            ast::Value::NullKeyword(_) => Tree::Null,
            ast::Value::BooleanLit(literal) => Tree::Bool(literal.value),
            ast::Value::StringLit(literal) => Tree::Text(literal.value.into_owned()),
            ast::Value::NumberLit(literal) => {
                let number = literal.value.parse();
                let why = |error: serde_json::Error| self.not_json(at, without_place(&error.to_string()));
                Tree::Number(number.map_err(why)?)
            }
            ast::Value::Array(array) => {
                let nodes = array.elements.into_iter().map(|node| self.json_node(node, depth + 1));
                Tree::List(nodes.collect::<Result<_, _>>()?)
            }
            ast::Value::Object(object) => {
                let member = |property: ast::ObjectProp<'_>| {
                    let (at, node) = (property.name.start(), self.json_node(property.value, depth + 1)?);
                    Ok(Member { key: property.name.into_string(), at, node })
                };
                Tree::Table(object.properties.into_iter().map(member).collect::<Result<_, Fault>>()?)
            }
        };
        Ok(Node { at, value })
    }

    fn not_json(&self, at: usize, why: &str) -> Fault {
        let hint = "JSON has no comments and no comma after the last member; names and texts stand in double quotes";
        self.fault(at, format!("this is not JSON: {why}"), hint)
    }

    /// Parses the text as TOML, as far as that is possible. Returns all its faults of grammar.
    pub(super) fn toml(&self) -> (Node, Vec<Fault>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let fault = |error: &toml::de::Error| {
            self.fault(
                error.span().map_or(0, |span| span.start),
                format!("this is not TOML: {}", error.message()),
                "texts stand in double quotes, a section begins with [name] on a line of its own",
            )
        };
        let at = table.span().start;
        (Node { at, value: toml_table(table.get_ref()) }, errors.iter().map(fault).collect())
    }
}

fn toml_table(table: &DeTable<'_>) -> Tree {
    let member = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Member { key: name.to_string(), at: key.span().start, node: toml_node(value) }
    };
    Tree::Table(table.iter().map(member).collect())
}

fn toml_node(value: &Spanned<DeValue<'_>>) -> Node {
    let tree = match value.get_ref() {
        DeValue::String(text) => Tree::Text(text.to_string()),
        // A number that does not fit becomes a text, which is then refused where a number is expected.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Tree::Text(number.to_string()), |number| Tree::Number(number.into())),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| Tree::Text(number.to_string()), Tree::Number),
        DeValue::Boolean(flag) => Tree::Bool(*flag),
        DeValue::Datetime(time) => Tree::Text(time.to_string()),
        DeValue::Array(values) => Tree::List(values.iter().map(toml_node).collect()),
        DeValue::Table(table) => toml_table(table),
    };
    Node { at: value.span().start, value: tree }
}

/// serde_json ends its messages with the place, which a [`Fault`] has already.
fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}
