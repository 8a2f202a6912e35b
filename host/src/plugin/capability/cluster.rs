//! `cluster`: the master's way to its monitors.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::cluster::{Host, TableRevision};
use crate::plugin::bindings::pomelo::admin::types;
use crate::plugin::instance_state::InstanceState;
use crate::plugin::{AnswerBounds, Gathered, ModuleMessage};

/// Targets as a module wrote them: server ids, `type:NAME`, `*`, `ID@HOST:PORT`.
pub type Targets = Vec<String>;
/// What each of several servers answered, by id.
pub type Answers = Vec<(String, Result<Box<RawValue>, Failure>)>;

/// What the interface `cluster` acts on.
pub trait Cluster: Send + Sync + 'static {
    /// The server table: JSON with `rev`, `epoch` and `servers`.
    fn servers(&self) -> Arc<RawValue>;
    /// What the table holds for a server, if it is in it.
    fn server(&self, id: &str) -> Option<Arc<RawValue>>;
    /// The table's `epoch` and `rev`.
    fn revision(&self) -> (String, u64);
    /// Ids of the servers that are to run, the master's own among them: configured or added, and not kept down.
    fn configured(&self) -> Vec<String>;
    /// Asks all servers that the targets name. The answers are one pair for each server, and one for each target that names no server. Answers that are out
    /// of bounds are failures of their servers, and so is a server for which there was no room. Fails with `busy` where no more may be held for the module.
    fn request_many(
        &self,
        targets: Targets,
        message: ModuleMessage,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Result<Gathered, Failure>>;
    /// Sends requests whose answers are collected, and whose failures are logged, in the background. Waits until there is room for them, and fails with
    /// `busy` where there is none until the message's deadline.
    fn tell(&self, targets: Targets, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>>;
    /// Sends messages that are not answered. Waits as `tell` does.
    fn notify(&self, targets: Targets, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>>;
}

/// Bytes that a target may have: an id, a host and a port.
const MAX_TARGET: usize = 512;
/// What the host keeps for a target, beside its text and the text of the failure if it names nobody.
const TARGET: usize = 256;

/// What the host keeps for targets, bytes.
///
/// # Errors
/// `bad-message` for a target that is too long.
fn weigh(targets: &Targets) -> Result<usize, Failure> {
    if let Some(long) = targets.iter().find(|target| target.len() > MAX_TARGET) {
        let message = format!("a target has at most {MAX_TARGET} bytes, this one {}", long.len());
        return Err(Failure::new(code::BAD_MESSAGE, message));
    }
    Ok(targets.iter().map(|target| 2 * target.len() + TARGET).sum())
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
        let msg = self.message_to(&targets, msg)?;
        let (depth, deadline) = self.nested(milliseconds(deadline_ms))?;
        let message = ModuleMessage { from: self.account().clone(), module, msg, depth, deadline };
        Ok(self.wait(cluster.request_many(targets, message, bounds)).await?.into_answers())
    }

    /// A message of the guest's to targets. Both are charged to the module.
    fn message_to(&mut self, targets: &Targets, msg: String) -> Result<Arc<RawValue>, Failure> {
        let weight = weigh(targets)?;
        let msg = self.json(msg)?;
        self.holds(msg.get().len() + weight)?;
        Ok(msg.into())
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

    fn server(&mut self, id: String) -> Result<Option<String>, types::Failure> {
        let module = self.call()?.context.id.clone();
        Ok(self.cluster(&module)?.server(&id).map(|info| info.get().to_owned()))
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

    async fn tell(&mut self, targets: Vec<String>, module: String, msg: String) -> Result<(), types::Failure> {
        let cluster = self.cluster(&module)?;
        let (depth, deadline) = self.nested(LONGEST)?;
        let msg = self.message_to(&targets, msg)?;
        let message = ModuleMessage { from: self.account().clone(), module, msg, depth, deadline };
        Ok(self.wait_if_pending(cluster.tell(targets, message)).await?)
    }

    async fn notify(&mut self, targets: Vec<String>, module: String, msg: String) -> Result<(), types::Failure> {
        let cluster = self.cluster(&module)?;
        let msg = self.message_to(&targets, msg)?;
        let message = ModuleMessage { from: self.account().clone(), module, msg, depth: 0, deadline: self.sent_by()? };
        Ok(self.wait_if_pending(cluster.notify(targets, message)).await?)
    }
}
