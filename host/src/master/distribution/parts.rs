//! The bytes of files that are handed on, part by part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

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
    bytes: Arc<OnceCell<Arc<[u8]>>>,
    /// When somebody asked for a part of it last.
    asked: Instant,
}

impl Held {
    fn new() -> Self {
        Held { bytes: Arc::default(), asked: Instant::now() }
    }
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
        let bytes = {
            let mut held = self.held.lock();
            held.retain(|_, held| held.asked.elapsed() < HELD);
            let held = held.entry(digest.to_owned()).or_insert_with(Held::new);
            held.asked = Instant::now();
            held.bytes.clone()
        };
        // Many ask for the same file at once, and it is read once.
        let bytes = bytes.get_or_try_init(|| console.bytes_of(name, digest)).await?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let part = &bytes[from..bytes.len().min(from.saturating_add(self.part))];
        Ok(Part { size: bytes.len() as u64, data: BASE64_STANDARD.encode(part).into() })
    }

    /// Gives back what nobody has asked for lately.
    pub fn give_back(&self) {
        self.held.lock().retain(|_, held| held.asked.elapsed() < HELD);
    }
}
