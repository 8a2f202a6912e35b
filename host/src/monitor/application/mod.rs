//! The served application: its view of the cluster, its crons, and the functions that it offers.
//!
//! | file | what is there |
//! |---|---|
//! | `served` | what modules see as `application`, wherever the application is |
//! | `view` | the view, in memory or in a file |
//! | `crons` | the crons, which fire in this host and call the application's functions |
//! | `draining` | what is said to an application that drains, and asked of it |
//! | `functions` | the functions of an application written in Rust |
//! | `embedded` | an application in this very process |
//! | `control` | an application in a process of its own, over a local socket |
//!
//! `served` reaches the application through one trait, `Reach`. This part knows neither the master nor any module.

pub mod control;
mod crons;
mod draining;
mod embedded;
mod functions;
mod served;
mod view;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::value::RawValue;

use crate::failure::{Failure, code};
use crate::wire::host_functions as own;

pub use crons::MAX_CRONS;
pub(super) use draining::{connections, tell_drain, tell_undrain};
pub use embedded::{Embedded, JoinError, Joined};
#[cfg(test)]
pub(super) use functions::Runner;
pub use functions::{Change, Functions};
pub(super) use served::Served;
pub(super) use view::View;

/// How long the application may take to answer, if the caller gives no other deadline.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Calls to the application that may be under way at a time.
const MAX_CALLS: usize = 1024;

/// An answer of the application's.
type Answer = Result<Box<RawValue>, Failure>;

/// The way to the application's functions.
pub(super) trait Reach: Send + Sync + 'static {
    /// The sorted names of the functions that it offers now, with those that only the host calls.
    fn offers(&self) -> Vec<String>;
    /// Whether it offers a function now.
    fn has(&self, name: &str) -> bool;
    /// Calls a function. When this returns, the call is queued behind all earlier ones. It must not block, because the view may be locked.
    fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer>;
    /// The failure of a call to a function that it does not offer.
    fn lacks(&self, name: &str) -> Failure;
}

/// Asks the application to end. Absent if it offers no function for that.
pub(super) fn ask_to_end(reach: &dyn Reach, deadline: Duration) -> Option<BoxFuture<'static, Result<(), Failure>>> {
    let asked = || reach.call(own::STOP, &functions::Within::of(deadline), deadline);
    reach.has(own::STOP).then(|| asked().map(|answer| answer.map(drop)).boxed())
}

/// No application at all.
pub(super) struct Nobody;

impl Reach for Nobody {
    fn offers(&self) -> Vec<String> {
        Vec::new()
    }

    fn has(&self, _name: &str) -> bool {
        false
    }

    fn call(&self, name: &str, _args: &RawValue, _deadline: Duration) -> BoxFuture<'static, Answer> {
        ready(Err(self.lacks(name))).boxed()
    }

    fn lacks(&self, name: &str) -> Failure {
        let what = format!("this host serves no application, so nobody offers `{name}`");
        Failure::new(code::NOT_AVAILABLE, what)
    }
}

/// The failure of a call to a function that is not offered.
fn not_offered(id: &str, name: &str, offers: &[String]) -> Failure {
    let others: Vec<&str> = offers.iter().map(String::as_str).filter(|name| !own::ALL.contains(name)).collect();
    let others = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
    let name = crate::wire::shown(name);
    Failure::new(code::NOT_AVAILABLE, format!("the application of {id} does not offer `{name}`; it offers: {others}"))
}

fn late(name: &str, deadline: Duration) -> Failure {
    Failure::new(code::TIMEOUT, format!("the application did not answer `{name}` within {} ms", deadline.as_millis()))
}
