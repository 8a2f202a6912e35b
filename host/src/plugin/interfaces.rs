//! The interfaces that a host offers to modules: what each allows, in a sentence, and what has to be granted for it.

use super::NotGranted;
use crate::wire::WIT_VERSIONS;

/// An interface that a host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What it allows, in a sentence without its subject, which is the module.
    pub allows: &'static str,
    /// The grant that it takes; none where every module has it.
    pub grant: Option<&'static str>,
}

const fn always(allows: &'static str) -> Interface {
    Interface { allows, grant: None }
}

const fn granted(grant: &'static str, allows: &'static str) -> Interface {
    Interface { allows, grant: Some(grant) }
}

/// Those of `pomelo:admin`, by name.
const OWN: [(&str, Interface); 11] = [
    ("types", always("has no function of its own")),
    ("agent", always("knows where it runs and who calls it, writes to the log")),
    ("store", always("keeps text in a store of its own, up to `store_kib`")),
    ("cluster", granted("cluster", "reads the server table, and sends messages to its own module on other servers")),
    ("uplink", granted("uplink", "sends messages to its own module on the master")),
    (
        "application",
        granted(
            "application",
            "changes the program's view of the cluster and its crons, and calls what the program offers",
        ),
    ),
    (
        "process",
        granted("process", "reads figures, output and logs of the program; stops, kills, restarts and drains it"),
    ),
    ("kept-output", granted("kept-output", "reads what programs have written, also those that do not run")),
    ("starter", granted("starter", "reads the fleet; starts, stops, restarts and drains any server")),
    ("scripts", granted("scripts", "saves and runs programs, with what [scripts] of pomelo.toml grants them")),
    ("profiler", granted("profiler", "takes profiles of programs and of modules")),
];

/// Packages of WASI. Nothing of them leads out of the module, so that ordinary libraries and other languages run without a grant.
const WASI: [(&str, Interface); 6] = [
    ("wasi:io", always("waits for what the other interfaces of WASI offer")),
    ("wasi:clocks", always("reads the time, and waits, within the time of its call")),
    ("wasi:random", always("draws random numbers")),
    ("wasi:cli", always("writes to the log by its standard output; has no arguments, no environment and no input")),
    ("wasi:filesystem", always("can open no file, because no directory is given to it")),
    ("wasi:sockets", always("can make no socket, because the network is closed to it")),
];

/// The beginning of the versions of WASI that are offered.
const WASI_VERSION: &str = "0.2.";

impl Interface {
    /// The interface that an import names.
    ///
    /// # Errors
    /// [`NotGranted`] where this host does not offer it.
    pub fn of(import: &str) -> Result<Self, NotGranted> {
        let find = |table: &[(&str, Interface)], name: &str| {
            let found = table.iter().find(|(known, _)| *known == name).map(|(_, interface)| *interface);
            found.ok_or_else(|| NotGranted::Unknown { import: import.into() })
        };
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        let another = |served: String| NotGranted::Version { import: import.into(), served };
        if let Some(name) = path.strip_prefix("pomelo:admin/") {
            return match WIT_VERSIONS.contains(&version) {
                true => find(&OWN, name),
                false => Err(another(format!("pomelo:admin {}", WIT_VERSIONS.join(", ")))),
            };
        }
        let interface = find(&WASI, path.split('/').next().unwrap_or(path))?;
        if version.starts_with(WASI_VERSION) { Ok(interface) } else { Err(another("WASI 0.2".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_that_a_host_offers_is_known() {
        let package = include_str!("../../../wit/capabilities.wit");
        let declared = package.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {"));
        let own: Vec<&str> = OWN.iter().map(|(name, _)| *name).filter(|name| *name != "types").collect();
        assert_eq!(declared.collect::<Vec<_>>(), own);
    }

    #[test]
    fn an_interface_says_what_it_allows_and_what_it_takes() {
        let of = |import: &str| Interface::of(import).map(|interface| (interface.grant, interface.allows));
        assert_eq!(of("pomelo:admin/store@0.1.0").unwrap().0, None);
        assert_eq!(of("pomelo:admin/starter@0.1.0").unwrap().0, Some("starter"));
        assert_eq!(
            of("wasi:clocks/monotonic-clock@0.2.6").unwrap(),
            (None, "reads the time, and waits, within the time of its call")
        );
        assert_eq!(of("wasi:sockets/tcp@0.2.6").unwrap().0, None);
        let why = |import: &str| of(import).unwrap_err().to_string();
        assert!(why("pomelo:admin/store@9.0.0").contains("serves pomelo:admin 0.1.0"));
        assert!(why("wasi:cli/stdout@0.3.0").contains("serves WASI 0.2:"), "{}", why("wasi:cli/stdout@0.3.0"));
        assert!(why("wasi:http/outgoing-handler@0.2.6").contains("does not offer"));
        assert!(why("acme:thing/x").contains("does not offer"));
    }
}
