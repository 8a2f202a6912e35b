//! What an original master of pomelo 2.x expects of a monitor, where our master expects something else.
//!
//! This is the only place of the host that names modules, because the callbacks of the original master's modules are part of its protocol.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Whether the master looks for the answer in `error`, because its callback takes the answer as the first argument, which is an error in others.
pub(super) fn answers_in_error(module: &str, body: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow, default)]
        comd: Option<Cow<'a, str>>,
    }
    match module {
        "__monitorwatcher__" | "__console__" => true,
        "watchServer" => {
            let asked = body.and_then(|body| serde_json::from_str::<Asked<'_>>(body.get()).ok());
            matches!(asked.and_then(|asked| asked.comd).as_deref(), Some("servers" | "connections" | "logins"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::raw;

    #[test]
    fn answers_are_where_pomelos_callbacks_look_for_them() {
        let check = |module: &str, body: serde_json::Value, expected| {
            assert_eq!(answers_in_error(module, Some(&raw(&body))), expected, "{module} {body}");
        };
        check("__monitorwatcher__", serde_json::json!({"action": "startOver"}), true);
        check("__console__", serde_json::json!({"signal": "list"}), true);
        check("watchServer", serde_json::json!({"comd": "servers", "clientId": "c"}), true);
        check("watchServer", serde_json::json!({"comd": "logins", "context": "all"}), true);
        check("watchServer", serde_json::json!({"comd": "status"}), false);
        check("nodeInfo", serde_json::json!({}), false);
    }
}
