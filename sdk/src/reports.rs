//! [`Reports`]: what the servers have told the master last.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Agent, Result, Revision, Servers, json};

/// Each server has a key of its own, because the reports of several servers may be handled at once.
const PREFIX: &str = "report:";

/// The last report of each server to a module on the master: the cache of a `pull` module. The reports are kept in the module's
/// [`store`](Agent::store). Those of servers that have left are not shown.
#[derive(Debug)]
pub struct Reports<'a> {
    agent: &'a Agent,
}

impl<'a> Reports<'a> {
    pub(crate) const fn new(agent: &'a Agent) -> Self {
        Self { agent }
    }

    /// Keeps what the calling server reports. Which server that is, its connection says, not its message. If the store is full, reports of servers that have
    /// left are given up for it, and then the largest that are larger than this one, so that no server's report keeps others' out. Fails as
    /// [`Agent::caller_id`] and [`Store::set`](crate::Store::set) do.
    pub fn keep(&self, report: &(impl Serialize + ?Sized)) -> Result {
        let (key, report) = (key(&self.agent.caller_id()?), json::encode(report)?);
        let store = self.agent.store();
        let is_full = |kept: &Result| kept.as_ref().is_err_and(|failure| failure.code() == "store-full");
        let mut kept = store.set_text(&key, &report);
        if is_full(&kept) {
            self.forget_the_gone()?;
            kept = store.set_text(&key, &report);
        }
        if is_full(&kept) {
            let mut larger = store.entries_text(PREFIX);
            larger.retain(|(_, other)| other.len() > report.len());
            larger.sort_unstable_by_key(|(_, other)| other.len());
            while is_full(&kept)
                && let Some((largest, _)) = larger.pop()
            {
                store.delete(&largest);
                kept = store.set_text(&key, &report);
            }
        }
        kept
    }

    /// The reports, by server id. Fails with `bad-value` where one is not of this type.
    pub fn all<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>> {
        let present = self.present()?;
        let reports = self.agent.store().entries(PREFIX)?.into_iter();
        Ok(reports.map(|(key, report)| (server(&key).to_owned(), report)).filter(|(id, _)| present(id)).collect())
    }

    /// Removes the reports of servers that have left. Call it at every turn of the timer, because these reports stay in the store otherwise,
    /// although [`all`](Reports::all) leaves them out.
    pub fn forget_the_gone(&self) -> Result {
        let present = self.present()?;
        for (key, _) in self.agent.store().entries_text(PREFIX) {
            if !present(server(&key)) {
                self.agent.store().delete(&key);
            }
        }
        Ok(())
    }

    /// Drops the reports of servers that have left, and asks all others for a new one, with an empty message: to be called at every turn of the
    /// timer. Fails as [`Cluster::notify`](crate::Cluster::notify) does.
    pub fn ask_all(&self) -> Result {
        self.forget_the_gone()?;
        self.agent.cluster().notify(&["*"], &())
    }

    /// Asks the servers that have come for their first report, with an empty message. Call it from `server_events`, so that a new server need
    /// not wait for the next turn of the timer. Fails as [`Cluster::notify`](crate::Cluster::notify) does.
    pub fn ask_arrived(&self, arrivals: &Arrivals) -> Result {
        let came = |event: &&Event| event.event != "disconnect";
        let ids: Vec<_> = arrivals.events.iter().filter(came).map(|event| event.id.as_str()).collect();
        match self.agent.cluster().notify(&ids, &()) {
            // A server that has left again meanwhile needs no message.
            Err(failure) if failure.code() == "not-found" => Ok(()),
            outcome => outcome,
        }
    }

    /// Who is in the server table now. The ids are kept by the instance until the table changes, because the table is large and every question needs them.
    fn present(&self) -> Result<impl Fn(&str) -> bool + use<>> {
        let revision = self.agent.cluster().revision()?;
        let kept = PRESENT.with_borrow(|kept| kept.clone().filter(|kept| kept.revision == revision));
        let present = match kept {
            Some(present) => present,
            None => {
                let Servers { rev, epoch, servers, .. } = self.agent.cluster().servers::<IgnoredAny>()?;
                let ids = servers.into_keys().collect();
                let present = Rc::new(Present { revision: Revision { epoch, rev }, ids });
                PRESENT.set(Some(present.clone()));
                present
            }
        };
        Ok(move |id: &str| present.ids.contains(id))
    }
}

/// Who was in the server table at a revision.
struct Present {
    revision: Revision,
    ids: BTreeSet<String>,
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<Present>>> = const { RefCell::new(None) };
}

/// Which servers came and went: the message of `server_events`, as [`Reports::ask_arrived`] takes it.
#[derive(Debug, Deserialize)]
pub struct Arrivals {
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    id: String,
}

fn key(server: &str) -> String {
    [PREFIX, server].concat()
}

fn server(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}
