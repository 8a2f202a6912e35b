//! What modules see of the fleet: the interface `starter`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MasterFleet;
use crate::failure::{Failure, code};
use crate::fleet::job::{Job, JobId, Kind, Messages, Options, Request};
use crate::fleet::{Named, Origin, Place, ServerRecord, State, Wanted};
use crate::plugin::capability::Starter;
use crate::wire::{Info, raw};

/// Servers that one order may name.
const MAX_NAMED: usize = 10_000;

/// The fleet for modules.
pub(in crate::master) struct Control(pub Arc<MasterFleet>);

/// An order, as a module gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Order {
    kind: Kind,
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "type")]
    server_type: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    servers: Vec<Info>,
    #[serde(default)]
    options: Options,
    /// What `apply` is to take over: the digest that came with the plan.
    #[serde(default)]
    plan: Option<String>,
    #[serde(default)]
    queue: bool,
    #[serde(default)]
    messages: Messages,
}

/// A server, as modules see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    server_type: String,
    origin: &'static str,
    place: Place,
    wanted: &'static str,
    wanted_by: String,
    wanted_since: u64,
    state: &'static str,
    since: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    exits: Vec<crate::fleet::LastExit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
}

impl Shown {
    fn new(record: ServerRecord, job: Option<JobId>) -> Self {
        Shown {
            origin: match record.origin {
                Origin::Configured => "configured",
                Origin::Added(_) => "added",
                Origin::Joined => "joined",
            },
            wanted: record.wanted.as_str(),
            state: record.state.as_str(),
            id: record.id,
            server_type: record.server_type,
            place: record.place,
            wanted_by: record.wanted_by,
            wanted_since: record.wanted_since,
            since: record.since,
            why: record.why,
            restarts: record.restarts,
            ready_ms: record.ready_ms,
            connections: record.connections,
            exits: record.exits,
            job,
        }
    }
}

impl Control {
    /// The servers that an order means, each once, in the fleet's order. The master is the last where it is meant.
    fn meant(&self, order: &Order) -> Result<Vec<String>, Failure> {
        let fleet = &self.0.fleet;
        let bad = |what: &str| Err(Failure::new(code::BAD_MESSAGE, what));
        match (&order.ids, &order.server_type, order.all) {
            (Some(ids), None, false) => {
                if ids.len() > MAX_NAMED {
                    return bad("an order names at most 10000 servers");
                }
                let mut seen = BTreeSet::new();
                Ok(ids.iter().filter(|id| seen.insert(id.as_str())).cloned().collect())
            }
            (None, Some(server_type), false) => {
                let servers = fleet.servers().into_iter().filter(|record| record.server_type == *server_type);
                let ids = those(order.kind, servers);
                let none = || {
                    Failure::new(
                        code::NOT_FOUND,
                        format!("there is no server of type `{server_type}` to {}", order.kind.as_str()),
                    )
                };
                if ids.is_empty() { Err(none()) } else { Ok(ids) }
            }
            (None, None, true) => {
                let own = matches!(order.kind, Kind::Stop | Kind::Kill).then(|| self.0.own.clone());
                Ok(those(order.kind, fleet.servers().into_iter()).into_iter().chain(own).collect())
            }
            _ => bad("an order has one of `ids`, `type` and `all`"),
        }
    }

    async fn begin(&self, mut order: Order, module: String, by: String) -> Result<Job, Failure> {
        let fleet = &self.0;
        // Held until the job owns the servers that are added.
        let _adding = match order.kind {
            Kind::Add | Kind::Apply => Some(fleet.adding.lock().await),
            _ => None,
        };
        let mut messages = std::mem::take(&mut order.messages);
        if messages.module.is_empty() {
            messages.module = module;
        }
        if order.kind == Kind::Apply {
            let changes = fleet.apply(order.plan.as_deref(), order.queue, &by).await?;
            let mut request = Request::new(order.kind, [], by);
            // Another job may have taken a server meanwhile. The files are in force, so that this one is not refused.
            (request.options, request.queue, request.messages) = (order.options, true, messages);
            (request.servers, request.late, request.notes) = (changes.servers, changes.late, changes.notes);
            let begun = fleet.jobs.submit(request).await;
            fleet.fleet.unreserve(&changes.reserved);
            return begun.map_err(|Failure { code, message }| {
                let message = format!("the files are in force, but the servers were not brought to them: {message}");
                Failure { code, message }
            });
        }
        let ids = match order.kind {
            Kind::Add => {
                // A server that is being started must not be added a second time, although it is not connected yet.
                let up = fleet
                    .fleet
                    .servers()
                    .into_iter()
                    .filter(|record| !record.state.is_down() || record.state == State::Pending);
                let connected = fleet.members.snapshot().servers.into_keys();
                let running: Vec<String> = connected.chain(up.map(|record| record.id)).collect();
                let name = |new: &[String], all: &[Named]| {
                    // Before they are named, so that nobody else starts them.
                    fleet.fleet.reserve(new);
                    fleet.fleet.name(all);
                };
                fleet.starter.add(&order.servers, &running, name).await?
            }
            _ => self.meant(&order)?,
        };
        let added = (order.kind == Kind::Add).then(|| ids.clone());
        let mut request = Request::new(order.kind, ids, by);
        // Where the whole cluster ends, the next master is to start it.
        request.until_next_master = order.all && matches!(order.kind, Kind::Stop | Kind::Kill);
        (request.options, request.queue, request.messages) = (order.options, order.queue, messages);
        let begun = fleet.jobs.submit(request).await;
        if begun.is_err() {
            fleet.fleet.unreserve(added.as_deref().unwrap_or_default());
            for id in added.into_iter().flatten() {
                fleet.starter.forget(&id);
                fleet.fleet.forget(&id);
            }
        }
        begun
    }
}

/// The servers that an order means which names none. A restart or a drain passes over those that are to be down, and those that nobody has seen.
fn those(kind: Kind, servers: impl Iterator<Item = ServerRecord>) -> Vec<String> {
    let only_up = matches!(kind, Kind::Restart | Kind::Drain);
    let is_up = |record: &ServerRecord| record.wanted == Wanted::Up && record.state != State::Elsewhere;
    servers.filter(|record| !only_up || is_up(record)).map(|record| record.id).collect()
}

impl Starter for Control {
    fn servers(&self) -> Box<RawValue> {
        let fleet = &self.0.fleet;
        let shown = fleet.servers().into_iter().map(|record| {
            let job = fleet.owner(&record.id);
            Shown::new(record, job)
        });
        raw(&shown.collect::<Vec<_>>())
    }

    fn submit(
        &self,
        order: Box<RawValue>,
        module: String,
        by: String,
    ) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        async move {
            let order: Order = serde_json::from_str(order.get())
                .map_err(|error| Failure::new(code::BAD_MESSAGE, format!("malformed order: {error}")))?;
            // A task of its own: what is begun is begun as a whole, also if whoever ordered it does not wait any longer.
            let control = Control(self.0.clone());
            let begun = tokio::spawn(async move { control.begin(order, module, by).await });
            let begun =
                begun.await.map_err(|error| Failure::new(code::FAILED, format!("it was not begun: {error}")))?;
            Ok(raw(&begun?))
        }
        .boxed()
    }

    fn jobs(&self) -> Box<RawValue> {
        raw(&self.0.jobs.list())
    }

    fn wait(&self, job: u64, revision: u64, at_most: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        async move { Ok(raw(&self.0.jobs.wait(job, revision, at_most).await?)) }.boxed()
    }

    fn cancel(&self, job: u64, by: String) -> Result<Box<RawValue>, Failure> {
        Ok(raw(&self.0.jobs.cancel(job, &by)?))
    }

    fn resume(&self, job: u64) -> Result<Box<RawValue>, Failure> {
        Ok(raw(&self.0.jobs.resume(job)?))
    }

    fn undrain(&self, ids: Vec<String>) -> Vec<String> {
        ids.into_iter().filter(|id| self.0.jobs.undrain(id)).collect()
    }
}
