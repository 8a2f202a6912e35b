//! What an operator granted to a module, and the check of a file's imports against it.

use std::collections::BTreeSet;

/// What a module may do beside `agent` and `store`, which are always granted.
///
/// A grant is the name of an interface of `pomelo:admin` (`cluster`, `uplink`, `application`, `process`, `kept-output`, `starter`, `scripts`, `profiler`), an interface of WASI without
/// its version (`wasi:cli/stdout`) or a package of it (`wasi:cli`, `wasi:*`), or names another module: `cluster:ID` and
/// `uplink:ID` (may address it on other servers), `store:ID` (may read its store).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<String>);

/// An import that was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// The interface is known, and the operator did not grant it.
    #[error(
        "it imports `{import}`, which is not granted to it: add \"{grant}\" to `grants` of [module.\"{id}\"] in pomelo.toml if it shall have that"
    )]
    Missing {
        /// The import as it stands in the file.
        import: String,
        /// The grant that would allow it.
        grant: String,
        /// The module id to grant it to.
        id: String,
    },
    /// The interface is of a version of `pomelo:admin` that this host does not serve.
    #[error("it imports `{import}`; this host serves pomelo:admin {served}: build it against that version")]
    Version {
        /// The import as it stands in the file.
        import: String,
        /// The versions that are served.
        served: String,
    },
    /// Nothing here offers such an interface.
    #[error("it imports `{import}`, which this host does not offer")]
    Unknown {
        /// The import as it stands in the file.
        import: String,
    },
}

/// Interfaces that every module has.
const ALWAYS: [&str; 3] = ["types", "agent", "store"];
/// Interfaces that are granted.
const GRANTED: [&str; 8] =
    ["cluster", "uplink", "application", "process", "kept-output", "starter", "scripts", "profiler"];

impl Grants {
    /// Those of a list.
    pub fn new<I: IntoIterator<Item: Into<String>>>(grants: I) -> Self {
        Grants(grants.into_iter().map(Into::into).collect())
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: &Grants) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Whether the module may, through an interface, turn to the module `id`.
    pub fn reaches(&self, interface: &str, id: &str) -> bool {
        self.0.contains(&format!("{interface}:{id}"))
    }

    /// Whether text is a grant of a known form; for the check of a configuration.
    pub fn is_known(grant: &str) -> bool {
        GRANTED.contains(&grant)
            || grant.starts_with("wasi:")
            || ["cluster:", "uplink:", "store:"]
                .iter()
                .any(|prefix| grant.strip_prefix(prefix).is_some_and(|id| !id.is_empty()))
    }

    /// Checks the imports of a file that answers to `id`.
    ///
    /// # Errors
    /// The first import that is not allowed.
    pub fn check(&self, id: &str, imports: &[String]) -> Result<(), NotGranted> {
        imports.iter().try_for_each(|import| self.check_one(id, import))
    }

    fn check_one(&self, id: &str, import: &str) -> Result<(), NotGranted> {
        let missing = |grant: &str| NotGranted::Missing { import: import.into(), grant: grant.into(), id: id.into() };
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        if let Some(interface) = path.strip_prefix("pomelo:admin/") {
            if !crate::wire::WIT_VERSIONS.contains(&version) {
                let served = crate::wire::WIT_VERSIONS.join(", ");
                return Err(NotGranted::Version { import: import.into(), served });
            }
            return match interface {
                _ if ALWAYS.contains(&interface) || self.0.contains(interface) => Ok(()),
                _ if GRANTED.contains(&interface) => Err(missing(interface)),
                _ => Err(NotGranted::Unknown { import: import.into() }),
            };
        }
        if path.starts_with("wasi:") {
            let package = path.split('/').next().unwrap_or(path);
            let granted = [path, package, "wasi:*"].iter().any(|grant| self.0.contains(*grant));
            return if granted { Ok(()) } else { Err(missing(package)) };
        }
        Err(NotGranted::Unknown { import: import.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x2_only_what_was_granted_may_be_imported() {
        let check = |grants: &[&str], import: &str| {
            let grants = Grants::new(grants.iter().copied());
            grants.check("m", &[import.to_owned()]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(&[], "pomelo:admin/store@0.1.0"), "");
        assert_eq!(check(&["process"], "pomelo:admin/process@0.1.0"), "");
        assert!(
            check(&["cluster"], "pomelo:admin/process@0.1.0").contains("add \"process\" to `grants` of [module.\"m\"]")
        );
        assert!(check(&["process"], "pomelo:admin/process@9.0.0").contains("serves pomelo:admin 0.1.0"));
        assert!(check(&[], "wasi:cli/stdout@0.2.3").contains("add \"wasi:cli\""));
        assert_eq!(check(&["wasi:cli"], "wasi:cli/stdout@0.2.3"), "");
        assert_eq!(check(&["wasi:*"], "wasi:sockets/tcp@0.2.3"), "");
        assert!(check(&["wasi:*"], "acme:thing/x").contains("does not offer"));
        assert!(check(&[], "pomelo:admin/nuclear@0.1.0").contains("does not offer"));
    }
}
