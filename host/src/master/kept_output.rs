//! What modules read of the output that is kept on the master's machine, also of servers that do not run.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::starter::{OutputPlace, ServerStarter, is_local};
use crate::failure::{Failure, code};
use crate::plugin::capability::KeptOutput;
use crate::supervise::kept_output::{Query, QueryError, Read, read_or_wait};

/// The output of the servers that a starter knows.
pub(super) struct MasterOutput(pub Arc<ServerStarter>);

impl MasterOutput {
    async fn lines(&self, id: &str, query: &str, at_most: Duration) -> Result<Read, Failure> {
        let query = Query::parse(query)?;
        let OutputPlace { directory, known } = self.0.output_of(id);
        // An empty id would be the directory of all servers.
        if let Some(directory) = directory.filter(|_| !id.is_empty()) {
            match read_or_wait(directory, query, at_most).await {
                // A name that is too long for a file system is of no server either.
                Err(QueryError::File(error)) if error.kind() == std::io::ErrorKind::InvalidFilename => {}
                Err(QueryError::NoFile) => {}
                read => return Ok(read?),
            }
        } else if known.is_some() {
            return Err(Failure::new(
                code::NOT_AVAILABLE,
                "no output is kept, because the configuration has no data directory",
            ));
        }
        let Some(host) = known else {
            return Err(Failure::new(code::NOT_FOUND, "There is no such server."));
        };
        if is_local(&host).await {
            // It has never written anything here.
            return Ok(Read::default());
        }
        let what = format!("{id} runs on {host}, where its output is kept, and its monitor is not connected");
        Err(Failure::new(code::NOT_AVAILABLE, what))
    }
}

impl KeptOutput for MasterOutput {
    fn read(&self, server_id: String, query: String, at_most: Duration) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let read = self.lines(&server_id, &query, at_most).await?;
            serde_json::to_value(read).map_err(|error| Failure::new(code::FAILED, error.to_string()))
        }
        .boxed()
    }
}
