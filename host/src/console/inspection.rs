//! What can be said of a file without running it: what it imports and what that allows, what it exports, and what it says of itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::candidate::{grants, signer};
use super::error::InstallError;
use super::registry::Registry;
use super::settings::Settings;
use super::source::Origin;
use super::table::Unit;
use crate::failure::{Failure, code};
use crate::plugin::{Descriptor, Grants, IdDescriptor, Import, Inspection, LoadError, NotGranted, compiler};
use crate::trust::Signer;
use crate::wire::shown;

/// What can be said of a file, as `inspect` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleInspection {
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// Size of the file, bytes.
    pub size: usize,
    /// What it was made by and in which languages, as its tools have written into it.
    pub toolchain: BTreeSet<String>,
    /// The name of the key that it is signed with; absent where it is signed with no key that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// The id of a key that it is signed with and that is not known, as minisign shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_key: Option<String>,
    /// Callbacks that it exports.
    pub handlers: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// All that is granted to its ids.
    pub grants: BTreeSet<String>,
    /// What it says of itself. Absent where it would have to be run for that.
    pub descriptor: Option<Descriptor>,
    /// The module ids that it answers to: its own, and those that the configuration loads from it. Empty without a descriptor.
    pub ids: Vec<IdDescriptor>,
}

impl ModuleInspection {
    /// Reads a file that would be a version of the module of that name, and checks all that a host checks before it compiles it.
    ///
    /// # Errors
    /// Why a host would refuse it, whatever is granted to it.
    pub fn of_file(settings: &Settings, name: &str, bytes: &[u8]) -> Result<Self, InstallError> {
        let inspection = Inspection::new(bytes).map_err(LoadError::from)?;
        let signer = signer(settings, name, bytes)?;
        compiler::check(bytes).map_err(LoadError::from)?;
        let descriptor = inspection.descriptor.as_deref().map(Descriptor::parse).transpose();
        let descriptor = descriptor.map_err(LoadError::from)?;
        Ok(Self::new(settings, name, &signer, &Grants::default(), &inspection, descriptor.as_ref()))
    }

    fn new(
        settings: &Settings,
        name: &str,
        signer: &Signer,
        own: &Grants,
        inspection: &Inspection,
        descriptor: Option<&Descriptor>,
    ) -> Self {
        let ids = descriptor.map(|descriptor| settings.ids(name, &descriptor.ids)).unwrap_or_default();
        let grants = grants(settings, own, &ids);
        ModuleInspection {
            digest: inspection.digest.clone(),
            size: inspection.size,
            toolchain: inspection.toolchain.clone(),
            signer: settings.keys.name_of(signer).map(str::to_owned),
            unknown_key: match signer {
                Signer::Unknown(key) => Some(key.clone()),
                _ => None,
            },
            handlers: inspection.handlers.iter().map(|handler| handler.as_str().to_owned()).collect(),
            imports: grants.read(&inspection.imports),
            grants: grants.iter().map(str::to_owned).collect(),
            descriptor: descriptor.cloned(),
            ids,
        }
    }

    /// Why a host would refuse the file for what it imports.
    ///
    /// # Errors
    /// [`NotGranted`].
    pub fn check_grants(&self) -> Result<(), NotGranted> {
        let imports: Vec<String> = self.imports.iter().map(|import| import.name.clone()).collect();
        let id = self.ids.first().map_or("ID", |id| &id.id);
        Grants::new(self.grants.iter().map(String::as_str)).check(id, &imports)
    }
}

impl Registry {
    /// The file that answers to a module id, here or only on other hosts.
    ///
    /// # Errors
    /// `unknown-module`.
    pub(super) fn unit(&self, id: &str) -> Result<Arc<Unit>, Failure> {
        let unit = self.table.read().unit_of(id).cloned();
        unit.ok_or_else(|| Failure::new(code::UNKNOWN_MODULE, format!("unknown module {}", shown(id))))
    }

    /// What can be said of the version in force of a module id.
    ///
    /// # Errors
    /// `unknown-module`.
    pub(super) fn inspect(&self, id: &str) -> Result<ModuleInspection, Failure> {
        let unit = self.unit(id)?;
        let (settings, module) = (self.settings(), unit.module());
        let own = match unit.origin {
            Origin::BuiltIn => settings.built_in(id).map(|built_in| built_in.source.grants.clone()),
            Origin::File(_) => None,
        };
        let own = own.unwrap_or_default();
        Ok(ModuleInspection::new(
            &settings,
            &unit.name,
            &unit.signer.read(),
            &own,
            module.inspection(),
            Some(module.descriptor()),
        ))
    }
}
