//! Keeps the fleet in the master's database.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

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
}

impl Kept {
    /// The part of that database.
    pub fn new(state: Arc<StateDb>) -> Self {
        let keeper = state.of(HOST);
        Kept { state, keeper }
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
        self.keeper.load(scope(shelf))
    }

    fn put(&self, shelf: Shelf, key: &str, value: Option<String>) {
        self.keeper.put(scope(shelf), key, value.map(Into::into));
    }

    fn written(&self) -> BoxFuture<'static, Result<(), Failure>> {
        let state = self.state.clone();
        async move {
            match tokio::task::spawn_blocking(move || state.flush()).await {
                Ok(true) => Ok(()),
                _ => Err(Failure::new(code::FAILED, "the master's data directory cannot be written: see the log")),
            }
        }
        .boxed()
    }
}
