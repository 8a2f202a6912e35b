//! The figures of a machine that the master keeps: those that pomelo's tools show. They stay as they were reported, numbers or texts.

use std::collections::BTreeMap;

use pomelo_sdk::Result;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

type Figure = Box<RawValue>;

/// The figures under their names.
pub type Figures = BTreeMap<&'static str, Figure>;

/// What a monitor reports about its machine, as far as the master keeps it.
#[derive(Deserialize)]
pub struct Machine {
    #[serde(default)]
    hostname: Option<Figure>,
    #[serde(default)]
    totalmem: Option<Figure>,
    #[serde(default)]
    freemem: Option<Figure>,
    #[serde(default)]
    loadavg: Vec<Figure>,
    /// Absent if the monitor has no such figures. A server of pomelo has none on a machine without the command `iostat`.
    #[serde(default)]
    iostat: Option<Iostat>,
}

#[derive(Deserialize)]
struct Iostat {
    #[serde(default)]
    date: Option<Figure>,
    #[serde(default)]
    cpu: BTreeMap<String, Figure>,
    #[serde(default)]
    disk: BTreeMap<String, Figure>,
}

const CPU: [&str; 6] = ["cpu_user", "cpu_nice", "cpu_system", "cpu_iowait", "cpu_steal", "cpu_idle"];
const DISK: [&str; 5] = ["tps", "kb_read", "kb_wrtn", "kb_read_per", "kb_wrtn_per"];
const LOAD: [&str; 3] = ["m_1", "m_5", "m_15"];

/// Bytes that a figure may have. A longer one is left out.
const LONGEST: usize = 256;

impl Machine {
    /// The figures of the machine of that server.
    pub fn figures(self, server_id: &str) -> Result<Figures> {
        let Machine { hostname, totalmem, freemem, loadavg, iostat } = self;
        let mut figures = Figures::from([("serverId", to_raw_value(server_id)?)]);
        if let (Some(free), Some(total)) = (&freemem, &totalmem) {
            figures.extend(ratio(free, total).map(|ratio| ("free/total", ratio)));
        }
        figures.extend(LOAD.into_iter().zip(loadavg));
        let known = [("hostname", hostname), ("totalmem", totalmem), ("freemem", freemem)];
        figures.extend(known.into_iter().filter_map(|(name, figure)| Some((name, figure?))));
        if let Some(Iostat { date, mut cpu, mut disk }) = iostat {
            figures.extend(date.map(|date| ("Time", date)));
            figures.extend(CPU.into_iter().filter_map(|name| Some((name, cpu.remove(name)?))));
            figures.extend(DISK.into_iter().filter_map(|name| Some((name, disk.remove(name)?))));
        }
        figures.retain(|_, figure| figure.get().len() <= LONGEST);
        Ok(figures)
    }
}

/// The share of one whole number in another, to four decimals. It is formatted as integers, because the code that formats floating-point numbers is a
/// fifth of a small module.
fn ratio(part: &RawValue, whole: &RawValue) -> Option<Figure> {
    let number = |figure: &RawValue| figure.get().parse::<u64>().ok();
    let (part, whole) = (u128::from(number(part)?), u128::from(number(whole)?));
    let share = (part * 10_000).checked_div(whole)?;
    let digits = (10_000 + share % 10_000).to_string();
    let text = [&(share / 10_000).to_string(), ".", &digits[1..]].concat();
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from what a server of pomelo sent.
    const TOLD: &str = r#"{"hostname":"vm","type":"Linux","uptime":8.48,"loadavg":[4.86,3.63,2.37],"totalmem":25276502016,
        "freemem":23111622656,"cpus":[{"model":"x","speed":0}],"iostat":{"date":"2026-11-22 1:45:29 PM",
        "disk":{"kb_read":569.61,"kb_wrtn":8492649,"kb_read_per":5101.89,"kb_wrtn_per":5638.53,"tps":209.01},
        "cpu":{"cpu_user":50.69,"cpu_nice":2.79,"cpu_system":6.57,"cpu_iowait":1.9,"cpu_steal":0.32,"cpu_idle":37.74}}}"#;

    fn figures(told: &str) -> serde_json::Value {
        let machine: Machine = serde_json::from_str(told).unwrap();
        serde_json::to_value(machine.figures("chat-1").unwrap()).unwrap()
    }

    #[test]
    fn p_systeminfo_keeps_what_pomelos_tools_show() {
        let expected = serde_json::json!({
            "Time": "2026-11-22 1:45:29 PM", "hostname": "vm", "serverId": "chat-1", "cpu_user": 50.69, "cpu_nice": 2.79, "cpu_system": 6.57,
            "cpu_iowait": 1.9, "cpu_steal": 0.32, "cpu_idle": 37.74, "tps": 209.01, "kb_read": 569.61, "kb_wrtn": 8492649,
            "kb_read_per": 5101.89, "kb_wrtn_per": 5638.53, "totalmem": 25_276_502_016u64, "freemem": 23_111_622_656u64,
            "free/total": 0.9143, "m_1": 4.86, "m_5": 3.63, "m_15": 2.37,
        });
        assert_eq!(figures(TOLD), expected);
    }

    #[test]
    fn p_systeminfo_leaves_out_what_a_machine_does_not_tell() {
        assert_eq!(figures("{}"), serde_json::json!({"serverId": "chat-1"}));
        let long = "x".repeat(LONGEST);
        let told = format!(r#"{{"hostname":"{long}","totalmem":0,"freemem":0,"loadavg":[1],"iostat":null}}"#);
        assert_eq!(figures(&told), serde_json::json!({"serverId": "chat-1", "totalmem": 0, "freemem": 0, "m_1": 1}));
    }

    #[test]
    fn a_ratio_has_four_decimals() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let of = |part, whole| ratio(&raw(part), &raw(whole)).map(|ratio| ratio.get().to_owned());
        assert_eq!(of("1", "3").as_deref(), Some("0.3333"));
        assert_eq!(of("7", "7").as_deref(), Some("1.0000"));
        assert_eq!(of("1", "1000").as_deref(), Some("0.0010"));
        assert_eq!(of("18446744073709551615", "1").as_deref(), Some("18446744073709551615.0000"));
        assert_eq!((of("1", "0"), of("-1", "2"), of("\"1\"", "2")), (None, None, None));
    }
}
