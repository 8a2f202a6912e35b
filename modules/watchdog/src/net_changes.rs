//! The net effect of a batch of events on each server.

use std::collections::BTreeMap;

use crate::protocol::{Event, Info, REVISIONS};

/// What became of a server.
#[derive(Debug)]
pub enum Change {
    /// `rev`: the table's revision when its monitor registered.
    Registered {
        info: Info,
        rev: Option<u64>,
    },
    /// `revisions`: whether its monitor says that it understands them.
    Reconnected {
        info: Info,
        rev: Option<u64>,
        revisions: bool,
    },
    Gone,
}

impl Change {
    /// What the table holds for the server now.
    pub fn info(&self) -> Option<&Info> {
        match self {
            Self::Registered { info, .. } | Self::Reconnected { info, .. } => Some(info),
            Self::Gone => None,
        }
    }
}

/// The change of each server, by its last event. An event that lacks its server's `info`, or is of an unknown kind, is left out; monitors notice the gap by
/// the revisions.
pub fn net_changes(events: Vec<Event>) -> BTreeMap<String, Change> {
    let mut changes = BTreeMap::new();
    for Event { event, id, server, rev, capabilities } in events {
        let change = match (event.as_str(), server) {
            ("register", Some(info)) => Change::Registered { info, rev },
            ("reconnect", Some(info)) => {
                Change::Reconnected { info, rev, revisions: capabilities.iter().any(|name| name == REVISIONS) }
            }
            ("disconnect", _) => Change::Gone,
            _ => continue,
        };
        changes.insert(id, change);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_of_each_server_decides() {
        let cases = [
            (r#"[{"event":"register","id":"a","server":1}]"#, "a:registered 1"),
            (r#"[{"event":"register","id":"a","server":1},{"event":"disconnect","id":"a"}]"#, "a:gone"),
            (r#"[{"event":"disconnect","id":"a"},{"event":"register","id":"a","server":2}]"#, "a:registered 2"),
            (r#"[{"event":"disconnect","id":"a"},{"event":"reconnect","id":"a","server":3}]"#, "a:reconnected 3 false"),
            (
                r#"[{"event":"reconnect","id":"a","server":3,"capabilities":["commands","revisions"]}]"#,
                "a:reconnected 3 true",
            ),
            (r#"[{"event":"disconnect","id":"b"},{"event":"register","id":"a","server":1}]"#, "a:registered 1, b:gone"),
            (r#"[{"event":"register","id":"a"},{"event":"renamed","id":"b","server":1}]"#, ""),
        ];
        for (events, expected) in cases {
            let changes = net_changes(serde_json::from_str(events).unwrap());
            let shown: Vec<String> = changes
                .iter()
                .map(|(id, change)| match change {
                    Change::Registered { info, .. } => format!("{id}:registered {info}"),
                    Change::Reconnected { info, revisions, .. } => format!("{id}:reconnected {info} {revisions}"),
                    Change::Gone => format!("{id}:gone"),
                })
                .collect();
            assert_eq!(shown.join(", "), expected, "{events}");
        }
    }
}
