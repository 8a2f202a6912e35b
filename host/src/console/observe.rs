//! Metrics that are states: what the versions in force are doing at the moment.

use std::collections::BTreeSet;

use metrics::{counter, gauge};

use super::registry::Registry;
use crate::budget::Class;
use crate::plugin::{Figures, PutAside};
use crate::util::label;

/// Brings the metrics up to date. `observed` has the files that they had the last time.
pub(super) fn observe(registry: &Registry, observed: &mut BTreeSet<String>) {
    let host = registry.identity.role.as_str();
    let (ids, units) = {
        let table = registry.table.read();
        let units: Vec<_> = table.units.values().map(|unit| (unit.name.clone(), unit.module())).collect();
        (table.slots.len(), units)
    };
    gauge!("pomelo_modules", "host" => host).set(count(ids));
    for (file, module) in &units {
        let millis = module.cpu().as_millis().try_into().unwrap_or(u64::MAX);
        counter!("pomelo_module_cpu_milliseconds_total", "file" => label(file)).absolute(millis);
    }
    let set = |file: &str, figures: Figures, aside: &[PutAside]| {
        let labels = || [("host", host.to_owned()), ("file", label(file))];
        gauge!("pomelo_module_calls", &labels()).set(count(figures.calls));
        gauge!("pomelo_module_calls_queued", &labels()).set(count(figures.queued));
        gauge!("pomelo_module_instances_idle", &labels()).set(count(figures.idle));
        gauge!("pomelo_module_memory_bytes", &labels()).set(count(figures.memory));
        for class in Class::ALL {
            let labels = [("host", host.to_owned()), ("file", label(file)), ("for", class.as_str().to_owned())];
            let of_class = aside.iter().filter(|aside| aside.of.class == class).count();
            gauge!("pomelo_module_put_aside", &labels).set(count(of_class));
        }
    };
    for (file, module) in &units {
        set(file, module.figures(), &module.put_aside());
    }
    // The metrics of a file that is gone would keep their last values for ever.
    let now: BTreeSet<String> = units.into_iter().map(|(file, _)| file).collect();
    observed.difference(&now).for_each(|gone| set(gone, Figures { calls: 0, queued: 0, idle: 0, memory: 0 }, &[]));
    *observed = now;
}

/// A count as a metric has it.
pub(super) fn count(value: usize) -> f64 {
    value as f64
}
