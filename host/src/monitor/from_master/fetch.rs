//! Bytes from the master, part by part over the connection that there is.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::wire::{FileVersion, MODULES, ModulesRequest, Part, raw};

/// How long the master may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Asks the master's host something about modules, or tells it.
pub(super) async fn asked(exchange: &Exchange, request: &ModulesRequest<'_>) -> Result<Box<RawValue>, Failure> {
    exchange.send(MODULES, &raw(request), 0)?.answer(Instant::now() + ANSWER).await
}

/// The bytes of a version that the master offers, which are as many as it said. Whether they have the digest is for the caller to see.
pub(super) async fn from_master(exchange: &Exchange, version: &FileVersion) -> Result<Vec<u8>, Failure> {
    let size = version.size;
    let bad = |why: &str| Failure::new(code::BAD_ANSWER, why);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let get = ModulesRequest::Get { digest: version.digest.as_str().into(), offset: bytes.len() as u64 };
        let answer = asked(exchange, &get).await?;
        let part: Part<'_> = serde_json::from_str(answer.get()).map_err(|error| bad(&error.to_string()))?;
        let data = BASE64_STANDARD.decode(part.data.as_bytes()).map_err(|error| bad(&error.to_string()))?;
        if part.size != size || data.is_empty() || data.len() as u64 > size - bytes.len() as u64 {
            return Err(bad("a part of the file is not what was asked for"));
        }
        bytes.extend(data);
    }
    Ok(bytes)
}
