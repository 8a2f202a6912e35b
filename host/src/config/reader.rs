//! Reads settings from a table: types, bounds, unknown keys. Every fault is kept with its place, and reading goes on with the default.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fault::Faults;
use super::tree::{Member, Node, Source, Tree, to_map};

/// The longest time that any deadline may be, ms: one day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// A file that is being read, and the list of its faults.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) source: &'a Source,
    pub(super) faults: &'a Faults,
}

impl<'a> File<'a> {
    /// Keeps a fault at a byte offset.
    pub(super) fn fault(self, at: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(self.source.fault(at, what, hint));
    }

    /// Keeps a warning at a byte offset.
    pub(super) fn warn(self, at: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.faults.warn(self.source.fault(at, what, hint));
    }

    /// Remembers, under a name, the place of a setting that can only be judged when all files have been read.
    pub(super) fn mark(self, name: impl Into<String>, at: usize) {
        self.faults.mark(name.into(), self.source.fault(at, "", ""));
    }

    /// Keeps the fault that a value has the wrong type.
    pub(super) fn wrong_type(self, node: &Node, name: &str, expected: &str, example: &str) {
        self.fault(
            node.at,
            format!("`{name}` must be {expected}, but is {}", node.kind()),
            format!("for example: {example}"),
        );
    }

    /// The table that a node is. If it is none, keeps a fault.
    pub(super) fn table(self, node: &'a Node, name: impl Into<String>) -> Option<Table<'a>> {
        let name = name.into();
        let Tree::Table(members) = &node.value else {
            let example = if self.is_toml() { "{ key = \"value\" }" } else { "{\"key\": \"value\"}" };
            self.wrong_type(node, &name, "a table of keys and values", example);
            return None;
        };
        for (i, member) in members.iter().enumerate() {
            if members[..i].iter().any(|earlier| earlier.key == member.key) {
                self.fault(member.at, format!("`{}` is given twice", member.key), "keep one of the two");
            }
        }
        Some(Table { file: self, at: node.at, name, members, known: Vec::new() })
    }

    fn is_toml(self) -> bool {
        self.source.path.extension().is_some_and(|extension| extension == "toml")
    }
}

/// A table that settings are taken from.
pub(super) struct Table<'a> {
    pub(super) file: File<'a>,
    pub(super) at: usize,
    /// What the table is called in messages.
    pub(super) name: String,
    members: &'a [Member],
    /// Keys that were asked for. All others are unknown.
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// A member's value. `null` counts as absent.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.members
            .iter()
            .rfind(|member| member.key == key)
            .map(|member| &member.node)
            .filter(|node| !matches!(node.value, Tree::Null))
    }

    /// An integer within bounds. A fault names both.
    pub(super) fn number(&mut self, key: &'static str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let Some(node) = self.get(key) else { return default };
        let number = match &node.value {
            Tree::Number(number) => number.as_u64(),
            _ => None,
        };
        match number {
            Some(number) if bounds.contains(&number) => return number,
            None if !matches!(node.value, Tree::Number(_)) => {
                self.file.wrong_type(node, key, "a whole number", &format!("{key} = {default}"));
            }
            _ => self.file.fault(
                node.at,
                format!("`{key}` must be a whole number from {} to {}", bounds.start(), bounds.end()),
                format!("the default is {default}"),
            ),
        }
        default
    }

    /// A time in milliseconds within bounds.
    pub(super) fn millis(&mut self, key: &'static str, default: Duration, bounds: RangeInclusive<u64>) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(key, default, bounds))
    }

    /// A count or size within bounds, times `unit`.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: usize,
        unit: usize,
        bounds: RangeInclusive<u64>,
    ) -> usize {
        let units = self.number(key, (default / unit) as u64, bounds);
        usize::try_from(units).unwrap_or(usize::MAX).saturating_mul(unit)
    }

    /// A time in seconds, whole or not, at most a year.
    pub(super) fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        const YEAR: f64 = 365.0 * 86_400.0;
        let node = self.get(key)?;
        let Tree::Number(number) = &node.value else {
            self.file.wrong_type(node, key, "a number of seconds", &format!("{key} = 5"));
            return None;
        };
        let seconds = number.as_f64().filter(|seconds| (0.0..=YEAR).contains(seconds));
        if seconds.is_none() {
            self.file.fault(
                node.at,
                format!("`{key}` must be from 0 to {YEAR} seconds"),
                format!("for example: {key} = 5"),
            );
        }
        seconds.map(Duration::from_secs_f64)
    }

    /// A number from 0 to 1.
    pub(super) fn share(&mut self, key: &'static str, default: f64) -> f64 {
        let Some(node) = self.get(key) else { return default };
        let share = match &node.value {
            Tree::Number(number) => number.as_f64().filter(|share| (0.0..=1.0).contains(share)),
            _ => None,
        };
        if share.is_none() {
            let (what, hint) =
                (format!("`{key}` must be a number from 0 to 1"), format!("for example: {key} = {default}"));
            self.file.fault(node.at, what, hint);
        }
        share.unwrap_or(default)
    }

    /// A boolean.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.get(key).map(|node| (node, &node.value)) {
            None => default,
            Some((_, Tree::Bool(flag))) => *flag,
            Some((node, _)) => {
                self.file.wrong_type(node, key, "true or false", &format!("{key} = {default}"));
                default
            }
        }
    }

    /// A text and its place.
    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<(&'a str, usize)> {
        let node = self.get(key)?;
        let Tree::Text(text) = &node.value else {
            self.file.wrong_type(node, key, "a string", example);
            return None;
        };
        Some((text, node.at))
    }

    /// A text that must be there and not be empty.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<(&'a str, usize)> {
        let present = self.members.iter().any(|member| member.key == key);
        match self.text(key, example) {
            Some(("", at)) => {
                self.file.fault(at, format!("`{key}` is empty"), format!("for example: {example}"));
                None
            }
            None if !present => {
                let what = format!("{} has no `{key}`", self.name);
                self.file.fault(self.at, what, format!("for example: {example}"));
                None
            }
            found => found,
        }
    }

    /// A text that need not be there, but must not be empty.
    pub(super) fn optional(&mut self, key: &'static str, example: &str) -> Option<(&'a str, usize)> {
        let (text, at) = self.text(key, example)?;
        if text.is_empty() {
            self.file.fault(at, format!("`{key}` is empty"), format!("for example: {example}"));
            return None;
        }
        Some((text, at))
    }

    /// A list of texts with their places.
    pub(super) fn texts(&mut self, key: &'static str, example: &str) -> Vec<(&'a str, usize)> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Tree::List(nodes) = &node.value else {
            self.file.wrong_type(node, key, "an array of strings", example);
            return Vec::new();
        };
        let text = |node: &'a Node| match &node.value {
            Tree::Text(text) => Some((text.as_str(), node.at)),
            _ => {
                self.file.wrong_type(node, key, "an array of strings", example);
                None
            }
        };
        nodes.iter().filter_map(text).collect()
    }

    /// A list of texts.
    pub(super) fn words(&mut self, key: &'static str, example: &str) -> Vec<String> {
        self.texts(key, example).into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let node = self.get(key)?;
        self.file.table(node, key)
    }

    /// All members, known or not.
    pub(super) fn members(&self) -> &'a [Member] {
        self.members
    }

    /// All members as JSON.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        to_map(self.members)
    }

    /// Ends reading. Keys that were not asked for are faults.
    pub(super) fn close(self) {
        for member in self.members.iter().filter(|member| !self.known.contains(&member.key.as_str())) {
            let what = format!("unknown key `{}` in {}", member.key, self.name);
            self.file.fault(member.at, what, did_you_mean(&member.key, &self.known));
        }
    }
}

/// A hint that names the nearest of the known words, or all of them.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)));
    match nearest {
        Some(nearest) if strsim::jaro_winkler(word, nearest) > 0.8 => format!("did you mean `{nearest}`?"),
        // The known words may repeat: a server type is in the list once for each of its servers.
        _ => {
            let once = known.iter().enumerate().filter(|(i, word)| !known[..*i].contains(word));
            format!("known here: {}", once.map(|(_, word)| *word).collect::<Vec<_>>().join(", "))
        }
    }
}
