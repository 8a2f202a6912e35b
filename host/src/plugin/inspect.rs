//! What can be read from a component's file without running it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader};

use super::{Descriptor, Handler};
use crate::wire::shown;

/// What a file imports, exports and says of itself.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// Size of the file, bytes.
    pub size: usize,
    /// Names of the imported interfaces, as they stand in the file.
    pub imports: Vec<String>,
    /// The callbacks that are exported.
    pub handlers: Vec<Handler>,
    /// The text of the custom section `pomelo:descriptor`.
    pub descriptor: Option<String>,
    /// Languages and tools that it was made from and by, with their versions, as its tools have written into it (the custom section `producers`).
    pub toolchain: BTreeSet<String>,
}

/// Why a file is not an admin module.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is nothing in it.
    #[error("it is not a WebAssembly file: it is empty")]
    Empty,
    /// It does not begin as WebAssembly does.
    #[error("it is not a WebAssembly file: it does not begin with `\\0asm`")]
    Foreign,
    /// It begins as WebAssembly and cannot be parsed.
    #[error("it is not a WebAssembly file: {0}")]
    Malformed(wasmparser::BinaryReaderError),
    /// It is a core module.
    #[error("it is a core WebAssembly module, not a component: build it for wasm32-wasip2, or with wasm-component-ld")]
    CoreModule,
    /// It does not export the descriptor.
    #[error("it does not export `{DESCRIPTOR}`: is it an admin module?")]
    NoDescriptor,
    /// It does not export the handler that is called of a script.
    #[error("it does not export `{}`, the function that is run of a script", Handler::Monitor.export())]
    NoScript,
    /// It exports callbacks of another version of the package.
    #[error("it exports `{0}`; this host serves pomelo:admin {served}: build it against that version", served = crate::wire::WIT_VERSIONS.join(", "))]
    Version(String),
    /// It imports or exports too much.
    #[error("it has {found} {what}; at most {most} are taken")]
    TooMany {
        /// `imports` or `exports`.
        what: &'static str,
        /// How many it has.
        found: u32,
        /// How many it may have.
        most: u32,
    },
    /// The name of an import or export is too long.
    #[error("it has an import or export whose name has {found} bytes, `{start}`; at most {MAX_NAME} are taken")]
    LongName {
        /// How the name begins.
        start: String,
        /// How long it is.
        found: usize,
    },
    /// The descriptor's section is too long.
    #[error("its section `{SECTION}` has {0} bytes; at most {max} are read", max = Descriptor::MAX_BYTES)]
    LongDescriptor(usize),
    /// The descriptor's section is not text.
    #[error("its section `{SECTION}` is not UTF-8")]
    NotText,
}

/// Not by `#[from]`, which would make it a source: the message above has it already.
impl From<wasmparser::BinaryReaderError> for InspectError {
    fn from(why: wasmparser::BinaryReaderError) -> Self {
        InspectError::Malformed(why)
    }
}

/// The custom section that holds the descriptor.
pub const SECTION: &str = "pomelo:descriptor";
/// Imports that a component may have, and exports.
const MAX_ITEMS: u32 = 1_000;
/// Bytes that the name of an import or export may have.
const MAX_NAME: usize = 512;
/// Tools of which an inspection tells.
const MAX_TOOLS: usize = 32;
/// What every WebAssembly file begins with.
const MAGIC: &[u8] = b"\0asm";
/// The export that every module has.
pub const DESCRIPTOR: &str = "pomelo:admin/descriptor@0.1.0";

impl Inspection {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InspectError`] says why it is no admin module.
    pub fn new(bytes: &[u8]) -> Result<Self, InspectError> {
        let (found, described) = Self::read(bytes)?;
        if described { Ok(found) } else { Err(InspectError::NoDescriptor) }
    }

    /// Reads a script: a component with a `monitor-handler`, which needs no descriptor.
    ///
    /// # Errors
    /// [`InspectError`] says why it is no script.
    pub fn script(bytes: &[u8]) -> Result<Self, InspectError> {
        let (found, _) = Self::read(bytes)?;
        if found.has(Handler::Monitor) { Ok(found) } else { Err(InspectError::NoScript) }
    }

    /// What the file is, and whether it exports the descriptor.
    fn read(bytes: &[u8]) -> Result<(Self, bool), InspectError> {
        if bytes.is_empty() {
            return Err(InspectError::Empty);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(InspectError::Foreign);
        }
        let mut found = Inspection {
            digest: hex::encode(Sha256::digest(bytes)),
            size: bytes.len(),
            imports: Vec::new(),
            handlers: Vec::new(),
            descriptor: None,
            toolchain: BTreeSet::new(),
        };
        let mut exports = Vec::new();
        let (mut imported, mut exported) = (0u32, 0u32);
        // A component may have several sections of each kind.
        let mut count = |what: &'static str, more: u32| {
            let sum = if what == "imports" { &mut imported } else { &mut exported };
            *sum = sum.saturating_add(more);
            match *sum > MAX_ITEMS {
                true => Err(InspectError::TooMany { what, found: *sum, most: MAX_ITEMS }),
                false => Ok(()),
            }
        };
        // A component contains core modules and other components. Only the imports and exports at the top are its own. The descriptor's section
        // is looked for at every depth, because linkers leave it in the core module that it came with.
        let mut depth = 0usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => {
                    return Err(InspectError::CoreModule);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    count("imports", section.count())?;
                    for import in section {
                        found.imports.push(named(import?.name.name)?);
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    count("exports", section.count())?;
                    for export in section {
                        exports.push(named(export?.name.name)?);
                    }
                }
                Payload::CustomSection(section) if section.name() == SECTION => {
                    if section.data().len() > Descriptor::MAX_BYTES {
                        return Err(InspectError::LongDescriptor(section.data().len()));
                    }
                    let text = str::from_utf8(section.data()).map_err(|_| InspectError::NotText)?;
                    found.descriptor.get_or_insert_with(|| text.to_owned());
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(producers) = section.as_known() {
                        // A file runs as well without it, so that a malformed one ends only the list.
                        let _ = add_tools(&mut found.toolchain, producers);
                    }
                }
                _ => {}
            }
        }
        let foreign = |name: &&String| {
            let version =
                name.strip_prefix("pomelo:admin/").and_then(|rest| rest.split_once('@')).map(|(_, version)| version);
            version.is_some_and(|version| !crate::wire::WIT_VERSIONS.contains(&version))
        };
        if let Some(name) = exports.iter().find(foreign) {
            return Err(InspectError::Version(name.clone()));
        }
        found.handlers = Handler::ALL.into_iter().filter(|h| exports.iter().any(|name| *name == h.export())).collect();
        let described = exports.iter().any(|name| name == DESCRIPTOR);
        Ok((found, described))
    }

    /// Whether a callback is exported.
    pub fn has(&self, handler: Handler) -> bool {
        self.handlers.contains(&handler)
    }
}

/// Adds the languages and tools of a section `producers`.
fn add_tools(toolchain: &mut BTreeSet<String>, producers: ProducersSectionReader<'_>) -> wasmparser::Result<()> {
    for field in producers {
        for value in field?.values {
            let value = value?;
            if toolchain.len() < MAX_TOOLS {
                toolchain.insert(shown(format!("{} {}", value.name, value.version).trim()));
            }
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<String, InspectError> {
    match name.len() > MAX_NAME {
        true => Err(InspectError::LongName { start: shown(name), found: name.len() }),
        false => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused_with_a_sentence() {
        let check = |bytes: &[u8], part: &str| {
            let said = Inspection::new(bytes).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        };
        check(b"", "not a WebAssembly file: it is empty");
        check(b"MZ nonsense", "not a WebAssembly file: it does not begin with `\\0asm`");
        check(b"\0asm\x01\0\0\0", "core WebAssembly module");
        check(b"\0asm\x0d\0\x01\0", "does not export `pomelo:admin/descriptor@0.1.0`");
        check(b"\0asm\x0d\0\x01\0\x0b", "not a WebAssembly file");
    }

    #[test]
    fn what_a_file_says_at_great_length_is_refused() {
        let check = |component: &str, part: &str| {
            let said = Inspection::new(&wat::parse_str(component).unwrap()).unwrap_err().to_string();
            assert!(said.contains(part) && said.len() < 1000, "{said}");
        };
        let import = |name: &str| format!("(import \"{name}\" (func))");
        let many: String = (0..1_001).map(|number| import(&format!("f{number}"))).collect();
        check(&format!("(component {many})"), "it has 1001 imports; at most 1000");
        check(&format!("(component {})", import(&"n".repeat(513))), "whose name has 513 bytes");
        check(&format!("(component (@custom \"{SECTION}\" \"{}\"))", "x".repeat((64 << 10) + 1)), "has 65537 bytes");
    }
}
