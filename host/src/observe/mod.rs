//! Metrics and health of a host, over HTTP: `/metrics` in Prometheus' text format, `/healthz` in JSON.
//!
//! What counts is counted where it happens, with the `metrics` crate; here stand the recorder that keeps it, the words that explain each metric,
//! and the pages. What is a state rather than a count (instances, queues, who is connected) is looked up by the host when somebody asks.

mod describe;
mod pages;

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;

pub use pages::pages;

use crate::auth::Secret;

/// Upper bounds of the duration histogram, seconds: from a warm call to one that waits for others.
const SECONDS: [f64; 15] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// How often measured durations are put into their histograms: until then each takes its bytes.
const UPKEEP: Duration = Duration::from_secs(1);

/// The metrics of this process, once they are collected.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

/// Why metrics cannot be collected.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be collected: {0}")]
pub struct InstallError(String);

impl Recorder {
    /// Begins to collect the metrics of this process; once in its life, before anything is counted.
    ///
    /// # Errors
    /// Where something else collects them already.
    pub fn install() -> Result<Self, InstallError> {
        let failed = |error: &dyn std::fmt::Display| InstallError(error.to_string());
        let histograms = Matcher::Suffix("_seconds".into());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(histograms, &SECONDS);
        let recorder = builder.map_err(|error| failed(&error))?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| failed(&error))?;
        describe::all();
        let upkeep = handle.clone();
        // A thread of its own: it has work to do where nobody asks for the metrics, and no runtime is needed for it.
        let work = move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        };
        std::thread::Builder::new().name("metrics".into()).spawn(work).map_err(|error| failed(&error))?;
        Ok(Recorder(handle))
    }

    /// All metrics in Prometheus' text format.
    fn render(&self) -> String {
        self.0.render()
    }
}

/// What is served, and to whom.
#[derive(Clone, Default)]
pub struct Options {
    /// The metrics; absent where none are collected.
    pub recorder: Option<Recorder>,
    /// What those who do not ask from this machine must show; absent: only this machine may ask.
    pub token: Option<Secret>,
}

/// How a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok`, `starting`, `shutting-down`, or `failing`.
    pub status: &'static str,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

impl Health {
    /// All is well.
    pub fn ok() -> Self {
        Health { status: "ok", problems: Vec::new() }
    }

    /// It is not, and why.
    pub fn not(status: &'static str, problem: impl Into<String>) -> Self {
        Health { status, problems: vec![problem.into()] }
    }
}

/// A host that can be looked at.
pub trait Observed: Send + Sync + 'static {
    /// How it is.
    fn health(&self) -> Health;
    /// Brings the metrics that are states up to date.
    fn refresh(&self);
}

/// A host that does not live for the sake of its pages.
pub type Host = Weak<dyn Observed>;

/// The pages' side of a host.
pub fn host(observed: &Arc<impl Observed>) -> Host {
    let observed: Arc<dyn Observed> = observed.clone();
    Arc::downgrade(&observed)
}
