//! What a configuration says of modules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Source;
use crate::plugin::{Descriptor, Grants, IdDescriptor, Keeper, Limits, Operations, WantedLimits};
use crate::trust::{Keys, Signer};
use crate::versions::Versions;

/// What a configuration says of modules.
#[derive(Clone, Default)]
pub struct Settings {
    /// Limits of modules for which nothing else is said.
    pub limits: Limits,
    /// By module id.
    pub modules: BTreeMap<String, ModuleSettings>,
    /// By command of the host: the highest user level that may give it. Overrides the host's own level.
    pub commands: BTreeMap<String, u32>,
    /// Whether a file may take the place of a built-in module of the same id.
    pub replace_builtin: bool,
    /// The largest answer, bytes, whatever a module's limits say, because no frame could carry a larger one. Absent: no such bound.
    pub max_answer: Option<usize>,
    /// How many times as many servers are expected as the limits that the built-in modules want are made for. Those limits grow with it. 0 counts as 1.
    pub scale: usize,
    /// How long calls under way may take to end on a version that was replaced or removed. Default 10 s.
    pub drain: Option<Duration>,
    /// What keeps durable keys, and which modules are disabled, beyond the process. Absent: nothing does.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// Where versions of files are kept that have been good. Absent: none are.
    pub versions: Option<Versions>,
    /// The modules carried inside the program.
    pub built_in: Vec<BuiltIn>,
    /// The keys that files may be signed with.
    pub keys: Keys,
    /// Whether files have to be signed with one of them.
    pub require_signature: bool,
}

/// A module carried inside the program.
#[derive(Clone)]
pub struct BuiltIn {
    /// The file.
    pub source: Source,
    /// Its module ids.
    pub ids: BTreeSet<String>,
    /// The limits that it wants.
    pub limits: WantedLimits,
}

impl std::fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltIn").field("name", &self.source.name).field("ids", &self.ids).finish()
    }
}

/// A file is not signed as it has to be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It is not signed.
    #[error(
        "it is not signed, and `require_signature` is set under [modules] in pomelo.toml: `pomelo module sign` signs a file"
    )]
    Unsigned,
    /// It is signed with a key that is not known.
    #[error("it is signed with the key {0}, which is not among `keys` under [modules] in pomelo.toml")]
    Unknown(String),
    /// It may have an id for which it must be signed, and only says so when it is run.
    #[error(
        "it is signed with none of `keys`, and has no section `pomelo:descriptor`, so that it would have to be run to say whether it has an id for which `key` is set under [module.ID] in pomelo.toml"
    )]
    Unsaid,
    /// It is to be signed with another key.
    #[error(
        "{is}, and its id `{id}` is only for files that are signed with the key `{key}`: see `key` under [module.{id:?}] in pomelo.toml"
    )]
    Other {
        /// The module id.
        id: String,
        /// The name of the key.
        key: String,
        /// What it is.
        is: String,
    },
}

/// What a configuration says of one module id.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSettings {
    /// Options for the module, JSON text of an object.
    pub options: String,
    /// Seconds between two turns of the timer, instead of the descriptor's.
    pub interval: Option<f64>,
    /// Seconds before the first turn, instead of the descriptor's.
    pub delay: Option<f64>,
    /// Limits, instead of the common ones.
    pub limits: Option<Limits>,
    /// What the module may do beside `agent` and `store`.
    pub grants: Grants,
    /// By operation: the highest user level that may ask for it. Overrides the descriptor's level.
    pub levels: BTreeMap<String, u32>,
    /// Server types on which the module is loaded; empty: on all.
    pub server_types: Vec<String>,
    /// Whether the module is enabled at the start.
    pub enabled: bool,
    /// The name of the key that its file must be signed with; absent for any, or none.
    pub key: Option<String>,
    /// Name of the file, in the modules' directory, that this id is loaded from, in addition to the ids of its descriptor.
    pub file: Option<String>,
}

impl Default for ModuleSettings {
    fn default() -> Self {
        ModuleSettings {
            options: "{}".into(),
            interval: None,
            delay: None,
            limits: None,
            grants: Grants::default(),
            levels: BTreeMap::new(),
            server_types: Vec::new(),
            enabled: true,
            key: None,
            file: None,
        }
    }
}

impl Settings {
    /// How long calls under way may take to end on a version that was replaced or removed.
    pub fn drain(&self) -> Duration {
        self.drain.unwrap_or(Duration::from_secs(10))
    }

    /// Whether the module id belongs on a server of that type.
    pub(super) fn applies_to(&self, id: &str, server_type: &str) -> bool {
        let types = self.modules.get(id).map_or(&[][..], |module| &module.server_types);
        types.is_empty() || types.iter().any(|wanted| wanted == server_type)
    }

    /// All ids that a file answers to: the descriptor's, and those that the configuration loads from it.
    pub(super) fn ids(&self, file: &str, descriptor: &[IdDescriptor]) -> Vec<IdDescriptor> {
        let mut ids = descriptor.to_vec();
        let more =
            self.modules.iter().filter(|(_, module)| module.file.as_deref().is_some_and(|name| stem(name) == file));
        for (id, _) in more {
            if let Some(first) = descriptor.first().filter(|_| !ids.iter().any(|known| known.id == *id)) {
                ids.push(IdDescriptor { id: id.clone(), ..first.clone() });
            }
        }
        ids
    }

    /// Whether any file may be installed whose signature is by that key, whatever its ids are.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub(super) fn check_signed(&self, signer: &Signer) -> Result<(), Untrusted> {
        match signer {
            _ if !self.require_signature || self.keys.name_of(signer).is_some() => Ok(()),
            Signer::None => Err(Untrusted::Unsigned),
            Signer::Unknown(key) => Err(Untrusted::Unknown(key.clone())),
            Signer::Known(key) => Err(Untrusted::Unknown(key.clone())),
        }
    }

    /// Whether a file of these ids may be installed whose signature is by that key.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub(super) fn check_signer(&self, ids: &[IdDescriptor], signer: &Signer) -> Result<(), Untrusted> {
        self.check_signed(signer)?;
        let is = self.keys.name_of(signer);
        let wanted = ids.iter().filter_map(|id| Some((&id.id, self.modules.get(&id.id)?.key.as_ref()?)));
        for (id, key) in wanted {
            if is != Some(key.as_str()) {
                let is = match signer {
                    Signer::None => "it is not signed".to_owned(),
                    Signer::Unknown(id) => format!("it is signed with the key {id}, which is not known"),
                    Signer::Known(_) => format!("it is signed with the key `{}`", is.unwrap_or("?")),
                };
                return Err(Untrusted::Other { id: id.clone(), key: key.clone(), is });
            }
        }
        Ok(())
    }

    /// Whether it matters for some module by whom its file is signed.
    pub(super) fn binds_ids(&self) -> bool {
        self.modules.values().any(|module| module.key.is_some())
    }

    /// The id's descriptor with the configuration's timer.
    pub(super) fn timer(&self, mut descriptor: IdDescriptor) -> IdDescriptor {
        if let Some(module) = self.modules.get(&descriptor.id) {
            descriptor.interval = module.interval.or(descriptor.interval);
            descriptor.delay = module.delay.or(descriptor.delay);
        }
        descriptor
    }

    pub(super) fn operations(&self, id: &str, descriptor: &Descriptor) -> Operations {
        let mut operations = descriptor.operations.clone();
        if let Some(module) = self.modules.get(id) {
            operations.levels.extend(module.levels.clone());
        }
        operations
    }

    /// What a module id's context has: options, grants, and the most bytes of its store.
    pub(super) fn context(&self, id: &str) -> (String, Grants, usize) {
        let module = self.modules.get(id);
        let mut limits = module.and_then(|module| module.limits.clone()).unwrap_or_else(|| self.limits.clone());
        let mut grants = module.map(|module| module.grants.clone()).unwrap_or_default();
        if let Some(built_in) = self.built_in(id) {
            grants.extend(&built_in.source.grants);
            built_in.limits.raise(&mut limits, &self.limits, self.scale);
        }
        (module.map_or_else(|| "{}".into(), |module| module.options.clone()), grants, limits.store)
    }

    /// The built-in module that has the id.
    pub(super) fn built_in(&self, id: &str) -> Option<&BuiltIn> {
        self.built_in.iter().find(|built_in| built_in.ids.contains(id))
    }
}

fn stem(file: &str) -> &str {
    file.strip_suffix(".wasm").unwrap_or(file)
}
