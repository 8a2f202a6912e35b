//! [`Application`]: the served application.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::application;
use crate::failure::{Result, from_host};
use crate::json;

/// The served application: its view of the cluster, its crons, and what else it offers.
#[derive(Debug)]
pub struct Application {
    _private: (),
}

impl Application {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Adds servers, each by its `info`, or replaces those of the same id.
    pub fn add_servers(&self, servers: &[impl Serialize]) -> Result {
        application::add_servers(&json::encode(servers)?).map_err(from_host)
    }

    /// Removes servers by id. An id that is not there is no failure.
    pub fn remove_servers(&self, ids: &[String]) -> Result {
        application::remove_servers(ids).map_err(from_host)
    }

    /// Replaces the whole view, a map from id to `info`.
    pub fn replace_servers<T: Serialize + ?Sized>(&self, servers: &T) -> Result {
        application::replace_servers(&json::encode(servers)?).map_err(from_host)
    }

    /// The view, a map from id to `info`. Fails with `bad-answer` where an `info` is not of this type.
    pub fn servers<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>> {
        json::answer(application::servers())
    }

    /// Tells the application that all configured servers have started.
    pub fn start_over(&self) -> Result {
        application::start_over().map_err(from_host)
    }

    /// Names of the functions that the application itself offers; none while it is not connected to its host.
    pub fn offers(&self) -> Vec<String> {
        application::offers()
    }

    /// Calls a function of the application's own and waits for its answer. Fails with `not-available` where the application does not offer it.
    pub fn call<T: DeserializeOwned>(&self, name: &str, args: &(impl Serialize + ?Sized)) -> Result<T> {
        json::answer(application::call(name, &json::encode(args)?))
    }

    /// Adds crons, or replaces those of the same id: objects with `id`, `time` and `action`. Where one of them is refused, none is added.
    pub fn add_crons(&self, crons: &[impl Serialize]) -> Result {
        application::add_crons(&json::encode(crons)?).map_err(from_host)
    }

    /// Removes crons by id. Returns those ids that were there.
    pub fn remove_crons(&self, ids: &[String]) -> Result<Vec<String>> {
        application::remove_crons(ids).map_err(from_host)
    }

    /// The crons, objects with `id`, `time`, `action` and `next`.
    pub fn crons<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        json::answer(application::crons())
    }
}
