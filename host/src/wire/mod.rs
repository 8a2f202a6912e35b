//! The envelope that all transports carry: topics, messages, registration.
//!
//! The format is that of `pomelo-admin` 1.x, in JSON. This part does no I/O and knows no module: bodies pass through as text that is
//! known to be JSON and is never built into a tree.

mod envelope;
pub mod host_functions;
mod id;
mod modules;
mod phase;
mod register;

use std::fmt;

use serde_json::{Map, Value};

pub use crate::util::visible::steers;
pub use envelope::{Command, Message, Notify, ReqId, Request, Response, ResponseInError, WireError, null, raw};
pub use id::{BadId, MAX_ID, check_id, check_name, sentence, shown};
pub use modules::{FileVersion, MAX_OFFERS, MODULES, ModulesRequest, OFFER, Offer, Offers, Part, Running};
pub use phase::{Phase, PhaseExit, PhaseName};
pub use register::{Capabilities, Register, Registered, Role};

/// What a server says about itself: pomelo's map of its configuration and arguments (`id`, `serverType`, `host`, `port`, `clientPort`,
/// `frontend` …). Unknown members are kept.
pub type Info = Map<String, Value>;

/// The version of this program, told when registering.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Versions of the WIT package `pomelo:admin` that this host serves.
pub const WIT_VERSIONS: &[&str] = &["0.1.0"];

/// The commands that a client may give the host itself; `[commands] levels` may name them.
pub const COMMANDS: &[&str] =
    &["list", "modules", "inspect", "history", "rollback", "enable", "disable", "events", "forget", "admit", "plan"];

/// What a frame is about. On Socket.IO it is the event's name, on the MQTT framing the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Registration and its answer.
    Register,
    /// A monitor that was registered comes back.
    Reconnect,
    /// The answer to `reconnect`.
    ReconnectOk,
    /// A monitor's server does not run; the monitor stays connected, and sends `reconnect` when the server runs again. Ours alone, and
    /// without an answer.
    Deregister,
    /// Something happened beside a monitor. Ours alone, without an answer, and only to a master that states the capability `events`.
    Event,
    /// What a monitor's server does now. Ours alone, without an answer, and only to a master that states the capability `phases`.
    Phase,
    /// Between master and monitor.
    Monitor,
    /// Between master and client.
    Client,
}

impl Topic {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Topic::Register => "register",
            Topic::Reconnect => "reconnect",
            Topic::ReconnectOk => "reconnect_ok",
            Topic::Deregister => "deregister",
            Topic::Event => "event",
            Topic::Phase => "phase",
            Topic::Monitor => "monitor",
            Topic::Client => "client",
        }
    }

    /// The topic of that text, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        use Topic::{Client, Deregister, Event, Monitor, Phase, Reconnect, ReconnectOk, Register};
        let all = [Register, Reconnect, ReconnectOk, Deregister, Event, Phase, Monitor, Client];
        all.into_iter().find(|topic| topic.as_str() == text)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
