//! `profiler`: profiles of the process and of modules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{profiler::Host, types};
use crate::plugin::instance_state::InstanceState;

/// What the interface `profiler` acts on. The answers are JSON in the Firefox Profiler's format.
pub trait Profiler: Send + Sync + 'static {
    /// Profiles the process that the host stands beside.
    fn cpu(&self, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Profiles the calls of a module.
    fn guest(&self, module: String, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
}

impl InstanceState {
    fn profiler(&self, duration_ms: u32) -> Result<(Arc<dyn Profiler>, Duration), Failure> {
        let profiler = self.call()?.context.services.profiler.clone();
        let profiler = profiler.ok_or_else(|| not_available("profiler", "this host profiles nothing"))?;
        // The profile must be made and answered before this call's own deadline.
        let (_, deadline) = self.nested(Duration::from_millis(duration_ms.into()))?;
        Ok((profiler, deadline.saturating_duration_since(Instant::now())))
    }

    /// The text of a profile that fits into an answer of the guest. A larger one is refused here, before it is copied into the guest.
    fn fitting(&self, profile: Box<RawValue>) -> Result<String, Failure> {
        let (bytes, limit) = (profile.get().len(), self.message_limit);
        if bytes > limit {
            let id = self.call().map(|call| call.context.id.clone()).unwrap_or_default();
            let message = format!(
                "the profile has {bytes} bytes, and an answer of module {id} at most {limit}: profile for a shorter time, or raise \
                 `answer_kib` of [module.\"{id}\".limits]"
            );
            return Err(Failure::new(code::BAD_ANSWER, message));
        }
        Ok(Box::<str>::from(profile).into())
    }
}

impl Host for InstanceState {
    async fn cpu(&mut self, duration_ms: u32) -> Result<String, types::Failure> {
        let (profiler, duration) = self.profiler(duration_ms)?;
        let profile = self.wait(profiler.cpu(duration)).await?;
        Ok(self.fitting(profile)?)
    }

    async fn guest(&mut self, module: String, duration_ms: u32) -> Result<String, types::Failure> {
        let (profiler, duration) = self.profiler(duration_ms)?;
        let profile = self.wait(profiler.guest(module, duration)).await?;
        Ok(self.fitting(profile)?)
    }
}
