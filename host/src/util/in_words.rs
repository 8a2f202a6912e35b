//! Times in words, for sentences.

use std::time::Duration;

/// A time in whole seconds, or in milliseconds where it has a part of a second: `60 s`, `1500 ms`.
pub fn in_words(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
