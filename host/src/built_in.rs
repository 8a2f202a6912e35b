//! The modules that the program carries.
//!
//! They are components like any other. What they import is granted to them, and they may address their own ids on other servers.
//! Some of them, those of pomelo's `systemMonitor`, run only where the configuration says so.

use std::sync::Arc;

use crate::console::{BuiltIn, Origin, Source};
use crate::plugin::{Descriptor, Grants, Inspection};

/// Name of each, whether it is one of those that have to be switched on, and its file, as `build.rs` found them.
const FILES: &[(&str, bool, &[u8])] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The modules that the program carries; with `system_monitor`, those too that look at machines, processes and logs, and run scripts.
pub fn built_in(system_monitor: bool) -> Vec<BuiltIn> {
    let wanted = FILES.iter().filter(|(_, optional, _)| system_monitor || !optional);
    wanted.map(|(name, _, bytes)| module(name, bytes)).collect()
}

fn module(name: &str, bytes: &[u8]) -> BuiltIn {
    let inspection = Inspection::new(bytes).ok();
    let descriptor = inspection.as_ref().and_then(|inspection| inspection.descriptor.as_deref());
    let Descriptor { ids, limits, .. } = descriptor.and_then(|text| Descriptor::parse(text).ok()).unwrap_or_default();
    let interfaces = inspection.iter().flat_map(|inspection| &inspection.imports).filter_map(|import| {
        let (interface, _) = import.strip_prefix("pomelo:admin/")?.split_once('@')?;
        Some(interface.to_owned())
    });
    let own = ids.iter().flat_map(|id| ["cluster", "uplink"].map(|interface| format!("{interface}:{}", id.id)));
    // The name has a slash, which no file's name has. So no file in the modules' directory replaces a built-in module by its name alone.
    let source = Source {
        name: format!("built-in/{name}"),
        origin: Origin::BuiltIn,
        bytes: Arc::from(bytes),
        grants: Grants::new(interfaces.chain(own)),
    };
    BuiltIn { source, ids: ids.into_iter().map(|id| id.id).collect(), limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_modules_can_be_read_and_are_granted_what_they_import() {
        for built_in in built_in(true) {
            assert!(!built_in.ids.is_empty(), "{built_in:?}");
            let inspection = Inspection::new(&built_in.source.bytes).unwrap();
            built_in.source.grants.check("built-in", &inspection.imports).unwrap();
            assert!(inspection.descriptor.is_some(), "{built_in:?} says what it is without being run");
        }
    }

    #[test]
    fn p_the_system_monitor_is_switched_on() {
        let ids = |system_monitor| {
            let ids = built_in(system_monitor).into_iter().flat_map(|built_in| built_in.ids);
            ids.collect::<std::collections::BTreeSet<_>>()
        };
        let (always, all) = (ids(false), ids(true));
        for id in ["__console__", "__masterwatcher__", "__monitorwatcher__", "watchServer"] {
            assert!(always.contains(id), "{id}");
        }
        for id in ["monitorLog", "nodeInfo", "profiler", "scripts", "systemInfo"] {
            assert!(!always.contains(id) && all.contains(id), "{id}");
        }
        assert!(all.is_superset(&always));
    }
}
