//! Keeps the fleet in the master's database.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::failure::{Failure, code};
use crate::fleet::{Shelf, Store};
use crate::plugin::Keeper;
use crate::state_db::StateDb;

/// The name under which the database has the fleet.
const HOST: &str = "fleet";

/// The fleet's part of a master's database.
pub struct Kept {
    state: Arc<StateDb>,
    keeper: Arc<dyn Keeper>,
    /// What was there at the beginning, until it is asked for.
    first: Mutex<HashMap<Shelf, Vec<(String, String)>>>,
}

impl Kept {
    /// The part of that database. All of it is read, because a fleet that cannot be read must not be taken for an empty one.
    ///
    /// # Errors
    /// `failed` where it cannot be read.
    pub fn new(state: Arc<StateDb>) -> Result<Self, Failure> {
        let keeper = state.of(HOST);
        let mut first = HashMap::new();
        for shelf in [Shelf::Servers, Shelf::Jobs] {
            first.insert(shelf, keeper.load(scope(shelf))?);
        }
        Ok(Kept { state, keeper, first: Mutex::new(first) })
    }
}

fn scope(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Servers => "servers",
        Shelf::Jobs => "jobs",
    }
}

impl Store for Kept {
    fn load(&self, shelf: Shelf) -> Vec<(String, String)> {
        self.first.lock().remove(&shelf).unwrap_or_default()
    }

    fn put(&self, shelf: Shelf, key: &str, value: Option<String>) {
        self.keeper.put(scope(shelf), key, value.map(Into::into));
    }

    fn written(&self) -> BoxFuture<'static, Result<(), Failure>> {
        let state = self.state.clone();
        async move {
            match tokio::task::spawn_blocking(move || state.flush()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(unwritten)) => Err(Failure::new(code::FAILED, unwritten.to_string())),
                Err(_) => Err(Failure::new(code::NOT_AVAILABLE, "the master is ending")),
            }
        }
        .boxed()
    }
}
