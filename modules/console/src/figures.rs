//! The figures of a process, as `list` shows them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the host says of the process.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Stats {
    pid: Option<u32>,
    /// Bytes, as are the two after it.
    rss: f64,
    heap_total: f64,
    heap_used: f64,
    /// Seconds.
    uptime: f64,
    cpu: Option<Box<RawValue>>,
    restarts: Option<u32>,
    state: Option<String>,
    last_exit: Option<Box<RawValue>>,
}

/// What pomelo's tools expect, of which some numbers are texts; and beside it the same as numbers, `cpu`, `restarts`, `state` and `lastExit`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    server_id: String,
    server_type: String,
    pid: Option<u32>,
    /// MiB with two decimals, as are the two after it.
    rss: String,
    heap_total: String,
    heap_used: String,
    /// Minutes with two decimals.
    uptime: String,
    rss_bytes: u64,
    heap_total_bytes: u64,
    heap_used_bytes: u64,
    /// Milliseconds.
    uptime_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// How the program last ended, `{how, time, lines}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<Box<RawValue>>,
}

impl Figures {
    pub fn new(server_id: String, server_type: String, stats: Stats) -> Self {
        let mebibytes = |bytes: f64| two_decimals(bytes / (1024.0 * 1024.0));
        Self {
            server_id,
            server_type,
            pid: stats.pid,
            rss: mebibytes(stats.rss),
            heap_total: mebibytes(stats.heap_total),
            heap_used: mebibytes(stats.heap_used),
            uptime: two_decimals(stats.uptime / 60.0),
            rss_bytes: stats.rss as u64,
            heap_total_bytes: stats.heap_total as u64,
            heap_used_bytes: stats.heap_used as u64,
            uptime_ms: (stats.uptime * 1000.0 + 0.5) as u64,
            cpu: stats.cpu,
            restarts: stats.restarts,
            state: stats.state,
            last_exit: stats.last_exit,
        }
    }
}

/// A number with two decimals. It is formatted as integers, because the code that formats floating-point numbers is a fifth of a small module.
fn two_decimals(value: f64) -> String {
    // The cast makes 0 of a negative number and of NaN.
    let hundredths = (value * 100.0 + 0.5) as u64;
    let mut text = (hundredths / 100).to_string();
    text.push_str(if hundredths % 100 < 10 { ".0" } else { "." });
    text.push_str(&(hundredths % 100).to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_decimals() {
        let cases =
            [(0.0, "0.00"), (59.8, "59.80"), (1.005, "1.00"), (0.07, "0.07"), (12.345, "12.35"), (-3.0, "0.00")];
        for (value, expected) in cases {
            assert_eq!(two_decimals(value), expected);
        }
    }

    #[test]
    fn figures_are_in_the_units_of_pomelo_and_numbers_besides() {
        let stats = r#"{"pid":7,"rss":62704845,"heapTotal":1048576,"heapUsed":524288,"uptime":90.5,"cpu":1.25,"state":"running"}"#;
        let figures = Figures::new("chat-1".into(), "chat".into(), serde_json::from_str(stats).unwrap());
        assert_eq!(
            serde_json::to_string(&figures).unwrap(),
            r#"{"serverId":"chat-1","serverType":"chat","pid":7,"rss":"59.80","heapTotal":"1.00","heapUsed":"0.50","uptime":"1.51","rssBytes":62704845,"heapTotalBytes":1048576,"heapUsedBytes":524288,"uptimeMs":90500,"cpu":1.25,"state":"running"}"#
        );
    }
}
