//! [`Application`]: the served application's view of the cluster.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::application;
use crate::failure::{Result, from_host};
use crate::json;

/// The served application's view of the cluster.
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
}
