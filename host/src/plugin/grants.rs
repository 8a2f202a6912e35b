//! What an operator granted to a module, and the check of a file's imports against it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::interfaces::{Interface, NotOffered};

/// What a module may do beside what every module may.
///
/// A grant is the name of an interface of `pomelo:admin` (`cluster`, `uplink`, `application`, `process`, `kept-output`, `starter`, `scripts`, `profiler`), or names another module: `cluster:ID` and
/// `uplink:ID` (may address it on other servers), `store:ID` (may read its store). One that begins with `wasi:` grants nothing: what there is of WASI every module has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<String>);

/// Imports that a module may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// The interfaces are known, and the operator did not grant them.
    #[error("{}", .0.sentence(&format!("[module.\"{}\"]", .0.id), "it", "it"))]
    Missing(MissingGrants),
    /// No grant could allow it.
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
}

/// What is imported and not granted, and what would grant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGrants {
    /// The imports as they stand in the file.
    pub imports: Vec<String>,
    /// The grants that would allow them.
    pub grants: BTreeSet<String>,
    /// The module id to grant them to.
    pub id: String,
}

impl MissingGrants {
    /// As a sentence about a file: `table` is where in `pomelo.toml` it would be granted, `to` who would get it, and `they` the pronoun of that.
    pub fn sentence(&self, table: &str, to: &str, they: &str) -> String {
        let imports: Vec<String> = self.imports.iter().map(|import| format!("`{import}`")).collect();
        let (last, before) = imports.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
        let (imports, are) = match before {
            [] => (last.to_owned(), "is"),
            _ => (format!("{} and {last}", before.join(", ")), "are"),
        };
        let grants: Vec<String> = self.grants.iter().map(|grant| format!("{grant:?}")).collect();
        format!(
            "it imports {imports}, which {are} not granted to {to}: add {} to `grants` of {table} in pomelo.toml if {they} shall have that",
            grants.join(", ")
        )
    }
}

/// An import of a file, and what it is worth here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its name as it stands in the file.
    pub name: String,
    /// What it allows, in a sentence without its subject, which is the module; or why this host does not offer it.
    pub allows: String,
    /// The grant that it takes; absent where every module has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Whether the module may import it.
    pub granted: bool,
}

impl Grants {
    /// Those of a list.
    pub fn new<I: IntoIterator<Item: Into<String>>>(grants: I) -> Self {
        Grants(grants.into_iter().map(Into::into).collect())
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: &Grants) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The grants, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether the module may, through an interface, turn to the module `id`.
    pub fn reaches(&self, interface: &str, id: &str) -> bool {
        self.0.contains(&format!("{interface}:{id}"))
    }

    /// Checks the imports of a file that answers to `id`.
    ///
    /// # Errors
    /// The first import that no grant could allow, or else all that are not granted.
    pub fn check(&self, id: &str, imports: &[String]) -> Result<(), NotGranted> {
        let mut missing = MissingGrants { imports: Vec::new(), grants: BTreeSet::new(), id: id.to_owned() };
        for import in imports {
            if let Some(grant) = Interface::of(import)?.grant.filter(|grant| !self.0.contains(*grant)) {
                missing.imports.push(import.clone());
                missing.grants.insert(grant.to_owned());
            }
        }
        if missing.imports.is_empty() { Ok(()) } else { Err(NotGranted::Missing(missing)) }
    }

    /// What each import of a file is worth with these grants.
    pub fn read(&self, imports: &[String]) -> Vec<Import> {
        let read = |name: &String| {
            let name = name.clone();
            match Interface::of(&name) {
                Ok(Interface { allows, grant }) => {
                    let granted = grant.is_none_or(|grant| self.0.contains(grant));
                    Import { name, allows: allows.to_owned(), grant: grant.map(str::to_owned), granted }
                }
                Err(why) => Import { name, allows: why.to_string(), grant: None, granted: false },
            }
        };
        imports.iter().map(read).collect()
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
        assert_eq!(check(&[], "wasi:cli/stdout@0.2.3"), "", "what leads nowhere is granted to all");
        assert_eq!(check(&["wasi:*"], "wasi:sockets/tcp@0.2.3"), "");
        assert!(check(&["wasi:*"], "acme:thing/x").contains("does not offer"));
        assert!(check(&[], "pomelo:admin/nuclear@0.1.0").contains("does not offer"));
    }

    #[test]
    fn all_that_is_not_granted_is_named_at_once() {
        let imports = ["agent", "starter", "cluster", "process"].map(|name| format!("pomelo:admin/{name}@0.1.0"));
        let why = Grants::new(["process"]).check("m", &imports).unwrap_err();
        assert_eq!(
            why.to_string(),
            "it imports `pomelo:admin/starter@0.1.0` and `pomelo:admin/cluster@0.1.0`, which are not granted to it: add \"cluster\", \"starter\" to \
             `grants` of [module.\"m\"] in pomelo.toml if it shall have that"
        );
        let read = Grants::new(["process"]).read(&imports);
        let granted: Vec<_> = read.iter().map(|import| (import.grant.as_deref(), import.granted)).collect();
        assert_eq!(
            granted,
            [(None, true), (Some("starter"), false), (Some("cluster"), false), (Some("process"), true)]
        );
    }
}
