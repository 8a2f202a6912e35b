//! Who may come in: users with passwords, monitors with tokens.
//!
//! This part compares what a peer shows with what the configuration holds, in constant time, or asks the operator's own check. It says at which level
//! a user may act. It knows no connection. Whoever holds the connection slows down and disconnects those who guess.

mod access;
mod exposure;
mod external;
mod level;
mod password;
mod reconnect;
mod tokens;
mod turns;
mod users;

pub use crate::util::Secret;
pub use access::Access;
pub use exposure::{Exposed, Exposure};
pub use external::{Bounds, External, Question, Way};
pub use level::Level;
pub use password::{BadStoredPassword, HashError, StoredPassword, hash_password};
pub use reconnect::Reconnect;
pub use tokens::{MonitorToken, Tokens};
pub use turns::LoginBounds;
pub use users::{AccessRefused, User, Users};
