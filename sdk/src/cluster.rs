//! [`Cluster`]: the master's way to its monitors.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::bindings::{agent, cluster};
use crate::failure::{Result, from_host};
use crate::json;

/// The master's way to its monitors. On a monitor every function fails with `not-available`.
///
/// A *target* is a server's id, `type:NAME` for all servers of a type, `*` for all. An id that several monitors share means the primary;
/// `ID@HOST:PORT` names one of them.
///
/// Messages go to the module's own id unless [`module`](Cluster::module) names another.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    module: Option<&'a str>,
}

/// The master's server table.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Servers<T> {
    /// The table's revision, which grows with every change.
    pub rev: u64,
    /// Names the master's process: revisions of different epochs cannot be compared.
    #[serde(default)]
    pub epoch: String,
    /// What each server has said about itself, by id.
    pub servers: BTreeMap<String, T>,
    /// What a server's monitor understands beyond pomelo's messages, by id; servers of pomelo 2.x are not among them.
    #[serde(default)]
    pub capabilities: BTreeMap<String, Vec<String>>,
}

/// Where the master's server table stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revision {
    /// Names the master's process: revisions of different epochs cannot be compared.
    pub epoch: String,
    /// The table's revision, which grows with every change.
    pub rev: u64,
}

impl<'a> Cluster<'a> {
    pub(crate) const fn new() -> Self {
        Self { module: None }
    }

    /// The same, with messages to another module. Needs the grant `cluster:ID`, or they fail with `forbidden`.
    pub fn module(self, id: &str) -> Cluster<'_> {
        Cluster { module: Some(id) }
    }

    /// The server table; `T` is what is wanted of a server's `info`. Fails with `bad-answer` where an `info` is not of that form.
    pub fn servers<T: DeserializeOwned>(&self) -> Result<Servers<T>> {
        json::answer(cluster::servers())
    }

    /// The server table as a type of the module's own. It is read from an object with `rev`, `epoch` and `servers`, a map from id to `info`. A
    /// module that only passes the servers on takes `servers` as a `RawValue`. Fails with `bad-answer` where the table is not of that form.
    pub fn table<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(cluster::servers())
    }

    /// What the table holds for one server, if that is in it: without reading the whole table, which is large.
    pub fn server<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>> {
        let info = cluster::server(id).map_err(from_host)?;
        info.map(|info| json::decode(&info, "bad-answer", "The server's entry is not of the expected form")).transpose()
    }

    /// Where the server table stands. A module that keeps what it has read of the table asks for this before it reads the table again, because the answer is
    /// small.
    pub fn revision(&self) -> Result<Revision> {
        let cluster::TableRevision { epoch, rev } = cluster::revision().map_err(from_host)?;
        Ok(Revision { epoch, rev })
    }

    /// Ids of the servers that are to run, the master's own among them: configured or added, and not kept down.
    pub fn configured(&self) -> Result<Vec<String>> {
        cluster::configured().map_err(from_host)
    }

    /// Asks one monitor and waits for its answer, at most this long and never longer than this call may take.
    ///
    /// Fails as the monitor's handler does, or with `not-found`, `timeout`, `disconnected`, `busy`; with `bad-answer` where the answer is
    /// not of the expected form.
    pub fn request<T: DeserializeOwned>(
        &self,
        target: &str,
        msg: &(impl Serialize + ?Sized),
        deadline: Duration,
    ) -> Result<T> {
        json::answer(cluster::request(target, &self.id(), &json::encode(msg)?, millis(deadline)))
    }

    /// Asks all servers that the targets name, at once, and waits for their answers, at most this long and never longer than this call may
    /// take. Returns one pair for each, in no order.
    ///
    /// A monitor that did not answer in time has the failure `timeout`; a target that names nobody is there under its own text with
    /// `not-found`; an answer that is not of the expected form, or too large, is `bad-answer`. All answers have together at most three quarters of the
    /// module's limit `answer_kib`: if there is no room, the largest of them fail.
    pub fn request_many<T: DeserializeOwned>(
        &self,
        targets: &[impl AsRef<str>],
        msg: &(impl Serialize + ?Sized),
        deadline: Duration,
    ) -> Result<Vec<(String, Result<T>)>> {
        let answers = cluster::request_many(&owned(targets), &self.id(), &json::encode(msg)?, millis(deadline))
            .map_err(from_host)?;
        Ok(answers.into_iter().map(|(id, result)| (id, json::answer(result))).collect())
    }

    /// Sends a request to all servers that the targets name, and does not wait for answers. The host collects them and logs who failed or did not
    /// answer.
    ///
    /// Waits while a server has not taken enough of what this module has sent before. Fails with `busy`, which names the server, where that lasts until
    /// the deadline of this call; the other servers were sent it.
    pub fn tell(&self, targets: &[impl AsRef<str>], msg: &(impl Serialize + ?Sized)) -> Result {
        cluster::tell(&owned(targets), &self.id(), &json::encode(msg)?).map_err(from_host)
    }

    /// Sends a message that is not answered to all servers that the targets name. Waits, and fails, as [`tell`](Cluster::tell) does.
    pub fn notify(&self, targets: &[impl AsRef<str>], msg: &(impl Serialize + ?Sized)) -> Result {
        cluster::notify(&owned(targets), &self.id(), &json::encode(msg)?).map_err(from_host)
    }

    fn id(&self) -> String {
        module_id(self.module)
    }
}

/// The id that messages go to: the one that was named, or the module's own.
pub(crate) fn module_id(named: Option<&str>) -> String {
    named.map_or_else(agent::module_id, String::from)
}

/// Whole milliseconds, as the contract counts deadlines.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn owned(targets: &[impl AsRef<str>]) -> Vec<String> {
    targets.iter().map(|target| target.as_ref().to_owned()).collect()
}
