//! Whose host this is.

use serde::{Deserialize, Serialize};

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRole {
    /// Runs the cluster.
    Master,
    /// Stands beside a server.
    Monitor,
}

impl HostRole {
    /// `master` or `monitor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            HostRole::Master => "master",
            HostRole::Monitor => "monitor",
        }
    }
}

/// Whose host this is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What the host is.
    pub role: HostRole,
    /// Id of its server.
    pub server_id: String,
    /// Type of its server; `master` on the master.
    pub server_type: String,
}
