//! A monitor that has registered, and its place among those of its server id.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::exchange::Exchange;
use crate::wire::{Capabilities, Info, Phase, raw};

/// A monitor that has registered.
#[derive(Clone)]
pub struct Member {
    /// Server id.
    pub id: String,
    /// Type of the server.
    pub server_type: String,
    /// What the others are told about the server.
    pub info: Arc<Info>,
    /// The same as JSON text, because every other server is told of it.
    pub(super) text: Arc<RawValue>,
    /// The way to the monitor.
    pub exchange: Exchange,
    /// What it understands beyond pomelo's messages.
    pub capabilities: Arc<Capabilities>,
    /// The same as JSON text, because modules are told of it with every table.
    pub(super) capabilities_text: Arc<RawValue>,
    /// Whether it comes back instead of coming for the first time.
    pub returned: bool,
    /// The table's revision since which its entry is as it is; 0 for one that has none yet.
    pub since: u64,
    /// The table's revision when it registered; absent until it is in.
    pub(super) arrived: Option<u64>,
    /// What its server does, as it said last; absent for a monitor that does not say it.
    pub phase: Option<Arc<Phase>>,
    /// Whether its connection is lost and only its place is kept.
    pub(super) lost: bool,
    /// Whether its place is kept beyond the time of grace, because many were lost at once.
    pub(super) retained: bool,
    /// Whether the server runs.
    pub(super) present: bool,
    /// Whether the configuration names the server, or it was added.
    pub(super) named: bool,
}

/// Why a peer cannot become a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// A client chose an id that is taken.
    #[error("a client of this id is connected already")]
    ClientId,
    /// Too many clients of one user.
    #[error("so many clients of this user are connected as there may be, {0} (`[network] clients_per_user`)")]
    User(usize),
    /// Too many monitors under one id.
    #[error("too many monitors are registered under this server id")]
    Slaves,
    /// The id belongs to servers of another type.
    #[error("a server of this id and of type `{0}` is registered already")]
    Type(String),
    /// It says too much of its server, and the others would be told all of it.
    #[error(
        "what it says of its server has {bytes} bytes, at most {limit} are taken {} (`[network] info_kib`)",
        if *named { "from each" } else { "from one that the configuration does not name" }
    )]
    Info {
        /// What it says.
        bytes: usize,
        /// What it may say.
        limit: usize,
        /// Whether the configuration names the server.
        named: bool,
    },
    /// There are too many servers already that the configuration does not name.
    #[error(
        "{0} servers have joined that the configuration does not name, and there is no room for more (`[network] max_joined`)"
    )]
    Joined(usize),
    /// The table is full.
    #[error(
        "the server table has {bytes} of the {limit} bytes that such servers may fill (it grows with the configured servers and `[network] max_joined`)"
    )]
    Full {
        /// What is there.
        bytes: usize,
        /// What may be there.
        limit: usize,
    },
}

impl JoinError {
    /// Its name in metrics.
    pub(in crate::master) fn label(&self) -> &'static str {
        match self {
            JoinError::ClientId => "client-id",
            JoinError::User(_) => "user",
            JoinError::Slaves => "slaves",
            JoinError::Type(_) => "type",
            JoinError::Info { .. } => "info",
            JoinError::Joined(_) => "joined",
            JoinError::Full { .. } => "full",
        }
    }
}

/// Monitors that may stand behind the primary of one id.
pub(super) const MAX_SLAVES: usize = 16;

/// The monitor that stands for an id: the oldest whose server runs.
pub(super) fn primary(members: &[Member]) -> Option<&Member> {
    members.iter().find(|member| member.present)
}

/// The monitor that is asked about an id: the primary, or the oldest if no monitor's server runs.
pub(super) fn first(members: &[Member]) -> Option<&Member> {
    primary(members).or(members.first())
}

/// The place of a new monitor among those of its id: the place of the monitor at the same address, if there is one, else behind all.
pub(super) fn place(members: &[Member], new: &Member) -> Result<Option<usize>, JoinError> {
    if let Some(other) = members.iter().find(|other| other.server_type != new.server_type) {
        return Err(JoinError::Type(other.server_type.clone()));
    }
    let same = members.iter().position(|other| other.address() == new.address());
    if same.is_none() && members.len() > MAX_SLAVES { Err(JoinError::Slaves) } else { Ok(same) }
}

impl Member {
    /// A monitor that wants to register.
    pub fn new(
        id: String,
        server_type: String,
        info: Info,
        exchange: Exchange,
        capabilities: Capabilities,
        returned: bool,
    ) -> Self {
        let (text, capabilities_text) = (raw(&info).into(), raw(&capabilities).into());
        let (info, capabilities) = (Arc::new(info), Arc::new(capabilities));
        Member {
            id,
            server_type,
            info,
            text,
            exchange,
            capabilities,
            capabilities_text,
            returned,
            since: 0,
            arrived: None,
            phase: None,
            lost: false,
            retained: false,
            present: true,
            named: false,
        }
    }

    /// The same monitor, which has said what its server does.
    pub fn doing(self, phase: Option<Phase>) -> Self {
        Member { phase: phase.map(Arc::new), ..self }
    }

    /// What it says of its server and of itself, bytes.
    pub(super) fn size(&self) -> usize {
        // As JSON: each name has quotes and a comma.
        self.text.get().len() + self.capabilities.0.iter().map(|name| name.len() + 3).sum::<usize>()
    }

    /// The same monitor with a server that does not run yet.
    pub fn down(self) -> Self {
        Member { present: false, ..self }
    }

    /// The address of its server, `host:port`. It tells the monitors of one id from each other.
    pub(super) fn address(&self) -> String {
        let text = |name: &str| match self.info.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        format!("{}:{}", text("host"), text("port"))
    }

    /// Whether its connection is lost and only its place is kept, so that nothing can be sent to it.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    pub(in crate::master) fn connection(&self) -> u64 {
        self.exchange.peer().id()
    }
}
