//! `cluster`: the master's way to its monitors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::{Failure, code};
use crate::plugin::AnswerBounds;
use crate::plugin::bindings::pomelo::admin::cluster::{Host, TableRevision};
use crate::plugin::bindings::pomelo::admin::types;
use crate::plugin::instance_state::InstanceState;

/// Targets as a module wrote them: server ids, `type:NAME`, `*`, `ID@HOST:PORT`.
pub type Targets = Vec<String>;
/// What each of several servers answered, by id.
pub type Answers = Vec<(String, Result<Box<RawValue>, Failure>)>;

/// What the interface `cluster` acts on.
pub trait Cluster: Send + Sync + 'static {
    /// The server table: JSON with `rev`, `epoch` and `servers`.
    fn servers(&self) -> Arc<RawValue>;
    /// The table's `epoch` and `rev`.
    fn revision(&self) -> (String, u64);
    /// Ids of the servers that are to run, the master's own among them: configured or added, and not kept down.
    fn configured(&self) -> Vec<String>;
    /// Asks all servers that the targets name. `depth` says how many calls the requests are nested in. The answers are one pair for each server,
    /// and one for each target that names no server. Answers that are out of bounds are failures of their servers.
    fn request_many(
        &self,
        targets: Targets,
        module: String,
        msg: Arc<RawValue>,
        depth: u8,
        deadline: Instant,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Answers>;
    /// Sends requests whose answers are collected, and whose failures are logged, in the background.
    fn tell(&self, targets: Targets, module: String, msg: Arc<RawValue>, depth: u8) -> Result<(), Failure>;
    /// Sends messages that are not answered.
    fn notify(&self, targets: Targets, module: String, msg: Arc<RawValue>) -> Result<(), Failure>;
}

/// The longest time that a module may ask to wait for an answer.
const LONGEST: Duration = Duration::from_secs(3600);

impl InstanceState {
    fn cluster(&self, module: &str) -> Result<Arc<dyn Cluster>, Failure> {
        let cluster = self.call()?.context.services.cluster.clone();
        let cluster = cluster.ok_or_else(|| not_available("cluster", "only a master has it"))?;
        self.may_address("cluster", module)?;
        Ok(cluster)
    }
}

impl InstanceState {
    async fn ask(
        &mut self,
        targets: Targets,
        module: String,
        msg: String,
        deadline_ms: u32,
        bounds: AnswerBounds,
    ) -> Result<Answers, Failure> {
        let cluster = self.cluster(&module)?;
        let msg = self.json(msg)?.into();
        let (depth, deadline) = self.nested(milliseconds(deadline_ms))?;
        Ok(self.wait(cluster.request_many(targets, module, msg, depth, deadline, bounds)).await)
    }
}

fn text(answer: Box<RawValue>) -> String {
    String::from(Box::<str>::from(answer))
}

fn milliseconds(deadline: u32) -> Duration {
    Duration::from_millis(deadline.into()).min(LONGEST)
}

impl Host for InstanceState {
    fn servers(&mut self) -> Result<String, types::Failure> {
        let id = self.call()?.context.id.clone();
        Ok(self.cluster(&id)?.servers().get().to_owned())
    }

    fn revision(&mut self) -> Result<TableRevision, types::Failure> {
        let id = self.call()?.context.id.clone();
        let (epoch, rev) = self.cluster(&id)?.revision();
        Ok(TableRevision { epoch, rev })
    }

    fn configured(&mut self) -> Result<Vec<String>, types::Failure> {
        let id = self.call()?.context.id.clone();
        Ok(self.cluster(&id)?.configured())
    }

    async fn request(
        &mut self,
        target: String,
        module: String,
        msg: String,
        deadline_ms: u32,
    ) -> Result<String, types::Failure> {
        let mut answers = self.ask(vec![target.clone()], module, msg, deadline_ms, self.answer_bounds[0]).await?;
        match (answers.pop(), answers.is_empty()) {
            (Some((_, answer)), true) => Ok(text(answer?)),
            (Some(_), false) => {
                let message = format!("`{target}` names {} servers: use request-many", answers.len() + 1);
                Err(Failure::new(code::BAD_MESSAGE, message).into())
            }
            (None, _) => Err(Failure::new(code::NOT_FOUND, format!("no server matches `{target}`")).into()),
        }
    }

    async fn request_many(
        &mut self,
        targets: Vec<String>,
        module: String,
        msg: String,
        deadline_ms: u32,
    ) -> Result<Vec<(String, Result<String, types::Failure>)>, types::Failure> {
        let answers = self.ask(targets, module, msg, deadline_ms, self.answer_bounds[1]).await?;
        Ok(answers.into_iter().map(|(id, answer)| (id, answer.map(text).map_err(Into::into))).collect())
    }

    fn tell(&mut self, targets: Vec<String>, module: String, msg: String) -> Result<(), types::Failure> {
        let cluster = self.cluster(&module)?;
        let (depth, _) = self.nested(Duration::ZERO)?;
        Ok(cluster.tell(targets, module, self.json(msg)?.into(), depth)?)
    }

    fn notify(&mut self, targets: Vec<String>, module: String, msg: String) -> Result<(), types::Failure> {
        let cluster = self.cluster(&module)?;
        Ok(cluster.notify(targets, module, self.json(msg)?.into())?)
    }
}
