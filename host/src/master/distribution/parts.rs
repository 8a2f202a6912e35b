//! The bytes of files that are handed on, part by part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Mutex;

use crate::console::Console;
use crate::failure::Failure;
use crate::wire::Part;

/// How long the bytes of a file stay in memory after somebody has asked for a part of it.
const HELD: Duration = Duration::from_secs(30);
/// The most bytes of a part, where the largest frame is no smaller than twice as much.
const PART: usize = 48 << 10;

/// The bytes of files that are asked for. Bounded by the files that are offered.
pub(super) struct Parts {
    /// Bytes of a part.
    part: usize,
    /// By digest.
    held: Mutex<HashMap<String, Held>>,
}

struct Held {
    bytes: Arc<[u8]>,
    /// When somebody asked for a part of it last.
    asked: Instant,
}

impl Parts {
    /// For peers whose largest frame has so many bytes.
    pub fn new(max_frame: usize) -> Self {
        Parts { part: PART.min(max_frame / 2), held: Mutex::default() }
    }

    /// A part of a file.
    ///
    /// # Errors
    /// As [`Console::bytes_of`].
    pub async fn part(
        &self,
        console: &Console,
        name: &str,
        digest: &str,
        offset: u64,
    ) -> Result<Part<'static>, Failure> {
        let now = Instant::now();
        let bytes = {
            // Held while a file is read, because many ask for the same one at once.
            let mut held = self.held.lock().await;
            held.retain(|_, held| now.duration_since(held.asked) < HELD);
            let bytes = match held.get(digest) {
                Some(held) => held.bytes.clone(),
                None => console.bytes_of(name, digest).await?,
            };
            held.insert(digest.to_owned(), Held { bytes: bytes.clone(), asked: now });
            bytes
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let part = &bytes[from..bytes.len().min(from.saturating_add(self.part))];
        Ok(Part { size: bytes.len() as u64, data: BASE64_STANDARD.encode(part).into() })
    }

    /// Gives back what nobody has asked for lately.
    pub async fn give_back(&self) {
        self.held.lock().await.retain(|_, held| held.asked.elapsed() < HELD);
    }
}
