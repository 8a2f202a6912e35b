//! `starter`: the fleet of the master, and the jobs that act on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::Failure;
use crate::plugin::bindings::pomelo::admin::{starter::Host, types};
use crate::plugin::instance_state::InstanceState;
use crate::plugin::{Caller, CallerRole};

/// The longest time of one wait for a job.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the interface `starter` acts on. Forms are those of the interface.
pub trait Starter: Send + Sync + 'static {
    /// The servers of the fleet.
    fn servers(&self) -> Box<RawValue>;
    /// Begins a job. `module` is asked on the servers' side, unless the order names another; `by` is who asks.
    fn submit(&self, order: Box<RawValue>, module: String, by: String)
    -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// The jobs that are kept, the newest first.
    fn jobs(&self) -> Box<RawValue>;
    /// Waits until a job has changed since that revision.
    fn wait(&self, job: u64, revision: u64, at_most: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Cancels a job.
    fn cancel(&self, job: u64, by: String) -> Result<Box<RawValue>, Failure>;
    /// Lets a paused job go on.
    fn resume(&self, job: u64) -> Result<Box<RawValue>, Failure>;
    /// Takes the drain of servers back. The ids of those that drained.
    fn undrain(&self, ids: Vec<String>) -> Vec<String>;
}

impl InstanceState {
    fn starter(&self) -> Result<Arc<dyn Starter>, Failure> {
        let starter = self.call()?.context.services.starter.clone();
        starter.ok_or_else(|| not_available("starter", "this host starts no servers"))
    }

    /// Who asks, as a job names him.
    fn asks(&self) -> Result<String, Failure> {
        let call = self.call()?;
        Ok(named(&call.caller, &call.context.id))
    }
}

fn named(caller: &Caller, module: &str) -> String {
    match (&caller.user, &caller.id) {
        (Some(user), _) => user.clone(),
        (None, Some(id)) if caller.role == CallerRole::Monitor => format!("the monitor of {id}"),
        _ => format!("module {module}"),
    }
}

fn text(answer: Box<RawValue>) -> String {
    String::from(Box::<str>::from(answer))
}

impl Host for InstanceState {
    fn servers(&mut self) -> Result<String, types::Failure> {
        Ok(text(self.starter()?.servers()))
    }

    async fn submit(&mut self, order: String) -> Result<String, types::Failure> {
        let (starter, by) = (self.starter()?, self.asks()?);
        let (order, module) = (self.json(order)?, self.call()?.context.id.clone());
        Ok(text(self.wait(starter.submit(order, module, by)).await?))
    }

    fn jobs(&mut self) -> Result<String, types::Failure> {
        Ok(text(self.starter()?.jobs()))
    }

    async fn wait(&mut self, job: u64, revision: u64, wait_ms: u32) -> Result<String, types::Failure> {
        let starter = self.starter()?;
        let at_most = Duration::from_millis(wait_ms.into()).min(LONGEST_WAIT);
        Ok(text(self.wait_patiently(at_most, starter.wait(job, revision, at_most)).await?))
    }

    fn cancel(&mut self, job: u64) -> Result<String, types::Failure> {
        Ok(text(self.starter()?.cancel(job, self.asks()?)?))
    }

    fn resume(&mut self, job: u64) -> Result<String, types::Failure> {
        Ok(text(self.starter()?.resume(job)?))
    }

    fn undrain(&mut self, ids: Vec<String>) -> Result<Vec<String>, types::Failure> {
        Ok(self.starter()?.undrain(ids))
    }
}
