//! `profiler`: where time goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::not_available;
use crate::failure::Failure;
use crate::plugin::bindings::pomelo::admin::{profiler::Host, types};
use crate::plugin::state::State;

/// What the interface `profiler` acts on. The answers are JSON in the Firefox Profiler's format.
pub trait Profiler: Send + Sync + 'static {
    /// Profiles the process that the host stands beside.
    fn cpu(&self, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Profiles the calls of a module.
    fn guest(&self, module: String, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
}

impl State {
    fn profiler(&self, duration_ms: u32) -> Result<(Arc<dyn Profiler>, Duration), Failure> {
        let profiler = self.call()?.context.services.profiler.clone();
        let profiler = profiler.ok_or_else(|| not_available("profiler", "this host profiles nothing"))?;
        // The profile is to be made and answered before this call's own deadline.
        let (_, deadline) = self.nested(Duration::from_millis(duration_ms.into()))?;
        Ok((profiler, deadline.saturating_duration_since(Instant::now())))
    }
}

impl Host for State {
    async fn cpu(&mut self, duration_ms: u32) -> Result<String, types::Failure> {
        let (profiler, duration) = self.profiler(duration_ms)?;
        Ok(Box::<str>::from(self.wait(profiler.cpu(duration)).await?).into())
    }

    async fn guest(&mut self, module: String, duration_ms: u32) -> Result<String, types::Failure> {
        let (profiler, duration) = self.profiler(duration_ms)?;
        Ok(Box::<str>::from(self.wait(profiler.guest(module, duration)).await?).into())
    }
}
