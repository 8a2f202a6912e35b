//! Whether a client may ask for an operation, or give a command.

use super::asked::Named;
use super::registry::Registry;
use crate::failure::{Failure, code};
use crate::plugin::{Caller, Operations};

/// Commands that only show something, and that everybody may give.
const READABLE: [&str; 4] = ["list", "modules", "inspect", "history"];
/// Further commands that only show something.
const SHOWING: [&str; 3] = ["events", "describe", "plan"];

/// Whether a command only shows something.
pub fn is_read(command: &str) -> bool {
    READABLE.contains(&command) || SHOWING.contains(&command)
}

impl Registry {
    /// Whether a client may give a command. Where the configuration says nothing else, everybody may give a command that only shows something, and
    /// level 1 the others.
    ///
    /// # Errors
    /// `forbidden`.
    pub(super) fn permits(&self, command: &str, caller: &Caller) -> Result<(), Failure> {
        let own = if READABLE.contains(&command) { u32::MAX } else { 1 };
        let needed = self.settings().commands.get(command).copied().unwrap_or(own);
        if level(caller) <= needed.max(1) {
            return Ok(());
        }
        Err(forbidden(caller, command, needed))
    }
}

impl Registry {
    /// Whether a client may ask a module for an operation. Of a module that is not here, level 1 may ask all.
    pub(super) fn may_ask(&self, caller: &Caller, module: &str, operation: &str) -> bool {
        let operations = self.table.read().slots.get(module).map(|slot| slot.operations());
        match operations {
            Some(operations) => operations.permit(caller, operation),
            None => level(caller) <= 1,
        }
    }
}

/// Whether a client may ask this of the module `id`. Level 1 may ask everything. Others may ask what the module, or the configuration, declares for
/// their level.
///
/// # Errors
/// `forbidden`, or `bad-message` where it is not certain which operation is named.
pub(super) fn check(caller: &Caller, id: &str, operations: &Operations, named: &Named) -> Result<(), Failure> {
    let level = level(caller);
    if level <= 1 {
        return Ok(());
    }
    let (operation, needed) = match (named, &operations.by) {
        (Named::Nothing, _) => ("", operations.level("")),
        (Named::Operation(operation), _) => (operation.as_str(), operations.level(operation)),
        (Named::Unknown, _) => ("", 1),
        (Named::Ambiguous(why), by) => {
            let member = by.as_deref().unwrap_or_default();
            return Err(Failure::new(code::BAD_MESSAGE, format!("the operation cannot be told: `{member}` {why}")));
        }
    };
    if level <= needed {
        return Ok(());
    }
    let what = if operation.is_empty() { id.to_owned() } else { format!("`{operation}` of {id}") };
    Err(forbidden(caller, &what, needed))
}

/// A client without a level cannot have come through registration; it may do nothing.
fn level(caller: &Caller) -> u32 {
    caller.level.unwrap_or(u32::MAX)
}

fn forbidden(caller: &Caller, what: &str, needed: u32) -> Failure {
    let (user, level) = (caller.user.as_deref().unwrap_or("?"), level(caller));
    Failure::new(code::FORBIDDEN, format!("user {user} has level {level}; {what} needs level {needed}"))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::asked::Visited;
    use super::*;
    use crate::plugin::CallerRole;

    #[test]
    fn a2_levels_are_those_of_the_connection_and_the_declared_operation() {
        let operations: Operations =
            serde_json::from_str(r#"{"by":"signal","levels":{"list":2,"stop":1,"*":3}}"#).unwrap();
        let check = |level: Option<u32>, body: &str| {
            let caller = Caller { level, user: Some("u".into()), ..Caller::of(CallerRole::Client) };
            let body = RawValue::from_string(body.to_owned()).unwrap();
            let named = Visited::new(operations.by.as_deref(), Some(&body)).operation;
            check(&caller, "m", &operations, &named).map_err(|failure| failure.code.into_owned())
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
