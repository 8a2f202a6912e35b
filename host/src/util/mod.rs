//! Small tools that several parts of the host need, a file each.
//!
//! | file | what is there |
//! |---|---|
//! | `backoff` | waits between tries, doubling |
//! | `cut` | texts cut to a bound |
//! | `in_words` | times in words, for sentences |
//! | `lasting` | tasks that begin anew if they panic |
//! | `label` | labels of metrics that others make up, of which there are only so many |
//! | `line_budget` | lines of the log that others may cause |
//! | `line_reader` | lines of bounded length from a stream |
//! | `network` | the part of an address by which peers are counted |
//! | `outlet` | lines for a stream whose reader may stop reading |
//! | `private` | files and directories that nobody but this user may read |
//! | `proc` | what Linux tells of processes and of the machine |
//! | `process_group` | a child process, and all that it started, that does not outlive its handle |
//! | `regular` | whole files that others have put somewhere, and nothing but files |
//! | `rotating` | a file of lines of bounded size, with older ones beside it |
//! | `secret` | a text that no log shows |
//! | `shares` | places that several use by name |
//! | `token_bucket` | how often something may happen |
//! | `visible` | texts of others in a form that is safe to show |
//! | `write_whole` | writes to streams that are non-blocking or full |
//!
//! Nothing here knows a server, a module or a socket: a tool that has to know one belongs to the part that uses it.

pub mod backoff;
pub mod cut;
pub mod in_words;
pub mod label;
pub mod lasting;
pub mod line_budget;
pub mod line_reader;
pub mod network;
pub mod outlet;
pub mod private;
pub mod proc;
pub mod process_group;
pub mod regular;
pub mod rotating;
pub mod secret;
pub mod shares;
pub mod token_bucket;
pub mod visible;
pub mod write_whole;

pub use backoff::Backoff;
pub use cut::cut;
pub use in_words::in_words;
pub use label::label;
pub use network::network;
pub use secret::Secret;
pub use shares::{Share, Shares};
pub use token_bucket::TokenBucket;
pub use write_whole::write_whole;
