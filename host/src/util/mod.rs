//! Small tools that several parts of the host need, a file each.
//!
//! | file | what is there |
//! |---|---|
//! | `backoff` | waits between tries, doubling |
//! | `token_bucket` | how often something may happen |
//!
//! Nothing here knows a server, a module or a socket: a tool that has to know one belongs to the part that uses it.

pub mod backoff;
pub mod token_bucket;

pub use backoff::Backoff;
pub use token_bucket::TokenBucket;
