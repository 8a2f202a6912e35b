//! The descriptor of a module. Any text is a descriptor within the documented bounds, or is refused with a reason.

use std::collections::HashSet;
use std::time::Duration;

use pomelo_host::plugin::{Descriptor, Handler, HostRole, IdDescriptor, Limits};

/// Reads the bytes as a descriptor.
pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let descriptor = match Descriptor::parse(text) {
        Ok(descriptor) => descriptor,
        Err(why) => return assert!(!why.to_string().is_empty()),
    };
    bounded(&descriptor);
    // It is sent on as JSON, and read as it was. Numbers with more digits than a number keeps may differ in their last bit.
    let again = Descriptor::parse(&serde_json::to_string(&descriptor).unwrap()).unwrap();
    assert_eq!(without_times(again), without_times(descriptor.clone()));
    for handler in Handler::ALL {
        assert_eq!(descriptor.is_serial(handler), descriptor.serial.iter().any(|name| name == handler.as_str()));
    }
    for pattern in &descriptor.durable {
        assert!(descriptor.is_durable(pattern), "a pattern is a key that it names");
    }
    limits(&descriptor);
}

fn bounded(descriptor: &Descriptor) {
    let ids: HashSet<&String> = descriptor.ids.iter().map(|id| &id.id).collect();
    assert!(!ids.is_empty() && ids.len() == descriptor.ids.len() && ids.len() <= Descriptor::MAX_IDS);
    assert!(
        ids.iter().all(|id| (1..=Descriptor::MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
    );
    assert!(descriptor.name.len() <= Descriptor::MAX_TEXT && descriptor.version.len() <= Descriptor::MAX_TEXT);
    for id in &descriptor.ids {
        let roles = [HostRole::Master, HostRole::Monitor];
        let timers = roles.map(|role| id.timer_on(role));
        assert!(timers.iter().flatten().count() <= 1, "a timer is one host's");
        for (delay, interval) in timers.into_iter().flatten() {
            let day = Duration::from_secs(86_400);
            assert!(delay <= day && (Duration::from_secs(1)..=day).contains(&interval));
        }
        assert!(id.roles.is_some() || roles.iter().all(|role| id.applies_to(*role)));
    }
}

/// What a module wishes raises limits and never lowers one.
fn limits(descriptor: &Descriptor) {
    let common = Limits::default();
    for times in [0, 1, 7, usize::MAX] {
        let mut limits = common.clone();
        descriptor.limits.raise(&mut limits, &common, times);
        assert!(limits.cpu >= common.cpu && limits.wall >= common.wall && limits.memory >= common.memory);
        assert!(limits.answer >= common.answer && limits.message >= common.message && limits.store >= common.store);
    }
}

fn without_times(mut descriptor: Descriptor) -> Descriptor {
    for IdDescriptor { interval, delay, .. } in &mut descriptor.ids {
        (*interval, *delay) = (None, None);
    }
    descriptor
}
