//! What modules see as `application`, wherever the application is.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::crons::Crons;
use super::view::ViewContents;
use super::{CALL_DEADLINE, Reach, View, not_offered, own};
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::plugin::capability::Application;
use crate::wire::{Info, raw};

/// The view, the crons, and the way to the application. A change of the view is done when the file has it and the application, if it offers the
/// function, has answered.
pub(in crate::monitor) struct Served {
    id: String,
    view: View,
    crons: Crons,
    reach: Arc<dyn Reach>,
}

type Done = BoxFuture<'static, Result<(), Failure>>;

impl Served {
    pub(in crate::monitor) fn new(id: &str, view: View, reach: Arc<dyn Reach>) -> Self {
        Served { id: id.to_owned(), view, crons: Crons::new(id, reach.clone()), reach }
    }

    /// From now on crons are fired only while `is_ready` says so; `journal` is told of those that are not.
    pub(in crate::monitor) fn fire_only_while(
        &self,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
        journal: Journal,
    ) {
        self.crons.only_while(is_ready, journal);
    }

    /// Changes the view and tells the application. The view stays locked until the call is on its way, so that the application is told of changes in
    /// their order.
    fn change<A: Serialize>(&self, name: &'static str, change: impl FnOnce(&mut ViewContents) -> A) -> Done {
        let (told, written) = self.view.change(|state| {
            let args = change(state);
            self.reach.has(name).then(|| self.reach.call(name, &raw(&args), CALL_DEADLINE))
        });
        async move {
            written.await?;
            match told {
                Some(told) => told.await.map(drop),
                None => Ok(()),
            }
        }
        .boxed()
    }
}

impl Application for Served {
    fn add_servers(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<(), Failure>> {
        let id = |info: &Info| info.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
        // If one server has no `id`, none is added, because half of a change would leave a view that nobody asked for.
        let Some(ids) = servers.iter().map(id).collect::<Option<Vec<_>>>() else {
            return ready(Err(Failure::new(code::BAD_MESSAGE, "a server without an `id`"))).boxed();
        };
        self.change(own::ADD_SERVERS, |state| {
            state.servers.extend(ids.into_iter().zip(servers.iter().cloned().map(Value::Object)));
            servers
        })
    }

    fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(own::REMOVE_SERVERS, |state| {
            ids.iter().for_each(|id| drop(state.servers.remove(id)));
            ids
        })
    }

    fn replace_servers(&self, servers: Map<String, Value>) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(own::REPLACE_SERVERS, |state| {
            state.servers.clone_from(&servers);
            servers
        })
    }

    fn servers(&self) -> Map<String, Value> {
        self.view.look(|state| state.servers.clone())
    }

    fn start_over(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(own::START_OVER, |state| {
            state.start_over = true;
        })
    }

    fn offers(&self) -> Vec<String> {
        let mut offers = self.reach.offers();
        offers.retain(|name| !own::ALL.contains(&name.as_str()));
        offers
    }

    fn call(&self, name: String, args: Box<RawValue>) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        if own::ALL.contains(&name.as_str()) {
            // A module that could call these functions could make the application's view differ from the file's.
            return ready(Err(not_offered(&self.id, &name, &self.reach.offers()))).boxed();
        }
        // The caller may give up earlier, by its own deadline.
        self.reach.call(&name, &args, CALL_DEADLINE)
    }

    fn add_crons(&self, crons: Vec<Map<String, Value>>) -> BoxFuture<'_, Result<(), Failure>> {
        ready(self.crons.add(crons)).boxed()
    }

    fn remove_crons(&self, ids: Vec<String>) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        ready(Ok(self.crons.remove(ids))).boxed()
    }

    fn crons(&self) -> Vec<Value> {
        self.crons.list()
    }
}
