//! The warm instances of one version of a module. It knows how an instance is made and how many may be idle; it does not know calls.

use parking_lot::Mutex;
use std::sync::Arc;
use wasmtime::component::InstancePre;

use super::instance::{Exports, Instance, Trapped};
use super::instance_state::InstanceState;
use super::sampling::SamplingSwitch;
use super::share::CpuShare;
use super::{Engine, Inspection, Limits};
use crate::budget::{self, ModuleAccount};

/// Makes the instances of a module and keeps those that no call uses.
pub(super) struct InstancePool {
    engine: Engine,
    pre: InstancePre<InstanceState>,
    exports: Exports,
    limits: Limits,
    sampling: Arc<SamplingSwitch>,
    share: Arc<CpuShare>,
    account: ModuleAccount,
    idle: Arc<Idle>,
}

/// The instances that no call uses. They are given up first where memory is short.
struct Idle {
    engine: Engine,
    instances: Mutex<IdleInstances>,
}

#[derive(Default)]
struct IdleInstances {
    instances: Vec<Instance>,
    /// Whether the version was replaced: nothing is kept any more.
    closed: bool,
}

impl Idle {
    /// Takes one of them.
    fn take(&self) -> Option<Instance> {
        let idle = self.instances.lock().instances.pop()?;
        self.engine.not_idle(1);
        Some(idle)
    }
}

impl budget::Idle for Idle {
    fn give_up(&self) -> bool {
        self.take().is_some()
    }
}

impl InstancePool {
    /// An empty pool. What its instances hold is charged to the account. Fails where a handler that the file exports is not of the form that it should have.
    pub fn new(
        engine: &Engine,
        pre: InstancePre<InstanceState>,
        inspection: &Inspection,
        limits: &Limits,
        account: &ModuleAccount,
        share: Arc<CpuShare>,
    ) -> wasmtime::Result<Self> {
        let exports = Exports::new(&pre, inspection)?;
        let idle = Arc::new(Idle { engine: engine.clone(), instances: Mutex::default() });
        let given_up: Arc<dyn budget::Idle> = idle.clone();
        account.keeps_idle(Arc::downgrade(&given_up));
        Ok(InstancePool {
            engine: engine.clone(),
            pre,
            exports,
            limits: limits.clone(),
            sampling: Arc::default(),
            share,
            account: account.clone(),
            idle,
        })
    }

    /// What profiles the calls of all these instances.
    pub fn sampling(&self) -> &Arc<SamplingSwitch> {
        &self.sampling
    }

    /// What the calls of all these instances have used of the CPU.
    pub fn share(&self) -> &Arc<CpuShare> {
        &self.share
    }

    /// An idle instance, or a new one.
    pub async fn take(&self) -> Result<Instance, Trapped> {
        match self.idle.take() {
            Some(instance) => Ok(instance),
            // Boxed, because most calls find an idle one and would carry the room for this along.
            None => Box::pin(self.instantiate()).await,
        }
    }

    /// A new instance.
    pub async fn instantiate(&self) -> Result<Instance, Trapped> {
        let Self { engine, pre, exports, limits, account, sampling, share, .. } = self;
        Instance::new(engine, pre, exports, limits, account, sampling, share).await
    }

    /// Keeps an instance for the next call, or drops it where enough are idle.
    pub fn put_back(&self, instance: Instance) {
        let mut idle = self.idle.instances.lock();
        // More than can run at once would only keep memory that others need.
        if idle.instances.len() < self.limits.running && !idle.closed && self.engine.keep_idle() {
            idle.instances.push(instance);
        }
    }

    /// How many instances are idle.
    pub fn idle(&self) -> usize {
        self.idle.instances.lock().instances.len()
    }

    /// Drops the idle instances, and from now on those that are put back.
    pub fn close(&self) {
        let dropped = {
            let mut idle = self.idle.instances.lock();
            idle.closed = true;
            std::mem::take(&mut idle.instances)
        };
        self.engine.not_idle(dropped.len());
    }
}

impl Drop for InstancePool {
    fn drop(&mut self) {
        self.close();
    }
}
