//! Who may come in: users with passwords, monitors with tokens.
//!
//! This part compares what a peer shows with what the configuration holds, in constant time, or asks the operator's own check, and says at which
//! level a user may act. It knows no connection: slowing down those who guess, and closing on them, is for whoever holds the connection.

mod access;
mod exposure;
mod external;
mod password;
mod reconnect;
mod tokens;
mod users;

use std::fmt;

pub use access::Access;
pub use exposure::{Exposed, Exposure};
pub use external::{Bounds, External, Question, Way};
pub use password::{BadStoredPassword, HashError, StoredPassword, hash_password};
pub use reconnect::Reconnect;
pub use tokens::{MonitorToken, Tokens};
pub use users::{Refused, User, Users};

/// A user's level: 1 may do everything, higher numbers less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

impl Level {
    /// The level that may do everything.
    pub const ADMIN: Level = Level(1);
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself: for comparing and sending, never for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
