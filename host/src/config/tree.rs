//! JSON and TOML as one kind of tree in which every key and value knows its place.
//!
//! Neither serde_json nor toml can report more than the first fault of a file by way of serde, and serde_json forgets where values stood.
//! Hence this step between: texts become trees here, and [`super::reader`] reads settings from trees. This part knows no setting.

use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

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
    /// The kind of value, for messages: values themselves may be secrets and are not repeated.
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

    /// The value without places. Of keys that stand twice, the last counts.
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

    /// Whether this is no file's text.
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
        // The first pass finds every syntax error and bounds the depth; the passes below cannot fail after it.
        let root = serde_json::from_str::<serde::de::IgnoredAny>(&self.text)
            .and_then(|_| serde_json::from_str::<&RawValue>(&self.text))
            .and_then(|raw| self.json_node(raw));
        root.map_err(|error| Fault {
            file: self.path.clone(),
            line: error.line(),
            column: error.column(),
            what: format!("this is not JSON: {}", without_place(&error.to_string())),
            hint: "JSON has no comments and no comma after the last member; names and texts stand in double quotes"
                .into(),
        })
    }

    fn json_node(&self, raw: &RawValue) -> Result<Node, serde_json::Error> {
        let text = raw.get();
        let value = match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text)?;
                let member = |(key, value): (&RawValue, &RawValue)| {
                    Ok(Member {
                        key: serde_json::from_str(key.get())?,
                        at: self.offset(key),
                        node: self.json_node(value)?,
                    })
                };
                Tree::Table(members.into_iter().map(member).collect::<Result<_, serde_json::Error>>()?)
            }
            Some(b'[') => {
                let nodes: Vec<&RawValue> = serde_json::from_str(text)?;
                Tree::List(nodes.into_iter().map(|node| self.json_node(node)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Tree::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Tree::Bool(serde_json::from_str(text)?),
            Some(b'n') | None => Tree::Null,
            Some(_) => Tree::Number(serde_json::from_str(text)?),
        };
        Ok(Node { at: self.offset(raw), value })
    }

    /// Where a part that borrows from this text begins.
    fn offset(&self, part: &RawValue) -> usize {
        part.get().as_ptr().addr() - self.text.as_ptr().addr()
    }

    /// Parses the text as TOML, as far as that is possible: the faults are all that its grammar was offended by.
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
        // What does not fit becomes a text, and is then refused where a number is expected.
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

/// The members of a JSON object in their order, repeated keys included.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
