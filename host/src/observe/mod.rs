//! Metrics and health of a host, over HTTP: `/metrics` in Prometheus' text format, `/healthz` in JSON.
//!
//! Events are counted where they happen, with the `metrics` crate. This room has the recorder that keeps the counts, the HELP text of each metric,
//! and the pages. Gauges (instances, queues, connections) are brought up to date by the host ([`Observed`]) when a page is asked for. This room knows
//! no host: neither master nor monitor.

mod describe;
mod family;
mod pages;
mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;

pub use family::{Family, Type};
pub use pages::pages;

use crate::auth::Secret;
use crate::journal::Journal;
use crate::util::outlet;

/// Upper bounds of the duration histogram, seconds: from a warm call to one that waits for others.
const SECONDS: [f64; 15] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// How often measured durations are put into their histograms; until then each one takes memory.
const UPKEEP: Duration = Duration::from_secs(1);

/// The metrics of this process, which are collected from [`Recorder::install`] on.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

/// Why metrics cannot be collected.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be collected: {0}")]
pub struct InstallError(String);

impl Recorder {
    /// Begins to collect the metrics of this process. To be called once, before anything is counted.
    ///
    /// # Errors
    /// Where another recorder is installed, and where the thread that empties the measurements cannot be started.
    pub fn install() -> Result<Self, InstallError> {
        let failed = |error: &dyn std::fmt::Display| InstallError(error.to_string());
        let histograms = Matcher::Suffix("_seconds".into());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(histograms, &SECONDS);
        let recorder = builder.map_err(|error| failed(&error))?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| failed(&error))?;
        describe::all();
        let upkeep = handle.clone();
        // A thread of its own, because measurements must be emptied even when nobody asks for the metrics.
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
    /// The token that requests from other machines must show; without one, only this machine may ask.
    pub token: Option<Secret>,
}

/// The health of a host, as `/healthz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok`, `degraded`, `starting`, `shutting-down`, or `failing`.
    pub status: &'static str,
    /// What is wrong, one sentence a problem.
    pub problems: Vec<String>,
    /// How many servers of the fleet are in each state; empty where there is no fleet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<&'static str, usize>,
}

impl Health {
    /// All is well.
    pub fn ok() -> Self {
        Health { status: "ok", problems: Vec::new(), servers: BTreeMap::new() }
    }

    /// A status other than `ok`, and why.
    pub fn not(status: &'static str, problem: impl Into<String>) -> Self {
        Health { problems: vec![problem.into()], status, ..Health::ok() }
    }

    /// Adds the faults of the machine that last. A host that is well otherwise is degraded by them.
    pub fn faults(&mut self, journal: &Journal) {
        self.problems.extend(journal.faults());
        self.problems.extend(outlet::unread());
        if self.status == "ok" && !self.problems.is_empty() {
            self.status = "degraded";
        }
    }
}

/// A host whose health and gauges can be asked for.
pub trait Observed: Send + Sync + 'static {
    /// Its health now.
    fn health(&self) -> Health;
    /// Brings its gauges up to date.
    fn refresh(&self);
    /// Its metrics whose labels come and go, such as those of each server. The recorder would keep all that were ever seen.
    fn families(&self) -> Vec<Family> {
        Vec::new()
    }
}

/// A host as its pages refer to it: weakly, so that they do not keep it alive.
pub type Host = Weak<dyn Observed>;

/// The weak reference that pages need.
pub fn host(observed: &Arc<impl Observed>) -> Host {
    let observed: Arc<dyn Observed> = observed.clone();
    Arc::downgrade(&observed)
}
