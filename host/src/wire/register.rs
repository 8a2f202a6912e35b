//! Registration: what a peer says of itself, and the answer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Info, Phase};
use crate::util::Secret;
use crate::util::visible::escaped;

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Stands beside a server.
    Monitor,
    /// A management tool.
    Client,
}

/// The payload of `register` and `reconnect`. Only `id` and `type` are always there. The master checks the other members, because it knows which
/// kind of peer needs what.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// Server id of a monitor, any name of its own for a client.
    pub id: String,
    /// What the peer is.
    #[serde(rename = "type")]
    pub role: Role,
    /// A monitor's server type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_type: Option<String>,
    /// A monitor's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether the monitor's server does not run (yet): the monitor can be asked, and others are not told of it. Ours alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub down: bool,
    /// What the monitor's server does now, in full. Ours alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Box<Phase>>,
    /// A monitor's description of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// A monitor's token.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "Secret::exposed")]
    pub token: Option<Secret>,
    /// A client's user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A client's password, or the md5 of it in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "Secret::exposed")]
    pub password: Option<Secret>,
    /// Whether `password` is the md5.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "truthy")]
    pub md5: bool,
    /// The peer's version, from peers of our own kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Versions of `pomelo:admin` that the peer serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wit: Vec<String>,
    /// What the peer understands beyond pomelo's messages.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
}

impl Register {
    /// Whether the peer is one of pomelo's own: ours state their version.
    pub fn is_pomelos(&self) -> bool {
        self.version.is_none()
    }

    /// The same without what only peers of our own kind say. An original master passes `info` on as it is, and acts on it. So `info` says who the
    /// server is, `frontend` is a text as on a command line, and nothing in `info` makes the master start a server that its monitor brings back.
    pub fn in_pomelos_form(mut self) -> Self {
        let info = self.info.get_or_insert_default();
        info.insert("id".into(), self.id.clone().into());
        if let Some(server_type) = &self.server_type {
            info.insert("serverType".into(), server_type.clone().into());
        }
        if info.get("frontend").is_some_and(|frontend| *frontend == true) {
            info.insert("frontend".into(), "true".into());
        }
        for started_by_the_master in ["auto-restart", "restart-force"] {
            info.remove(started_by_the_master);
        }
        Register {
            version: None,
            wit: Vec::new(),
            capabilities: Capabilities::default(),
            down: false,
            phase: None,
            ..self
        }
    }
}

/// Names of what a peer understands beyond pomelo's messages. Names that a host does not know are kept and passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub Vec<String>);

impl Capabilities {
    /// Understands commands that the master passes on.
    pub const COMMANDS: &'static str = "commands";
    /// Understands the watchdog's revisions and `update` messages.
    pub const REVISIONS: &'static str = "revisions";
    /// Takes the events that a monitor reports.
    pub const EVENTS: &'static str = "events";
    /// Takes what a monitor's server does, whenever that changes.
    pub const PHASES: &'static str = "phases";
    /// Understands the command `apply`: to take over the configuration's files.
    pub const APPLY: &'static str = "apply";
    /// A master hands modules on, a monitor takes them: see [`super::ModulesRequest`].
    pub const MODULES: &'static str = "modules";
    /// Requests to it may carry `trace`.
    pub const TRACE: &'static str = "trace";

    /// Those of a monitor of this version.
    pub fn own() -> Self {
        Capabilities(vec![Self::COMMANDS.into(), Self::REVISIONS.into(), Self::TRACE.into(), Self::APPLY.into()])
    }

    /// Those of a master of this version.
    pub fn of_master() -> Self {
        Capabilities(vec![Self::EVENTS.into(), Self::PHASES.into(), Self::TRACE.into(), Self::MODULES.into()])
    }

    /// With one more.
    pub fn and(mut self, name: &str) -> Self {
        self.0.push(name.into());
        self
    }

    /// Whether a name is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The answer to `register` and `reconnect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registered {
    /// 1 for yes, -1 for no.
    pub code: i32,
    /// `ok`, or why not.
    pub msg: String,
    /// Ids of disabled modules, told to our own monitors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<String>,
    /// The master's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the master understands beyond pomelo's messages.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
}

impl Registered {
    /// Accepted.
    pub fn ok(disabled: Vec<String>) -> Self {
        let (version, capabilities) = (Some(super::VERSION.into()), Capabilities::of_master());
        Registered { code: 1, msg: "ok".into(), disabled, version, capabilities }
    }

    /// Accepted, in pomelo's own words.
    pub fn pomelos() -> Self {
        Registered {
            code: 1,
            msg: "ok".into(),
            disabled: Vec::new(),
            version: None,
            capabilities: Capabilities::default(),
        }
    }

    /// Refused, and why. The sentence may repeat what the peer has said, so that it is escaped.
    pub fn refused(why: impl AsRef<str>) -> Self {
        let capabilities = Capabilities::default();
        Registered {
            code: -1,
            msg: escaped(why.as_ref()).into_owned(),
            disabled: Vec::new(),
            version: None,
            capabilities,
        }
    }
}

/// Never shows the secrets.
impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("server_type", &self.server_type)
            .field("username", &self.username)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// pomelo's tools leave `md5` out, or send a boolean or a string.
fn truthy<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|text| text == "true")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_registrations_parse() {
        let monitor: Register = serde_json::from_str(
            r#"{"id":"master-server-1","type":"monitor","serverType":"master","pid":22575,
                "info":{"id":"master-server-1","host":"127.0.0.1","port":23005},"token":null}"#,
        )
        .unwrap();
        assert_eq!((monitor.role, monitor.pid, monitor.token), (Role::Monitor, Some(22575), None));
        let client: Register =
            serde_json::from_str(r#"{"type":"client","id":"cl","username":"admin","password":"21","md5":true}"#)
                .unwrap();
        assert!(client.md5 && client.capabilities.is_empty());
    }

    #[test]
    fn r5_an_original_master_is_told_what_pomelos_servers_tell() {
        let own = Register {
            version: Some("1".into()),
            wit: vec!["0.1.0".into()],
            capabilities: Capabilities::own(),
            phase: Some(Box::new(Phase::running(7))),
            ..serde_json::from_str(
                r#"{"id":"c","type":"monitor","serverType":"connector","pid":7,"token":"t",
                    "info":{"host":"h","port":4050,"frontend":true,"auto-restart":"true","restart-force":"true"}}"#,
            )
            .unwrap()
        };
        let told = serde_json::to_value(own.in_pomelos_form()).unwrap();
        let info =
            serde_json::json!({"id": "c", "serverType": "connector", "host": "h", "port": 4050, "frontend": "true"});
        let expected = serde_json::json!({"id": "c", "type": "monitor", "serverType": "connector", "pid": 7, "token": "t",
            "info": info});
        assert_eq!(told, expected);
    }

    #[test]
    fn secrets_are_not_shown() {
        let register: Register =
            serde_json::from_str(r#"{"type":"client","id":"c","username":"u","password":"hunter2","token":"t0k"}"#)
                .unwrap();
        let shown = format!("{register:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("t0k"), "{shown}");
    }
}
