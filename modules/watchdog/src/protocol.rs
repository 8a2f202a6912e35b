//! The messages between the two sides, and the master's events.
//!
//! A server of pomelo 2.x neither gets nor sends the members that only our own watchdogs know.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// The module's id on the master.
pub const MASTER_ID: &str = "__masterwatcher__";
/// The module's id on a monitor.
pub const MONITOR_ID: &str = "__monitorwatcher__";
/// How long a monitor waits for the master's answer, if its call may take so long. The time is long, because a master that a whole cluster joins at once has
/// much to do, and repeated questions would only add to it.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// What a monitor answers to an order that it has carried out.
pub const OK: u8 = 1;

/// What a server has said about itself. It is passed on as it came, without being parsed.
pub type Info = Box<RawValue>;

/// A whole table: a JSON object from server id to [`Info`]. It is passed on as it came, because it is large and every monitor asks for it.
pub type Infos = Box<RawValue>;

/// The master's server table.
#[derive(Debug, Deserialize)]
pub struct Table {
    pub rev: u64,
    #[serde(default)]
    pub epoch: String,
    pub servers: Infos,
    /// The same as servers of pomelo 2.x know it, once one of them has asked.
    #[serde(skip)]
    plain: OnceCell<Rc<BTreeMap<String, Info>>>,
}

impl Table {
    /// The table as servers of pomelo 2.x know it, without the master.
    pub fn plain(&self, master: &str) -> Result<PlainTable, serde_json::Error> {
        if let Some(servers) = self.plain.get() {
            return Ok(PlainTable { servers: servers.clone(), own: None });
        }
        let mut servers: BTreeMap<String, Info> = serde_json::from_str(self.servers.get())?;
        servers.remove(master);
        let servers = Rc::new(servers);
        Ok(PlainTable { servers: self.plain.get_or_init(|| servers).clone(), own: None })
    }
}

/// A table as servers of pomelo 2.x know it.
#[derive(Debug)]
pub struct PlainTable {
    servers: Rc<BTreeMap<String, Info>>,
    own: Option<(String, Info)>,
}

impl PlainTable {
    /// The table with what the server that it is for has said of itself last. Where it has that, it stays the text that others are given.
    pub fn with_own(self, id: &str, info: Info) -> Self {
        let is_known = self.servers.get(id).is_some_and(|known| known.get() == info.get());
        Self { own: (!is_known).then(|| (id.to_owned(), info)), ..self }
    }
}

impl Serialize for PlainTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.own.as_ref().map(|(id, info)| (id, info));
        let others = self.servers.iter().filter(|(id, _)| own.is_none_or(|(own, _)| own != *id));
        serializer.collect_map(others.chain(own))
    }
}

/// Where a view of the table stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The master's process.
    pub epoch: String,
    pub rev: u64,
}

impl Mark {
    /// The mark of a view that has everything that an original master has told.
    pub const fn plain() -> Self {
        Self { epoch: String::new(), rev: 0 }
    }

    pub fn is_plain(&self) -> bool {
        self.epoch.is_empty()
    }
}

/// From a monitor to the master.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Request {
    pub action: String,
    /// The monitor's id, for pomelo's masters. Ours takes it from the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// `true`, or the revision of the monitor's view. It is there if the monitor understands revisions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rev: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<String>,
    /// Whether the monitor takes [`Changes`] in place of the table.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub changes: bool,
}

impl Request {
    pub fn new(action: &str, id: String) -> Self {
        Self { action: action.to_owned(), id: Some(id), ..Self::default() }
    }

    /// The same from a monitor that understands revisions and whose view stands at `mark`.
    pub fn at(self, mark: Option<&Mark>) -> Self {
        let rev = mark.map_or_else(|| "true".to_owned(), |mark| mark.rev.to_string());
        let (epoch, changes) = (mark.map(|mark| mark.epoch.clone()), mark.is_some());
        Self { rev: RawValue::from_string(rev).ok(), epoch, changes, ..self }
    }

    /// Where the monitor's view stands, if it says so.
    pub fn mark(&self) -> Option<Mark> {
        let rev = self.rev.as_ref()?.get().parse().ok()?;
        Some(Mark { epoch: self.epoch.clone()?, rev })
    }
}

/// From the master to a monitor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<String>,
    /// The revision at which the view stands when the order is carried out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rev: Option<u64>,
    /// `update`: the revision from which the changes count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<u64>,
    /// `update`: whether they count from that revision alone, and not from one that is between `since` and `rev`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub exact: bool,
    /// `update`: servers that are new or have changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub add: Option<Vec<Info>>,
    /// `update`: ids of servers that have left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remove: Option<Vec<String>>,
    /// `addServer`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<Info>,
    /// `removeServer`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// `replaceServer`: the whole table. `addServer`: an array of servers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub servers: Option<Box<RawValue>>,
}

impl Order {
    pub fn new(action: &str) -> Self {
        Self { action: action.to_owned(), ..Self::default() }
    }

    /// Where the view stands when the order is carried out, if the order says so.
    pub fn mark(&self) -> Option<Mark> {
        Some(Mark { epoch: self.epoch.clone()?, rev: self.rev? })
    }
}

/// The master's answer to `subscribe` and `query`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `unsubscribe` and `record`.
    Nothing,
    /// To a server of pomelo 2.x.
    Plain(PlainTable),
    /// To our own monitors.
    Known(Known),
}

/// What leads from a table to a newer one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changes {
    /// The revision of the older table.
    pub since: u64,
    /// Whether they count from that revision alone, and not from one that is between the two.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub exact: bool,
    /// Servers that are new or have changed.
    pub add: Vec<Info>,
    /// Ids of servers that have left.
    pub remove: Vec<String>,
}

/// What our own monitors are answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Known {
    pub epoch: String,
    pub rev: u64,
    /// The table; absent where the monitor has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub servers: Option<Infos>,
    /// [`Changes`] in place of the table, for a monitor that has missed few.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changes: Option<Box<RawValue>>,
    /// False where the monitor is told of no changes, and should subscribe.
    pub listener: bool,
    /// Whether the master knows that the monitor has finished starting.
    pub recorded: bool,
}

/// Reads a master's answer. An original master answers with the table alone: it has no revisions, and does not say whether the monitor is a listener.
pub fn known(answer: Box<RawValue>) -> Result<Known, serde_json::Error> {
    serde_json::from_str(answer.get()).or_else(|error| {
        if !answer.get().starts_with('{') {
            return Err(error);
        }
        let Mark { epoch, rev } = Mark::plain();
        Ok(Known { epoch, rev, servers: Some(answer), changes: None, listener: false, recorded: false })
    })
}

impl Known {
    /// Whether an original master answered.
    pub fn is_plain(&self) -> bool {
        self.epoch.is_empty()
    }

    /// The mark of a view that is this table.
    pub fn mark(&self) -> Mark {
        Mark { epoch: self.epoch.clone(), rev: self.rev }
    }
}

/// A batch of changes, as the host tells the master's side.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// The table's revision before the first event.
    pub since: u64,
    /// The table's revision after the last event.
    pub rev: u64,
    #[serde(default)]
    pub epoch: String,
    /// Whether a table between the two revisions may have servers that have left, and of which no event tells.
    #[serde(default)]
    pub exact: bool,
    pub events: Vec<Event>,
}

/// A change of the table.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// `register`, `disconnect` or `reconnect`.
    pub event: String,
    pub id: String,
    /// What the table holds for the id now; absent for `disconnect`.
    #[serde(default)]
    pub server: Option<Info>,
    /// The table's revision when the server's monitor registered. Not every master says it.
    #[serde(default)]
    pub rev: Option<u64>,
    /// What the server's monitor understands beyond pomelo's messages.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// The capability of a monitor that understands revisions.
pub const REVISIONS: &str = "revisions";
