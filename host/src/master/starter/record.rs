//! What the starter keeps in the master's database: servers that were stopped on purpose, and servers that were added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::failure::{Failure, code};
use crate::plugin::Keeper;
use crate::state_db::StateDb;
use crate::wire::Info;

/// The name under which the database has these keys.
const HOST: &str = "starter";
/// Scope of the ids of servers that are kept down. It keeps the word that existing databases have.
const KEPT_DOWN: &str = "held";
/// Scope of the servers that were added, by id, each as JSON.
const ADDED: &str = "added";

/// The starter's record. Without a database it lasts as long as the process.
#[derive(Default)]
pub struct Record {
    database: Option<(Arc<StateDb>, Arc<dyn Keeper>)>,
    kept_down: Mutex<BTreeSet<String>>,
}

impl Record {
    /// The record in a master's database.
    pub fn new(state: Option<Arc<StateDb>>) -> Self {
        let database = state.map(|state| {
            let keeper = state.of(HOST);
            (state, keeper)
        });
        let kept_down = database.iter().flat_map(|(_, keeper)| keeper.load(KEPT_DOWN)).map(|(id, _)| id).collect();
        Record { database, kept_down: Mutex::new(kept_down) }
    }

    /// Whether a server was stopped on purpose.
    pub(super) fn is_kept_down(&self, id: &str) -> bool {
        self.kept_down.lock().contains(id)
    }

    /// The servers that were stopped on purpose.
    pub(super) fn kept_down(&self) -> Vec<String> {
        self.kept_down.lock().iter().cloned().collect()
    }

    /// Notes whether servers are kept down.
    ///
    /// # Errors
    /// `failed` if that cannot be written. Then all is as before.
    pub(super) async fn set_kept_down(&self, ids: &[String], down: bool) -> Result<(), Failure> {
        let changed: Vec<&String> = {
            let mut kept_down = self.kept_down.lock();
            ids.iter().filter(|id| if down { kept_down.insert((*id).clone()) } else { kept_down.remove(*id) }).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let put = |down: bool| changed.iter().for_each(|id| self.put(KEPT_DOWN, id, down.then(|| "1".into())));
        put(down);
        let outcome = self.written().await;
        if outcome.is_err() {
            let mut kept_down = self.kept_down.lock();
            for id in &changed {
                if down {
                    kept_down.remove(*id)
                } else {
                    kept_down.insert((*id).clone())
                };
            }
            // What waits to be written gets the old value back.
            put(!down);
        }
        outcome
    }

    /// The servers that were added, as they were.
    pub(super) fn added(&self) -> BTreeMap<String, Info> {
        let entries = self.database.iter().flat_map(|(_, keeper)| keeper.load(ADDED));
        let info = |(id, text): (String, String)| match serde_json::from_str(&text) {
            Ok(info) => Some((id, info)),
            Err(error) => {
                tracing::error!(server = %id, %error, "the entry of an added server in the database cannot be read, and is ignored");
                None
            }
        };
        entries.filter_map(info).collect()
    }

    /// Keeps a server that was added, or forgets it.
    pub(super) fn put_added(&self, id: &str, info: Option<&Info>) {
        self.put(ADDED, id, info.map(|info| crate::wire::raw(info).get().into()));
    }

    /// Waits until all changes are on the disk, so that an answer after it holds even if the machine loses its power.
    pub(super) async fn written(&self) -> Result<(), Failure> {
        let Some((state, _)) = &self.database else { return Ok(()) };
        let state = state.clone();
        match tokio::task::spawn_blocking(move || state.flush()).await {
            Ok(true) => Ok(()),
            _ => Err(Failure::new(code::FAILED, "the master's data directory cannot be written: see the log")),
        }
    }

    fn put(&self, scope: &str, key: &str, value: Option<Arc<str>>) {
        if let Some((_, keeper)) = &self.database {
            keeper.put(scope, key, value);
        }
    }
}
