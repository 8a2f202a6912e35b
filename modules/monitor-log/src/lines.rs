//! The lines of a log, in the form that pomelo's tools show.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A line of a log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Box<RawValue>>,
    server_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_used: Option<Box<RawValue>>,
    params: String,
}

/// The members of a route's log object that are shown apart.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Route {
    time: Option<Box<RawValue>>,
    route: Option<Box<RawValue>>,
    service: Option<Box<RawValue>>,
    time_used: Option<Box<RawValue>>,
}

impl Entry {
    /// The entry for a line of that server.
    pub fn new(line: String, server_id: &str) -> Self {
        // Before the object stand the time, the level and the logger's name.
        let object = line.find('{').map(|at| &line[at..]);
        let parsed =
            object.and_then(|text| Some((serde_json::from_str::<Route>(text).ok()?, text.trim_end().to_owned())));
        let (Route { time, route, service, time_used }, params) = parsed.unwrap_or_else(|| (Route::default(), line));
        Entry { time, route: route.or(service), server_id: server_id.to_owned(), time_used, params }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> serde_json::Value {
        serde_json::to_value(Entry::new(line.into(), "chat-1")).unwrap()
    }

    #[test]
    fn p_monitorlog_reads_the_lines_of_pomelos_logs() {
        let object = r#"{"route":"chat.chatHandler.send","args":{"content":"a b"},"time":"2026-11-22 13:45:29.001","timeUsed":3}"#;
        let line = format!("[2026-11-22 13:45:29.004] [INFO] con-log - {object}");
        let expected = serde_json::json!({
            "time": "2026-11-22 13:45:29.001", "route": "chat.chatHandler.send", "serverId": "chat-1", "timeUsed": 3, "params": object,
        });
        assert_eq!(entry(&line), expected);
        assert_eq!(entry(r#"{"service":"s","timeUsed":1}"#)["route"], "s");
    }

    #[test]
    fn p_monitorlog_keeps_lines_of_any_other_form() {
        for line in ["", "started", "[ERROR] { unbalanced", "{\"time\":1} and more"] {
            assert_eq!(entry(line), serde_json::json!({"serverId": "chat-1", "params": line}), "{line}");
        }
    }
}
