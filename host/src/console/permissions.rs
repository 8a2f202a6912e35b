//! Whether a client may ask for an operation.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Console;
use crate::failure::{Failure, code};
use crate::plugin::{Caller, CallerRole, Operations};

/// What a client's message to a module is about, as far as it can be told: for the admin log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The operation; absent where the module has none or it cannot be told.
    pub operation: Option<String>,
    /// The servers that the message names in the usual way, by the members `ids` and `serverId`; not more than [`Asked::MAX_TARGETS`].
    pub targets: Vec<String>,
}

impl Asked {
    /// Targets that are told.
    pub const MAX_TARGETS: usize = 32;
}

impl Console {
    /// What a client's message to a module is about.
    pub fn asked(&self, module: &str, body: Option<&RawValue>) -> Asked {
        let Some(body) = body.filter(|body| body.get().starts_with('{')) else { return Asked::default() };
        let table = self.0.table.read();
        let by = table.slots.get(module).and_then(|slot| slot.operations.by.as_deref());
        let operation = by.and_then(|by| operation(by, Some(body)).ok()).filter(|name| !name.is_empty());
        Asked { operation, targets: targets(body) }
    }

    /// Whether a client may give a command: what shows something everybody may, the rest level 1, where the configuration says nothing else.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn permits(&self, command: &str, caller: &Caller) -> Result<(), Failure> {
        let level = caller.level.unwrap_or(u32::MAX);
        let own = if READABLE.contains(&command) { u32::MAX } else { 1 };
        let needed = self.0.settings.commands.get(command).copied().unwrap_or(own);
        if level <= needed.max(1) {
            return Ok(());
        }
        let user = caller.user.as_deref().unwrap_or("?");
        Err(Failure::new(code::FORBIDDEN, format!("user {user} has level {level}; {command} needs level {needed}")))
    }
}

/// Commands that only show something.
const READABLE: [&str; 2] = ["list", "modules"];

/// The servers that a message names.
fn targets(body: &RawValue) -> Vec<String> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Named<'a> {
        #[serde(borrow)]
        ids: Option<&'a RawValue>,
        #[serde(borrow)]
        server_id: Option<&'a RawValue>,
    }
    let Ok(Named { ids, server_id }) = serde_json::from_str(body.get()) else { return Vec::new() };
    let mut targets: Vec<String> = ids.and_then(|ids| serde_json::from_str(ids.get()).ok()).unwrap_or_default();
    targets.extend(server_id.and_then(|id| serde_json::from_str(id.get()).ok()));
    targets.truncate(Asked::MAX_TARGETS);
    targets
}

/// Whether the caller may say this to the module `id`. Level 1 may say everything; others what the module, or the configuration, declares readable
/// for their level. Callers that are no clients are not asked here.
///
/// # Errors
/// `forbidden`, or `bad-message` where the operation cannot be told.
pub(super) fn check(
    caller: &Caller,
    id: &str,
    operations: &Operations,
    body: Option<&RawValue>,
) -> Result<(), Failure> {
    // A client without a level cannot have come through registration; it may do nothing.
    let level = caller.level.unwrap_or(u32::MAX);
    if caller.role != CallerRole::Client || level <= 1 {
        return Ok(());
    }
    let (operation, needed) = match &operations.by {
        // A message that is no object could still name an operation, in a form that only the module knows.
        Some(_) if body.is_some_and(|body| !body.get().starts_with('{')) => (String::new(), 1),
        Some(by) => {
            let operation = operation(by, body)?;
            let needed = operations.level(&operation);
            (operation, needed)
        }
        None => (String::new(), operations.level("")),
    };
    if level <= needed {
        return Ok(());
    }
    let user = caller.user.as_deref().unwrap_or("?");
    let what = if operation.is_empty() { id.to_owned() } else { format!("`{operation}` of {id}") };
    Err(Failure::new(code::FORBIDDEN, format!("user {user} has level {level}; {what} needs level {needed}")))
}

/// The operation that a message names: the string value of one of its members, empty where it has none.
///
/// A member that stands twice is refused: the module's JSON parser might take another one of them than this one.
fn operation(by: &str, body: Option<&RawValue>) -> Result<String, Failure> {
    let Some(body) = body else { return Ok(String::new()) };
    let found = serde_json::Deserializer::from_str(body.get()).deserialize_map(Find(by));
    found.map_err(|error| Failure::new(code::BAD_MESSAGE, format!("the operation cannot be told: {error}")))
}

struct Find<'a>(&'a str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<String>()?).is_some() {
                return Err(serde::de::Error::custom(format_args!("`{key}` stands twice")));
            }
        }
        Ok(found.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_levels_are_those_of_the_connection_and_the_declared_operation() {
        let operations: Operations =
            serde_json::from_str(r#"{"by":"signal","levels":{"list":2,"stop":1,"*":3}}"#).unwrap();
        let check = |level: Option<u32>, body: &str| {
            let caller = Caller { level, user: Some("u".into()), ..Caller::of(CallerRole::Client) };
            let body = RawValue::from_string(body.to_owned()).unwrap();
            check(&caller, "m", &operations, Some(&body)).map_err(|failure| failure.code.into_owned())
        };
        let forbidden = Err("forbidden".to_owned());
        assert_eq!(check(Some(1), r#"{"signal":"stop"}"#), Ok(()));
        assert_eq!(check(Some(2), r#"{"signal":"list"}"#), Ok(()));
        assert_eq!(check(Some(3), r#"{"signal":"list"}"#), forbidden);
        assert_eq!(check(None, r#"{"signal":"list"}"#), forbidden);
        assert_eq!(check(Some(2), r#"{"signal":"stop","level":1}"#), forbidden);
        assert_eq!(check(Some(2), r#"{"sign\u0061l":"stop"}"#), forbidden);
        assert_eq!(check(Some(3), r#"{"signal":"other"}"#), Ok(()));
        assert_eq!(check(Some(4), r#"{}"#), forbidden);
        assert_eq!(check(Some(2), r#"["stop"]"#), forbidden);
        assert_eq!(check(Some(2), r#"{"signal":"list","signal":"stop"}"#), Err("bad-message".into()));
        assert_eq!(check(Some(2), r#"{"signal":["list"]}"#), Err("bad-message".into()));
    }
}
