//! What a client's message is about: the operation that it names and the servers that it names.
//!
//! One visit of the body finds both, because the body of every client request passes through here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::plugin::Operations;

/// What a client's message to a module is about, as far as that is certain. The admin log has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The operation. Absent where the module has no operations, or where it is not certain which one is named.
    pub operation: Option<String>,
    /// The servers that the members `ids` and `serverId` name, at most [`Asked::MAX_TARGETS`].
    pub targets: Vec<String>,
    /// How many they name in all.
    pub target_count: usize,
    /// Whether the module declares that the operation only shows something.
    pub reads: bool,
}

impl Asked {
    /// The most targets that are kept.
    pub const MAX_TARGETS: usize = 32;
}

/// What one visit of a body has found; by default, nothing.
#[derive(Default)]
pub(super) struct Visited {
    /// The operation that the message names.
    pub operation: Named,
    /// As [`Asked::targets`].
    pub targets: Vec<String>,
    /// As [`Asked::target_count`].
    pub target_count: usize,
}

/// The operation that a message names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Named {
    /// None.
    #[default]
    Nothing,
    /// This one.
    Operation(String),
    /// The message is no object. It may name an operation in a form that only the module knows.
    Unknown,
    /// The member that names it stands twice, or is no string. The module's JSON parser might read it in another way than this one.
    Ambiguous(&'static str),
}

impl Visited {
    /// Visits the body of a message once.
    ///
    /// `by` is the member that names the operation; absent where the module has no operations.
    pub fn new(by: Option<&str>, body: Option<&RawValue>) -> Self {
        let mut visited = Visited::default();
        let Some(body) = body else { return visited };
        if !body.get().starts_with('{') {
            if by.is_some() {
                visited.operation = Named::Unknown;
            }
            return visited;
        }
        let members = Members { by, visited: &mut visited };
        if serde_json::Deserializer::from_str(body.get()).deserialize_map(members).is_err() {
            // The body is JSON, because a `RawValue` is. But a name in it may be no text, such as half of a surrogate pair: then nothing is certain.
            visited.operation = Named::Unknown;
        }
        visited
    }

    /// The part that is certain. `declared` is what the module's descriptor says of its operations, where there is such a module.
    pub fn asked(self, declared: Option<&Operations>) -> Asked {
        let reads = declared.is_some_and(|declared| match &self.operation {
            Named::Nothing => declared.is_read(""),
            Named::Operation(operation) => declared.is_read(operation),
            Named::Unknown | Named::Ambiguous(_) => false,
        });
        let operation = match self.operation {
            Named::Operation(operation) if !operation.is_empty() => Some(operation),
            Named::Operation(_) | Named::Nothing | Named::Unknown | Named::Ambiguous(_) => None,
        };
        Asked { operation, targets: self.targets, target_count: self.target_count, reads }
    }

    fn name(&mut self, value: &RawValue) {
        let named = match serde_json::from_str::<String>(value.get()) {
            _ if self.operation != Named::Nothing => Named::Ambiguous("stands twice"),
            Ok(operation) => Named::Operation(operation),
            Err(_) => Named::Ambiguous("is no string"),
        };
        self.operation = named;
    }

    /// Adds the value if it is a string. Another value names no server.
    fn add_target(&mut self, value: &RawValue) {
        if !value.get().starts_with('"') {
            return;
        }
        self.target_count += 1;
        if self.targets.len() < Asked::MAX_TARGETS {
            self.targets.extend(serde_json::from_str::<String>(value.get()));
        }
    }
}

/// Looks at each member of an object once.
struct Members<'a> {
    by: Option<&'a str>,
    visited: &'a mut Visited,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key(self.by))? {
            if key.is_nothing() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &'de RawValue = map.next_value()?;
            if key.operation {
                self.visited.name(value);
            }
            if key.id {
                self.visited.add_target(value);
            }
            if key.ids {
                // A value that is no list names no servers.
                let _ = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Targets(self.visited));
            }
        }
        Ok(())
    }
}

/// What a member names, by its own name, which is not copied.
#[derive(Default)]
struct Member {
    operation: bool,
    id: bool,
    ids: bool,
}

impl Member {
    fn is_nothing(&self) -> bool {
        !(self.operation || self.id || self.ids)
    }
}

struct Key<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(Member { operation: self.0 == Some(name), id: name == "serverId", ids: name == "ids" })
    }
}

/// Takes the first strings of a list, and counts all.
struct Targets<'a>(&'a mut Visited);

impl<'de> Visitor<'de> for Targets<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(value) = list.next_element::<&'de RawValue>()? {
            self.0.add_target(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(by: Option<&str>, body: &str) -> Visited {
        Visited::new(by, Some(&RawValue::from_string(body.to_owned()).unwrap()))
    }

    #[test]
    fn a4_the_operation_and_the_servers_of_a_message_are_found() {
        let check = |body: &str, operation: Option<&str>, targets: &[&str]| {
            let expected = Asked {
                operation: operation.map(str::to_owned),
                targets: targets.iter().map(|&target| target.to_owned()).collect(),
                target_count: targets.len(),
                reads: false,
            };
            assert_eq!(visited(Some("signal"), body).asked(None), expected, "{body}");
        };
        check(r#"{"signal":"stop","ids":["a","b"],"more":{"signal":"kill"}}"#, Some("stop"), &["a", "b"]);
        check(r#"{"sign\u0061l":"stop","serverId":"a"}"#, Some("stop"), &["a"]);
        check(r#"{"ids":["a"],"ids":["b"],"serverId":"c"}"#, None, &["a", "b", "c"]);
        check(r#"{"ids":[1,"a",["b"],{"ids":["c"]}],"serverId":7}"#, None, &["a"]);
        check(r#"{"ids":"a","serverId":["b"]}"#, None, &[]);
        check(r#"["stop"]"#, None, &[]);
        check(r#"{"signal":""}"#, None, &[]);
        check("{}", None, &[]);
    }

    #[test]
    fn a4_a_long_list_of_servers_is_read_as_far_as_it_is_told() {
        let ids: Vec<_> = (0..1000).map(|n| format!("\"s{n}\"")).collect();
        let asked = visited(None, &format!(r#"{{"ids":[{}],"serverId":"last"}}"#, ids.join(","))).asked(None);
        assert_eq!((asked.targets.len(), asked.targets[31].as_str()), (Asked::MAX_TARGETS, "s31"));
        assert_eq!(asked.target_count, 1001, "how many there are is told");
    }

    #[test]
    fn what_only_shows_something_is_what_the_module_declares() {
        let declared: Operations =
            serde_json::from_str(r#"{"by":"signal","levels":{"list":2},"reads":["jobs"]}"#).unwrap();
        let reads = |body: &str| visited(Some("signal"), body).asked(Some(&declared)).reads;
        assert!(reads(r#"{"signal":"list"}"#) && reads(r#"{"signal":"jobs"}"#));
        for other in [r#"{"signal":"stop"}"#, r#"{"signal":"list","signal":"list"}"#, r#"["list"]"#, "{}"] {
            assert!(!reads(other), "{other}");
        }
    }

    #[test]
    fn a_module_without_operations_is_not_looked_at_for_one() {
        assert_eq!(visited(None, r#"{"signal":"stop"}"#).operation, Named::Nothing);
        assert_eq!(visited(None, "[1]").operation, Named::Nothing);
        assert_eq!(Visited::new(Some("signal"), None).operation, Named::Nothing);
    }
}
