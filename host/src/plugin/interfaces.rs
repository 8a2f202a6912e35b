//! The interfaces that a host offers to modules: what each allows, in a sentence, and what has to be granted for it.

use crate::wire::WIT_VERSIONS;

/// An interface that a host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What it allows, in a sentence without its subject, which is the module.
    pub allows: &'static str,
    /// The grant that it takes; none where every module has it.
    pub grant: Option<&'static str>,
}

/// An import that no grant could allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOffered {
    /// The interface is of a version that this host does not serve.
    #[error("it imports `{import}`; this host serves {served}: build it against that version")]
    Version {
        /// The import as it stands in the file.
        import: String,
        /// The package and the versions of it that are served.
        served: String,
    },
    /// Nothing here offers such an interface.
    #[error("it imports `{import}`, which this host does not offer")]
    Unknown {
        /// The import as it stands in the file.
        import: String,
    },
}

/// Those of `pomelo:admin`: the name, whether it takes a grant, which has that name, and what it allows.
const OWN: [(&str, bool, &str); 11] = [
    ("types", false, "has no function of its own"),
    ("agent", false, "knows where it runs and who calls it, writes to the log"),
    ("store", false, "keeps text in a store of its own, up to `store_kib`"),
    ("cluster", true, "reads the server table, and sends messages to its own module on other servers"),
    ("uplink", true, "sends messages to its own module on the master"),
    ("application", true, "changes the program's view of the cluster and its crons, and calls what the program offers"),
    ("process", true, "reads figures, output and logs of the program; stops, kills, restarts and drains it"),
    ("kept-output", true, "reads what programs have written, also those that do not run"),
    ("starter", true, "reads the fleet; starts, stops, restarts and drains any server"),
    ("scripts", true, "saves and runs programs, with what [scripts] of pomelo.toml grants them"),
    ("profiler", true, "takes profiles of programs and of modules"),
];

/// Those of WASI: a package, its interfaces, and what they allow. Nothing of them leads out of the module, so that ordinary libraries and other languages run
/// without a grant.
const WASI: [(&str, &[&str], &str); 6] = [
    ("wasi:io", &["error", "poll", "streams"], "waits for what the other interfaces of WASI offer"),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"], "reads the time, and waits, within the time of its call"),
    ("wasi:random", &["random", "insecure", "insecure-seed"], "draws random numbers"),
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
        "writes to the log by its standard output; has no arguments, no environment and no input",
    ),
    ("wasi:filesystem", &["types", "preopens"], "can open no file, because no directory is given to it"),
    (
        "wasi:sockets",
        &["network", "instance-network", "tcp", "tcp-create-socket", "udp", "udp-create-socket", "ip-name-lookup"],
        "can make no socket, because the network is closed to it",
    ),
];

/// Whether a version of WASI is offered: 0.2 with any patch, and none that is not released.
fn is_offered(version: &str) -> bool {
    version
        .strip_prefix("0.2.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Interface {
    /// The interface that an import names.
    ///
    /// # Errors
    /// [`NotOffered`].
    pub fn of(import: &str) -> Result<Self, NotOffered> {
        let unknown = || NotOffered::Unknown { import: import.into() };
        let another = |served: String| NotOffered::Version { import: import.into(), served };
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        let (package, name) = path.split_once('/').ok_or_else(unknown)?;
        if package == "pomelo:admin" {
            if !WIT_VERSIONS.contains(&version) {
                return Err(another(format!("pomelo:admin {}", WIT_VERSIONS.join(", "))));
            }
            let (name, is_granted, allows) = OWN.into_iter().find(|(own, ..)| *own == name).ok_or_else(unknown)?;
            return Ok(Interface { allows, grant: is_granted.then_some(name) });
        }
        let of_wasi = WASI.into_iter().find(|(known, names, _)| *known == package && names.contains(&name));
        let (.., allows) = of_wasi.ok_or_else(unknown)?;
        if is_offered(version) { Ok(Interface { allows, grant: None }) } else { Err(another("WASI 0.2".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;
    use crate::plugin::{Engine, EngineLimits};

    #[test]
    fn every_interface_that_a_host_offers_is_known() {
        let package = include_str!("../../../wit/capabilities.wit");
        let declared = package.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {"));
        let own: Vec<&str> = OWN.iter().map(|(name, ..)| *name).filter(|name| *name != "types").collect();
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
        assert!(why("wasi:cli/stdout@0.2.0-rc-2023-12-05").contains("serves WASI 0.2:"));
        assert!(why("wasi:clocks/timezone@0.2.0").contains("does not offer"));
        assert!(why("wasi:http/outgoing-handler@0.2.6").contains("does not offer"));
        assert!(why("acme:thing/x").contains("does not offer"));
    }

    /// One member of those interfaces whose members can be written without types of other interfaces.
    #[test]
    fn what_is_offered_of_wasi_is_linked() {
        const RESOURCES: [(&str, &str); 10] = [
            ("wasi:io/error", "error"),
            ("wasi:io/poll", "pollable"),
            ("wasi:io/streams", "output-stream"),
            ("wasi:cli/terminal-input", "terminal-input"),
            ("wasi:cli/terminal-output", "terminal-output"),
            ("wasi:filesystem/types", "descriptor"),
            ("wasi:sockets/network", "network"),
            ("wasi:sockets/tcp", "tcp-socket"),
            ("wasi:sockets/udp", "udp-socket"),
            ("wasi:sockets/ip-name-lookup", "resolve-address-stream"),
        ];
        const FUNCTIONS: [(&str, &str, &str); 6] = [
            ("wasi:clocks/monotonic-clock", "now", "(result u64)"),
            ("wasi:random/random", "get-random-u64", "(result u64)"),
            ("wasi:random/insecure", "get-insecure-random-u64", "(result u64)"),
            ("wasi:random/insecure-seed", "insecure-seed", "(result (tuple u64 u64))"),
            ("wasi:cli/environment", "initial-cwd", "(result (option string))"),
            ("wasi:cli/exit", "exit", "(param \"status\" (result))"),
        ];
        let engine = Engine::new(EngineLimits::default(), None).unwrap();
        let is_linked = |path: &str, member: String| {
            let component = format!("(component (import \"{path}@0.2.0\" (instance {member})))");
            let component = Component::new(engine.wasmtime(), wat::parse_str(component).unwrap()).unwrap();
            engine.linker().instantiate_pre(&component).is_ok()
        };
        for (path, resource) in RESOURCES {
            let resource = format!("(export \"{resource}\" (type (sub resource)))");
            assert!(is_linked(path, resource) && Interface::of(&format!("{path}@0.2.0")).is_ok(), "{path}");
        }
        let function = |name: &str, kind: &str| format!("(export \"{name}\" (func {kind}))");
        for (path, name, kind) in FUNCTIONS {
            assert!(is_linked(path, function(name, kind)) && Interface::of(&format!("{path}@0.2.0")).is_ok(), "{path}");
        }
        assert!(!is_linked("wasi:clocks/timezone", function("now", "(result u64)")));
    }
}
