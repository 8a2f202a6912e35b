//! What a monitor's server does, as the monitor tells its master.
//!
//! A phase is a state and no event: the newest one counts, and each is told in full. So a peer that missed some knows as much as one that saw all.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::util::cut;

/// The most bytes of a reason.
const MAX_WHY: usize = 512;
/// The most bytes of the words that say how a program ended.
const MAX_HOW: usize = 512;
/// The most lines that an exit carries, and the most bytes of one.
const MAX_LINES: (usize, usize) = (10, 512);

/// What a server does. The set is closed: a master that states the capability `phases` knows all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Its program is being started, or is not ready yet.
    Starting,
    /// It runs and is ready.
    Running,
    /// Its program runs, but is not fit to serve. Others do not see it until it is.
    Unready,
    /// It takes no new work and finishes what it has. Others do not see it.
    Draining,
    /// It was asked to end, or is being killed.
    Stopping,
    /// Its program has ended, and is started again after a wait.
    BackingOff,
    /// Its program has failed, and is not started again.
    Failed,
    /// It was stopped, or its program ended as it should. It is not started again.
    Stopped,
}

impl PhaseName {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            PhaseName::Starting => "starting",
            PhaseName::Running => "running",
            PhaseName::Unready => "unready",
            PhaseName::Draining => "draining",
            PhaseName::Stopping => "stopping",
            PhaseName::BackingOff => "backing-off",
            PhaseName::Failed => "failed",
            PhaseName::Stopped => "stopped",
        }
    }
}

/// The payload of `phase`: what a server does now, and all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// What the server does.
    pub phase: PhaseName,
    /// Why, in words, where there is more to say than the phase itself: `nobody listened on 127.0.0.1:4050 for 60 s`, `ended with code 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How many times the program was started again since the monitor runs.
    #[serde(default)]
    pub restarts: u64,
    /// The number of connections that are left, while the server drains and its program says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// How long the wait before the next start is, milliseconds, counted from when the program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// How the program ended last, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<PhaseExit>,
}

/// How a program ended last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseExit {
    /// In words: `ended with code 1`, `was ended by signal 9`.
    pub how: String,
    /// When. On the wire it is `agoMs`, the time since then in milliseconds, because the clocks of two machines differ. It is read by this host's
    /// clock.
    #[serde(rename = "agoMs", with = "ago")]
    pub at: SystemTime,
    /// What tells this end from others of the server: a number that its monitor chooses, because `at` is another each time that it is told. 0 where
    /// nothing does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u64,
    /// The last lines of its standard error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Phase {
    /// A phase of that name, about which nothing else is known.
    pub fn new(phase: PhaseName) -> Self {
        Phase { phase, why: None, pid: None, restarts: 0, connections: None, retry_ms: None, exit: None }
    }

    /// A server that runs as that process.
    pub fn running(pid: u32) -> Self {
        Phase { pid: Some(pid), ..Phase::new(PhaseName::Running) }
    }

    /// The same with all texts cut to their bounds. What comes from a peer is cut again, because a peer may send what it likes.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.why.iter_mut().for_each(|why| cut(why, MAX_WHY));
        if let Some(exit) = &mut self.exit {
            cut(&mut exit.how, MAX_HOW);
            exit.lines.truncate(MAX_LINES.0);
            exit.lines.iter_mut().for_each(|line| cut(line, MAX_LINES.1));
        }
        self
    }

    /// The process that others are to see, if they are. A server that is ending stays seen until it has ended, if it was `seen` before: whoever asked
    /// it to end waits until it is gone.
    pub fn serving(&self, seen: Option<u32>) -> Option<u32> {
        match self.phase {
            PhaseName::Running => self.pid,
            PhaseName::Stopping => self.pid.filter(|pid| seen == Some(*pid)),
            _ => None,
        }
    }
}

// serde gives a reference.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A time as milliseconds since then.
mod ago {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Duration, SystemTime};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        // A time that lies ahead, because the clock was set back, counts as now.
        let ago = at.elapsed().unwrap_or_default().as_millis();
        serializer.serialize_u64(ago.try_into().unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let ago = Duration::from_millis(u64::deserialize(deserializer)?);
        // A time before the first that clocks know is most likely a mistake of the sender's, and counts as that one.
        let at = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(at.max(SystemTime::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_is_told_in_full_and_without_clocks() {
        let exit = PhaseExit {
            how: "ended with code 1".into(),
            at: SystemTime::now() - Duration::from_secs(3600),
            id: 0,
            lines: vec!["no such table".into()],
        };
        let told = Phase {
            why: Some("ended with code 1".into()),
            restarts: 2,
            retry_ms: Some(400),
            exit: Some(exit),
            ..Phase::new(PhaseName::BackingOff)
        };
        let mut json = serde_json::to_value(&told).unwrap();
        let ago = json["exit"]["agoMs"].take().as_u64().unwrap();
        assert!((3_600_000..3_700_000).contains(&ago), "{ago}");
        let exit = json!({"how": "ended with code 1", "agoMs": null, "lines": ["no such table"]});
        let why = "ended with code 1";
        let expected = json!({"phase": "backing-off", "why": why, "restarts": 2, "retryMs": 400, "exit": exit});
        assert_eq!(json, expected);
        json["exit"]["agoMs"] = 1000.into();
        let read: Phase = serde_json::from_value(json).unwrap();
        assert!(read.exit.unwrap().at > told.exit.unwrap().at);
        let never = json!({"phase": "stopped", "exit": {"how": "x", "agoMs": u64::MAX}});
        assert_eq!(serde_json::from_value::<Phase>(never).unwrap().exit.unwrap().at, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn what_is_no_phase_is_refused_and_long_texts_are_cut() {
        for bad in [json!({}), json!({"phase": "flying"}), json!({"phase": "running", "pid": -1}), json!([])] {
            assert!(serde_json::from_value::<Phase>(bad.clone()).is_err(), "{bad}");
        }
        let long = "ü".repeat(10_000);
        let exit = PhaseExit { how: long.clone(), at: SystemTime::now(), id: 7, lines: vec![long.clone(); 100] };
        let phase = Phase { why: Some(long), exit: Some(exit), ..Phase::new(PhaseName::Failed) };
        let size = serde_json::to_string(&phase.bounded()).unwrap().len();
        assert!(size < 8 << 10, "{size}");
    }

    #[test]
    fn others_see_a_server_while_it_runs_and_until_it_has_ended() {
        let phase = |name| Phase { pid: Some(7), ..Phase::new(name) };
        assert_eq!(phase(PhaseName::Running).serving(None), Some(7));
        assert_eq!(phase(PhaseName::Stopping).serving(Some(7)), Some(7));
        assert_eq!(phase(PhaseName::Stopping).serving(Some(6)), None, "another process was seen");
        assert_eq!(phase(PhaseName::Stopping).serving(None), None);
        for hidden in [PhaseName::Starting, PhaseName::Unready, PhaseName::Draining] {
            assert_eq!(phase(hidden).serving(Some(7)), None, "{}", hidden.as_str());
        }
    }

    #[test]
    fn the_word_is_the_same_in_rust_and_in_json() {
        use PhaseName::{BackingOff, Draining, Failed, Running, Starting, Stopped, Stopping, Unready};
        for name in [Starting, Running, Unready, Draining, Stopping, BackingOff, Failed, Stopped] {
            assert_eq!(json!(name), json!(name.as_str()));
        }
    }
}
