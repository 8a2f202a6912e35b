//! The watchdog keeps every server's view of the cluster equal to the master's.
//!
//! It is one module with two ids. On the master (`__masterwatcher__`) it tells its *listeners*, the monitors that have subscribed, what changes in the
//! master's server table, also while their own server is not in it. On a monitor (`__monitorwatcher__`) it subscribes, and hands what it is told to the served application.
//!
//! # Revisions
//! The table has a revision `rev`, which grows with every change, and an `epoch`, a word that every process of the master draws anew. Every message between
//! our own watchdogs carries both. A monitor keeps those of its view, the view's *mark*.
//!
//! - `update` says what changed between the revisions `since` and `rev`, as the net effect on each server. It is applied to any view that stands between the
//!   two, because applying a change a second time does no harm, and servers that came and left between the two are among those that have left. Where they
//!   are too many, the update is `exact`, and applied only to a view that stands at `since`. An update that is older than the view is ignored.
//! - A view to which an update cannot be applied, or that is of another epoch, has a *gap*. The monitor then asks (`query`) and says where its view stands. It is
//!   answered with the changes since then, as those of an update, if the master's side still has them and they are much shorter than the table, or else with the whole
//!   table, which replaces the view. So does a monitor whose view has no mark, and, every ten seconds, one whose revision differs from the master's.
//! - A monitor that comes back is sent an update with all that the listeners were told since it left, or else the whole table.
//! - A whole table that arrives replaces the view, unless the view is of the same epoch and newer.
//!
//! # Order
//! All callbacks of both sides are serial. So messages are handled in the order of their arrival, and updates that come before a monitor's first table wait
//! for it. Only the `start` of a new version runs beside the handlers of the version before it. Each of the two draws a ticket before it touches the view. The
//! one that finds that the other has drawn a ticket meanwhile asks for the table again. While a view is being replaced it has no mark, so that a trap at any
//! point leaves a gap, which the timer closes.
//!
//! # pomelo's own servers
//! A monitor says that it understands revisions by a member `rev` in its `subscribe` and `query`. A monitor without it is a server of pomelo 2.x. It gets
//! plain tables, and an `addServer` or `removeServer` for each change; where many come at once, the table in a `replaceServer`.
//!
//! # An original master
//! A monitor of ours recognizes an original master because it answers with the table alone. The monitor carries out each change in turn. It asks for the
//! whole table only if a change could not be carried out, and once after its start, when a change may have been missed. It says only once that it has
//! started, because an original master counts these messages.

#[cfg(test)]
mod crowd;
mod history;
mod master;
mod monitor;
mod net_changes;
#[cfg(test)]
mod original;
mod protocol;
#[cfg(test)]
mod simulation;

use std::cell::RefCell;
use std::rc::Rc;

use pomelo_sdk::Revision;
use pomelo_sdk::prelude::*;

use history::History;
use protocol::{Answer, Batch, Info, Infos, Known, MASTER_ID, MONITOR_ID, Order, Request, Table};

struct Watchdog;

#[module(
    id("__masterwatcher__", roles(master)),
    id("__monitorwatcher__", roles(monitor), push, interval = 10),
    serial(master_handler, monitor_handler, server_events, start),
    limits(answer_kib = 4096, message_kib = 4096, memory_mib = 48, store_kib = 1024)
)]
impl Watchdog {
    fn master_handler(agent: &Agent, msg: Request) -> Result<Answer> {
        master::handle(&Master(agent), &agent.caller_id()?, &msg)
    }

    fn server_events(agent: &Agent, batch: Batch) -> Result {
        master::changed(&Master(agent), batch)
    }

    fn monitor_handler(agent: &Agent, msg: Option<Order>) -> Result<u8> {
        match msg {
            Some(order) => monitor::obey(&Monitor(agent), order)?,
            None => monitor::check(&Monitor(agent))?,
        }
        Ok(protocol::OK)
    }

    fn start(agent: &Agent) -> Result {
        // The master's side begins with the first subscription.
        if agent.module_id() == MONITOR_ID { monitor::start(&Monitor(agent)) } else { Ok(()) }
    }
}

/// A table that is older than this, and no longer the newest, is read anew.
const OLD: Duration = Duration::from_secs(5);

thread_local! {
    /// The table that this instance has read last, and when. It is kept because a whole cluster may subscribe at once, and each subscriber is given the table.
    static TABLE: RefCell<Option<(Rc<Table>, Duration)>> = const { RefCell::new(None) };
    /// What this instance has told the listeners last.
    static HISTORY: RefCell<History> = RefCell::default();
}

/// The host as the master's side sees it.
struct Master<'a>(&'a Agent);

impl master::Host for Master<'_> {
    fn id(&self) -> String {
        self.0.server_id()
    }

    fn table(&self, from: u64) -> Result<Rc<Table>> {
        let Revision { epoch, rev, .. } = self.0.cluster().revision()?;
        let (from, now) = (from.min(rev), self.now());
        let kept = TABLE.with_borrow(|kept| {
            let (table, read) = kept.as_ref()?;
            // Changes are told within moments. Where that fails, whoever asks must not be given what was true long ago.
            let is_new = table.rev == rev || now.saturating_sub(*read) < OLD;
            (table.epoch == epoch && table.rev >= from && is_new).then(|| table.clone())
        });
        if let Some(table) = kept {
            return Ok(table);
        }
        let table: Rc<Table> = Rc::new(self.0.cluster().table()?);
        TABLE.set(Some((table.clone(), now)));
        Ok(table)
    }

    fn rev(&self) -> Result<u64> {
        Ok(self.0.cluster().revision()?.rev)
    }

    fn server(&self, id: &str) -> Result<Option<Info>> {
        self.0.cluster().server(id)
    }

    fn configured(&self) -> Result<Vec<String>> {
        self.0.cluster().configured()
    }

    fn tell(&self, ids: &[&str], order: &Order) -> Result {
        self.0.cluster().module(MONITOR_ID).tell(ids, order)
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn members(&self, prefix: &str) -> Result<Vec<(String, master::Member)>> {
        self.0.store().entries(prefix)
    }

    fn member(&self, key: &str) -> Result<Option<master::Member>> {
        self.0.store().get(key)
    }

    fn set_member(&self, key: &str, member: &master::Member) -> Result {
        self.0.store().set(key, member)
    }

    fn delete(&self, key: &str) {
        self.0.store().delete(key);
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.store().get_text(key)
    }

    fn set_text(&self, key: &str, text: &str) -> Result {
        self.0.store().set_text(key, text)
    }

    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        HISTORY.with_borrow_mut(look)
    }
}

/// The host as a monitor's side sees it.
struct Monitor<'a>(&'a Agent);

impl monitor::Host for Monitor<'_> {
    fn ask(&self, request: &Request) -> Result<Known> {
        let answer = self.0.uplink().module(MASTER_ID).request(request, protocol::DEADLINE)?;
        Ok(protocol::known(answer)?)
    }

    fn notify(&self, request: &Request) -> Result {
        self.0.uplink().module(MASTER_ID).notify(request)
    }

    fn id(&self) -> String {
        self.0.server_id()
    }

    fn add(&self, servers: &[protocol::Info]) -> Result {
        self.0.application().add_servers(servers)
    }

    fn remove(&self, ids: &[String]) -> Result {
        self.0.application().remove_servers(ids)
    }

    fn replace(&self, servers: &Infos) -> Result {
        self.0.application().replace_servers(servers)
    }

    fn start_over(&self) -> Result {
        self.0.application().start_over()
    }

    fn read(&self, key: &str) -> Option<String> {
        self.0.store().get_text(key)
    }

    fn swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool> {
        self.0.store().compare_and_swap(key, expected, new)
    }

    fn write(&self, key: &str, text: Option<&str>) -> Result {
        match text {
            Some(text) => self.0.store().set_text(key, text),
            None => {
                self.0.store().delete(key);
                Ok(())
            }
        }
    }
}
