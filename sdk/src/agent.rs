//! [`Agent`]: what a callback may do, and where it stands.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::bindings::agent;
use crate::failure::{Result, from_host};
use crate::{Application, Cluster, KeptOutput, Process, Profiler, Reports, Scripts, Starter, Store, Uplink, json};

/// The key under which [`Agent::get`] and [`Agent::set`] keep a module's data.
const DATA: &str = "data";

/// What a callback may do, and where it stands.
///
/// Every use of a capability other than [`store`](Agent::store) makes the component import it, and the operator has to grant it.
#[derive(Debug)]
pub struct Agent {
    _private: (),
}

/// The part that this host plays in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one process to which monitors and clients connect.
    Master,
    /// A process beside an application server.
    Monitor,
}

/// Who called, as the connection says, whatever the message says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Caller {
    /// What kind of peer it is.
    pub role: CallerRole,
    /// The server's or client's id.
    pub id: Option<String>,
    /// The server's type.
    pub server_type: Option<String>,
    /// The client's user name.
    pub user: Option<String>,
    /// The client's level; 1 may do everything.
    pub level: Option<u8>,
    /// The peer's network address.
    pub address: Option<String>,
}

/// What kind of peer called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CallerRole {
    /// A management tool.
    Client,
    /// A monitor.
    Monitor,
    /// The master.
    Master,
    /// The timer of a periodic module.
    Timer,
    /// The host itself, for `start` and for events.
    Host,
    /// A kind that this version of the SDK does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Agent {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// The part that this host plays.
    pub fn role(&self) -> Role {
        if agent::role() == "master" { Role::Master } else { Role::Monitor }
    }

    /// Id of the server whose host this is.
    pub fn server_id(&self) -> String {
        agent::server_id()
    }

    /// Type of the server whose host this is; `master` on the master.
    pub fn server_type(&self) -> String {
        agent::server_type()
    }

    /// The module id under which this call came: one file may answer to several.
    pub fn module_id(&self) -> String {
        agent::module_id()
    }

    /// The module ids that this host knows, in order.
    pub fn modules(&self) -> Vec<String> {
        agent::modules()
    }

    /// The module's options from the host's configuration. They are an object, empty where there are none: let every member have a
    /// default. Fails with `bad-options` where they are not of the expected form.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T> {
        json::decode(&agent::options(), "bad-options", "The module's options are not of the expected form")
    }

    /// Who called.
    pub fn caller(&self) -> Caller {
        // What the host says is well-formed; should it ever not be, the caller is unknown, and an unknown caller may do nothing.
        serde_json::from_str(&agent::caller()).unwrap_or_default()
    }

    /// The id of the server or client that called. Fails with `bad-message` where the caller has none, such as a timer.
    pub fn caller_id(&self) -> Result<String> {
        /// Only the id, because code that reads a whole caller makes the module larger.
        #[derive(Deserialize)]
        struct Identified {
            id: String,
        }
        let caller: Identified =
            json::decode(&agent::caller(), "bad-message", "A server or a client can ask this only")?;
        Ok(caller.id)
    }

    /// The level of the user that called. Absent where the caller is not a client.
    pub fn caller_level(&self) -> Option<u8> {
        /// Only the level, because code that reads a whole caller makes the module larger.
        #[derive(Default, Deserialize)]
        struct Levelled {
            #[serde(default)]
            level: Option<u8>,
        }
        serde_json::from_str::<Levelled>(&agent::caller()).unwrap_or_default().level
    }

    /// Whether the caller may ask this module for another operation than the one that it asks for. What is for those alone can so be left out of an answer.
    pub fn permits(&self, operation: &str) -> bool {
        agent::permits(operation)
    }

    /// Whether the caller waits for the answer: false for a notify, a timer, an event.
    pub fn wants_answer(&self) -> bool {
        agent::wants_answer()
    }

    /// Time until this call's deadline. Waiting for others counts.
    pub fn time_left(&self) -> Duration {
        Duration::from_millis(agent::time_left())
    }

    /// Time since 1970-01-01 00:00 UTC.
    pub fn now(&self) -> Duration {
        Duration::from_millis(agent::now())
    }

    /// The data that [`set`](Agent::set) has kept for this module on this host. Fails as [`Store::get`] does.
    pub fn get<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.store().get(DATA)
    }

    /// Keeps the module's data on this host: a short form for the key `data` of the [`store`](Agent::store). Fails as [`Store::set`] does.
    pub fn set<T: Serialize + ?Sized>(&self, data: &T) -> Result {
        self.store().set(DATA, data)
    }

    /// The data that another module on this host keeps with [`set`](Agent::set). Fails as [`Store::read`] does.
    pub fn get_of<T: DeserializeOwned>(&self, module_id: &str) -> Result<Option<T>> {
        self.store().read(module_id, DATA)
    }

    /// What the module keeps on this host.
    pub fn store(&self) -> Store {
        Store::new()
    }

    /// The last report of each server to this module, on the master.
    pub fn reports(&self) -> Reports<'_> {
        Reports::new(self)
    }

    /// The master's way to its monitors.
    pub fn cluster(&self) -> Cluster<'static> {
        Cluster::new()
    }

    /// The monitor's way to its master.
    pub fn uplink(&self) -> Uplink<'static> {
        Uplink::new()
    }

    /// The served application.
    pub fn application(&self) -> Application {
        Application::new()
    }

    /// The process that this host stands beside.
    pub fn process(&self) -> Process {
        Process::new()
    }

    /// What programs have written, as it is kept in files.
    pub fn kept_output(&self) -> KeptOutput {
        KeptOutput::new()
    }

    /// The master's starter of configured servers.
    pub fn starter(&self) -> Starter {
        Starter::new()
    }

    /// Programs that are run once.
    pub fn scripts(&self) -> Scripts {
        Scripts::new()
    }

    /// Profiles of this host's process and modules.
    pub fn profiler(&self) -> Profiler {
        Profiler::new()
    }

    /// Sends a message to the client that waits for the answer to this call, ahead of the answer. Waits while the client has not taken enough of what
    /// was sent before. Fails with `busy` where it does not before the deadline of this call, with `not-available` where no client waits for the answer.
    pub fn progress(&self, msg: &(impl Serialize + ?Sized)) -> Result {
        agent::progress(&json::encode(msg)?).map_err(from_host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_read_as_the_host_writes_it() {
        let caller: Caller =
            serde_json::from_str(r#"{"role":"client","id":"c-1","user":"ann","level":2,"new":[]}"#).unwrap();
        assert_eq!((caller.role, caller.id.as_deref(), caller.level), (CallerRole::Client, Some("c-1"), Some(2)));
        assert_eq!(serde_json::from_str::<Caller>(r#"{"role":"robot"}"#).unwrap(), Caller::default());
    }
}
