//! The descriptor: what a module says of itself, in JSON. Its members are described in `wit/callbacks.wit`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::MAX_KEY;
use super::{Caller, Handler, HostRole, Limits};
use crate::wire::{BadId, check_name, shown};

/// What a module says of itself. Members that this host does not know are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// The module's own version.
    #[serde(default)]
    pub version: String,
    /// The module ids that the file answers to, at least one.
    pub ids: Vec<IdDescriptor>,
    /// What clients may ask for.
    #[serde(default)]
    pub operations: Operations,
    /// Callbacks whose calls run one at a time.
    #[serde(default)]
    pub serial: Vec<String>,
    /// Keys of the store that outlive the process; a trailing `*` stands for any ending.
    #[serde(default)]
    pub durable: Vec<String>,
    /// Limits that the module needs.
    #[serde(default)]
    pub limits: WantedLimits,
}

/// Limits that a module needs where the common ones are too low, under their names in `pomelo.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLimits {
    /// CPU time of one call, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u32>,
    /// Time from the arrival of a call to its answer, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u32>,
    /// Memory of one instance, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u16>,
    /// An answer, and a message that the module sends, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_kib: Option<u32>,
    /// A message to the module, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_kib: Option<u32>,
    /// The module's store, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_kib: Option<u32>,
}

impl WantedLimits {
    /// Raises those of a module's limits that are equal to the `common` ones, because nothing was configured for this module. `times` is how many times as
    /// many servers are expected as these limits are made for. What grows with the servers grows as much.
    pub fn raise(&self, limits: &mut Limits, common: &Limits, times: usize) {
        fn raise<T: Ord + Copy>(limit: &mut T, common: T, wanted: Option<T>) {
            if *limit == common {
                *limit = wanted.map_or(common, |wanted| wanted.max(common));
            }
        }
        fn grow(limit: &mut usize, common: usize, wanted: Option<usize>, times: usize) {
            let own = *limit != common;
            raise(limit, common, wanted);
            if !own {
                *limit = limit.saturating_mul(times.max(1));
            }
        }
        let millis = |wanted: Option<u32>| wanted.map(|millis| Duration::from_millis(millis.into()));
        if limits.cpu == common.cpu {
            let wanted = millis(self.cpu_ms).unwrap_or_default().max(common.cpu);
            limits.cpu = wanted.saturating_mul(u32::try_from(times.max(1)).unwrap_or(u32::MAX));
        }
        raise(&mut limits.wall, common.wall, millis(self.wall_ms));
        grow(&mut limits.memory, common.memory, self.memory_mib.map(|mib| usize::from(mib) << 20), times);
        let bytes = |wanted: Option<u32>| wanted.map(|kib| (kib as usize).saturating_mul(1024));
        grow(&mut limits.answer, common.answer, bytes(self.answer_kib), times);
        grow(&mut limits.message, common.message, bytes(self.message_kib), times);
        grow(&mut limits.store, common.store, bytes(self.store_kib), times);
    }
}

/// One module id of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IdDescriptor {
    /// The module id.
    pub id: String,
    /// On which hosts the id is there; absent: on both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<HostRole>>,
    /// Who is called when the timer fires.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub timer: Option<TimerKind>,
    /// Seconds from one turn of the timer to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<f64>,
    /// Seconds from the start to the first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<f64>,
}

/// Who is called when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimerKind {
    /// The master calls `master-handler`.
    Pull,
    /// The monitor calls `monitor-handler`.
    Push,
}

/// What clients may ask for, and who may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    /// The member of a client's message whose string value names the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From operation to the highest user level that may ask for it; `*` for those that are not listed.
    #[serde(default)]
    pub levels: BTreeMap<String, u32>,
    /// Operations of level 1 that only show something. Those that the module itself lets other levels ask for need not be named here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reads: BTreeSet<String>,
}

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// It is not JSON of the right form.
    #[error("the descriptor is malformed: {}", crate::wire::sentence(.0))]
    Json(serde_json::Error),
    /// It is too long.
    #[error("the descriptor has {0} bytes; at most {max} are read", max = Descriptor::MAX_BYTES)]
    TooLong(usize),
    /// A list of it is too long.
    #[error("`{field}` of the descriptor has {found} entries; at most {most} are taken")]
    TooMany {
        /// The list.
        field: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// It names no id.
    #[error("the descriptor names no module id: `ids` needs at least one")]
    NoIds,
    /// It names too many ids.
    #[error("the descriptor names {0} module ids; a file answers to at most {max}", max = Descriptor::MAX_IDS)]
    TooManyIds(usize),
    /// An id cannot be used.
    #[error("the module id `{id}` is empty, longer than {max} bytes or has characters that are not printable ASCII", id = shown(.0), max = Descriptor::MAX_ID)]
    BadId(String),
    /// An id stands twice.
    #[error("the module id `{}` stands twice in the descriptor", shown(.0))]
    Twice(String),
    /// `serial` has a name that is not a callback's.
    #[error(
        "`serial` names `{}`, which is none of master-handler, monitor-handler, client-handler, server-events, lifecycle",
        shown(.0)
    )]
    Serial(String),
    /// An operation, or the member that names it, has no name that people can be shown.
    #[error("`operations` has a name that cannot be one: {0}")]
    Operation(BadId),
    /// A text of it is too long.
    #[error("`{field}` of the descriptor has a text of {found} bytes; at most {most} are taken")]
    Long {
        /// Where it stands.
        field: &'static str,
        /// How long it is, bytes.
        found: usize,
        /// How long it may be, bytes.
        most: usize,
    },
}

impl Descriptor {
    /// Bytes that a module id may have.
    pub const MAX_ID: usize = 128;
    /// Bytes that the module's name and its version may have.
    pub const MAX_TEXT: usize = 256;
    /// Module ids that a file may answer to.
    pub const MAX_IDS: usize = 64;
    /// Bytes of the whole descriptor.
    pub const MAX_BYTES: usize = 64 << 10;
    /// Operations whose levels are given, and operations that only show something.
    pub const MAX_OPERATIONS: usize = 256;
    /// Patterns of durable keys.
    pub const MAX_DURABLE: usize = 128;
    /// Bytes of a pattern: those of the longest key, and the star.
    pub const MAX_PATTERN: usize = MAX_KEY + 1;

    /// Parses and checks a descriptor.
    ///
    /// # Errors
    /// [`DescriptorError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, DescriptorError> {
        if text.len() > Self::MAX_BYTES {
            return Err(DescriptorError::TooLong(text.len()));
        }
        let descriptor: Descriptor = serde_json::from_str(text).map_err(DescriptorError::Json)?;
        if descriptor.ids.is_empty() {
            return Err(DescriptorError::NoIds);
        }
        if descriptor.ids.len() > Self::MAX_IDS {
            return Err(DescriptorError::TooManyIds(descriptor.ids.len()));
        }
        descriptor.check_sizes()?;
        let mut seen = HashSet::new();
        for IdDescriptor { id, .. } in &descriptor.ids {
            if id.is_empty() || id.len() > Self::MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(DescriptorError::BadId(id.clone()));
            }
            if !seen.insert(id) {
                return Err(DescriptorError::Twice(id.clone()));
            }
        }
        let operations = &descriptor.operations;
        let names = operations.by.iter().chain(operations.levels.keys()).chain(&operations.reads);
        // The empty name is that of a message that names no operation.
        for name in names.filter(|name| !name.is_empty()) {
            check_name(name).map_err(DescriptorError::Operation)?;
        }
        if let Some(other) = descriptor.serial.iter().find(|name| !Handler::ALL.iter().any(|h| h.as_str() == *name)) {
            return Err(DescriptorError::Serial(other.clone()));
        }
        Ok(descriptor)
    }

    /// Refuses lists and texts that are too long. What is taken of a descriptor is kept for as long as the module runs, and is looked at while others wait.
    fn check_sizes(&self) -> Result<(), DescriptorError> {
        let roles = self.ids.iter().filter_map(|id| id.roles.as_ref()).map(Vec::len).max();
        let lists = [
            ("operations.levels", self.operations.levels.len(), Self::MAX_OPERATIONS),
            ("operations.reads", self.operations.reads.len(), Self::MAX_OPERATIONS),
            ("serial", self.serial.len(), Handler::ALL.len()),
            ("durable", self.durable.len(), Self::MAX_DURABLE),
            ("roles", roles.unwrap_or_default(), 2),
        ];
        if let Some((field, found, most)) = lists.into_iter().find(|(_, found, most)| found > most) {
            return Err(DescriptorError::TooMany { field, found, most });
        }
        let texts = [("name", &self.name, Self::MAX_TEXT), ("version", &self.version, Self::MAX_TEXT)].into_iter();
        let patterns = self.durable.iter().map(|pattern| ("durable", pattern, Self::MAX_PATTERN));
        match texts.chain(patterns).find(|(_, text, most)| text.len() > *most) {
            Some((field, text, most)) => Err(DescriptorError::Long { field, found: text.len(), most }),
            None => Ok(()),
        }
    }

    /// Whether the calls of that callback run one at a time.
    pub fn is_serial(&self, handler: Handler) -> bool {
        self.serial.iter().any(|name| name == handler.as_str())
    }

    /// Whether a key of the store outlives the process.
    pub fn is_durable(&self, key: &str) -> bool {
        self.durable.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => pattern == key,
        })
    }
}

impl IdDescriptor {
    /// Whether the id is there on a host of that role.
    pub fn applies_to(&self, role: HostRole) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.contains(&role))
    }

    /// The timer on a host of that role, as first delay and period. Both `type` and `interval` are needed; an interval under 1 s
    /// counts as 1 s, a delay under 0 as 0.
    pub fn timer_on(&self, role: HostRole) -> Option<(Duration, Duration)> {
        let wanted = match self.timer? {
            TimerKind::Pull => HostRole::Master,
            TimerKind::Push => HostRole::Monitor,
        };
        // A timer waits a day at most, so that adding to an instant cannot overflow.
        let seconds = |value: f64, least: f64| Duration::from_secs_f64(value.clamp(least, 86_400.0));
        let interval = self.interval.filter(|value| value.is_finite())?;
        let delay = self.delay.filter(|value| value.is_finite()).unwrap_or(0.0);
        (wanted == role).then(|| (seconds(delay, 0.0), seconds(interval, 1.0)))
    }
}

impl Operations {
    /// The highest user level that may ask for an operation: 1 where none is given.
    pub fn level(&self, operation: &str) -> u32 {
        self.levels.get(operation).or_else(|| self.levels.get("*")).copied().unwrap_or(1)
    }

    /// Whether a client may ask for an operation. One without a level cannot have come through registration; it may do nothing.
    pub fn permit(&self, caller: &Caller, operation: &str) -> bool {
        let level = caller.level.unwrap_or(u32::MAX);
        level <= 1 || level <= self.level(operation)
    }

    /// Whether an operation only shows something, by what the module declares. To be asked of what the descriptor says: a level that the configuration
    /// gives says nothing of what an operation does.
    pub fn is_read(&self, operation: &str) -> bool {
        self.level(operation) > 1 || self.reads.contains(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_limits_give_way_to_what_was_said() {
        let descriptor = r#"{"ids":[{"id":"a"}],"limits":{"wall_ms":60000,"memory_mib":1,"answer_kib":2048}}"#;
        let wanted = Descriptor::parse(descriptor).unwrap().limits;
        let common = Limits::default();
        let mut limits = Limits { answer: 1 << 10, ..common.clone() };
        wanted.raise(&mut limits, &common, 1);
        assert_eq!(limits.wall, Duration::from_secs(60));
        assert_eq!(limits.answer, 1 << 10, "said for this module");
        assert_eq!((limits.memory, limits.cpu), (common.memory, common.cpu), "never less than every module has");
        let mut limits = Limits { store: 7, ..common.clone() };
        wanted.raise(&mut limits, &common, 5);
        assert_eq!((limits.answer, limits.memory), (10 << 20, 5 * common.memory), "as many times as there are servers");
        assert_eq!((limits.message, limits.cpu), (5 * common.message, 5 * common.cpu), "also what it has no wish for");
        assert_eq!((limits.store, limits.wall), (7, Duration::from_secs(60)), "said, and no matter of the servers");
    }

    #[test]
    fn m3_a_timer_needs_type_and_interval_and_is_normalized() {
        let timer = |text: &str, role| {
            let id: IdDescriptor = serde_json::from_str(text).unwrap();
            id.timer_on(role).map(|(delay, interval)| (delay.as_secs_f64(), interval.as_secs_f64()))
        };
        let pull = r#"{"id":"a","type":"pull","interval":5}"#;
        assert_eq!(timer(pull, HostRole::Master), Some((0.0, 5.0)));
        assert_eq!(timer(pull, HostRole::Monitor), None);
        assert_eq!(timer(r#"{"id":"a","type":"push","interval":0.1,"delay":-3}"#, HostRole::Monitor), Some((0.0, 1.0)));
        assert_eq!(timer(r#"{"id":"a","interval":5}"#, HostRole::Master), None);
        assert_eq!(timer(r#"{"id":"a","type":"pull"}"#, HostRole::Master), None);
        assert_eq!(timer(r#"{"id":"a","type":"pull","interval":1e300}"#, HostRole::Master), Some((0.0, 86_400.0)));
    }

    #[test]
    fn a_bad_descriptor_is_refused_with_a_reason() {
        let check = |text: &str, part: &str| {
            let said = Descriptor::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        };
        check("{", "malformed");
        check(r#"{"ids":[]}"#, "at least one");
        check(r#"{"ids":[{"id":""}]}"#, "empty");
        check(r#"{"ids":[{"id":"a"},{"id":"a"}]}"#, "twice");
        check(r#"{"ids":[{"id":"a","roles":["boss"]}]}"#, "boss");
        check(r#"{"ids":[{"id":"a"}],"serial":["start"]}"#, "`start`");
        check(r#"{"ids":[{"id":"a\n\u202e"}]}"#, r"`a\n\u202e` is empty, longer");
        check(r#"{"ids":[{"id":"a"}],"operations":{"by":"s","levels":{"st\u200bop":2}}}"#, "U+200B");
        check(r#"{"ids":[{"id":"a"}],"operations":{"by":" s"}}"#, "blank");
        check(
            &format!(r#"{{"ids":[{{"id":"a"}}],"version":"{}"}}"#, "1".repeat(257)),
            "`version` of the descriptor has a text of 257 bytes",
        );
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_name_with_the_limit() {
        let with = |members: &serde_json::Value| {
            let mut descriptor = serde_json::json!({"ids": [{"id": "a"}]});
            descriptor.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            Descriptor::parse(&descriptor.to_string()).unwrap_err().to_string()
        };
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        let levels: BTreeMap<String, u32> = many(257).into_iter().map(|name| (name, 2)).collect();
        for (members, said) in [
            (serde_json::json!({"durable": many(129)}), "`durable` of the descriptor has 129 entries; at most 128"),
            (
                serde_json::json!({"durable": ["k".repeat(258)]}),
                "`durable` of the descriptor has a text of 258 bytes; at most 257",
            ),
            (
                serde_json::json!({"operations": {"reads": many(257)}}),
                "`operations.reads` of the descriptor has 257 entries",
            ),
            (
                serde_json::json!({"operations": {"levels": levels}}),
                "`operations.levels` of the descriptor has 257 entries",
            ),
            (serde_json::json!({"serial": vec!["start"; 100]}), "`serial` of the descriptor has 100 entries"),
            (
                serde_json::json!({"ids": [{"id": "a", "roles": ["master", "monitor", "master"]}]}),
                "`roles` of the descriptor has 3",
            ),
            (serde_json::json!({"name": "n".repeat(257)}), "`name` of the descriptor has a text of 257"),
            (serde_json::json!({"unknown": "x".repeat(64 << 10)}), "at most 65536 are read"),
            (serde_json::json!({"ids": many(1)}), "malformed"),
        ] {
            let message = with(&members);
            assert!(message.contains(said), "{message}");
        }
        let unknown = with(&serde_json::json!({"ids": [{"id": "a", "roles": ["x".repeat(10_000)]}]}));
        assert!(unknown.len() < 2_000, "a refusal does not repeat all of a text: {}", unknown.len());
    }

    #[test]
    fn a2_an_operation_needs_level_1_unless_declared_otherwise() {
        let operations: Operations = serde_json::from_str(r#"{"by":"signal","levels":{"list":2}}"#).unwrap();
        assert_eq!((operations.level("list"), operations.level("stop")), (2, 1));
        assert_eq!((operations.is_read("list"), operations.is_read("stop")), (true, false));
        let reads: Operations = serde_json::from_str(r#"{"by":"signal","reads":["jobs"]}"#).unwrap();
        assert_eq!((reads.level("jobs"), reads.is_read("jobs")), (1, true));
        let all: Operations = serde_json::from_str(r#"{"levels":{"*":3,"secret":1}}"#).unwrap();
        assert_eq!((all.level(""), all.level("secret")), (3, 1));
    }

    #[test]
    fn durable_keys_are_names_or_beginnings() {
        let descriptor = Descriptor::parse(r#"{"ids":[{"id":"a"}],"durable":["one","time:*"]}"#).unwrap();
        assert!(descriptor.is_durable("one") && descriptor.is_durable("time:x"));
        assert!(!descriptor.is_durable("one more") && !descriptor.is_durable("tim"));
    }
}
