//! The output of a server's program in files of the server's data directory: written while it runs, and read also when it does not.
//!
//! | file | what is there |
//! |---|---|
//! | `line` | the form of a line in the file |
//! | `write` | takes lines and never waits for the disk |
//! | `files` | the files of a server, forwards and backwards |
//! | `read` | which lines somebody wants, and those lines |
//!
//! The file is `output.log`, with older ones beside it as `output.log.1` (the youngest), `output.log.2`, …. A line is numbered, and its number never comes
//! again while files are kept. A reader goes on after the number of the last line that it has seen. This part knows a directory. It does not know which
//! server it belongs to, nor who reads.

mod files;
mod line;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Query, QueryError, Read, read, read_or_wait};
pub use write::{OpenError, Options, OutputFile};

/// Name of the file in the data directory.
pub const FILE: &str = "output.log";
