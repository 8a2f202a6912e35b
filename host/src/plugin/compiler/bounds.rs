//! What a component may consist of, read before it is compiled. These are shapes that cost a compiler far more than their bytes let expect. The limits are
//! some times as much as the largest honest components have: an engine of JavaScript of 10 MB has 15,000 functions, the largest of 100 kB.
//!
//! This is no validation, which is the compiler's affair. What is not known here passes.

use std::thread;

use wasmparser::{
    BlockType, ComponentType, ComponentTypeDeclaration, CompositeInnerType, FunctionBody, InstanceTypeDeclaration,
    Operator, Parser, Payload, TypeRef,
};

/// How deeply components may be nested in one another.
const NESTING: u64 = 16;
/// Core modules and components within a file.
const PARTS: u64 = 1_000;
/// Functions that a file defines.
const FUNCTIONS: u64 = 200_000;
/// Types of all kinds that a file defines.
const TYPES: u64 = 50_000;
/// How deeply the types of components and instances may be nested in one another.
const TYPE_NESTING: u64 = 16;
/// Component and instance types that may stand in one section. Reading one that is nested takes a stack, of which there is enough for so many.
const NESTED_TYPES: u64 = 2_000;
/// Fields, cases, parameters and declarations of one type.
const MEMBERS: u64 = 2_000;
/// Imports, exports, aliases, instances, lifted and lowered functions, globals, tables, elements and pieces of data.
const ITEMS: u64 = 200_000;
/// Values that a function or a block takes, and that it returns.
const PARAMS: u64 = 256;
const RESULTS: u64 = 32;
/// Bytes of the body of one function.
const BODY: u64 = 1 << 20;
/// Local variables of one function.
const LOCALS: u64 = 20_000;
/// What there is to do for one function: its instructions, and the values that they hand on; a table of branches counts for each of its targets.
const WORK: u64 = 1_000_000;
/// Local variables of one function times its blocks: at the beginning of a block each may be one of several values. A file of 35 kB in which all of them
/// are takes a minute and more than a gigabyte for four million.
const LOCALS_TIMES_BLOCKS: u64 = 3_000_000;
/// How deeply blocks may be nested in one function.
const BLOCK_NESTING: u64 = 10_000;
/// How deeply loops may be nested in one function. What changes in the innermost may be new at the beginning of each of them.
const LOOP_NESTING: u64 = 64;
/// The stack of the thread that reads a file. As much of it is used as the file needs.
const STACK: usize = 16 << 20;

/// A component has too much of something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} has {found} {what}; at most {most} are compiled: make it smaller, or split it")]
pub struct TooLarge {
    /// Where.
    pub place: String,
    /// Of what it has too much, in words.
    pub what: &'static str,
    /// How much of that it has. Counting may have ended there.
    pub found: u64,
    /// How much it may have.
    pub most: u64,
}

/// Why a file is not compiled.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It has too much of something.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It cannot be parsed.
    #[error("it is not a WebAssembly file: {0}")]
    Malformed(String),
    /// The thread that was to read it could not be begun.
    #[error("it cannot be read: {0}")]
    Thread(String),
}

impl From<wasmparser::BinaryReaderError> for Unfit {
    fn from(why: wasmparser::BinaryReaderError) -> Self {
        Unfit::Malformed(why.to_string())
    }
}

/// Checks that a component is within the bounds. Takes some ten milliseconds for each megabyte, on a thread of its own.
///
/// # Errors
/// [`Unfit`].
pub fn check(bytes: &[u8]) -> Result<(), Unfit> {
    thread::scope(|scope| {
        let reading = thread::Builder::new().name("bounds".into()).stack_size(STACK);
        let reading = reading.spawn_scoped(scope, || read(bytes)).map_err(|error| Unfit::Thread(error.to_string()))?;
        reading.join().unwrap_or_else(|_| Err(Unfit::Thread("the reader has failed".into())))
    })
}

/// A number that only grows, with its bound.
struct Counted {
    what: &'static str,
    found: u64,
    most: u64,
}

impl Counted {
    fn new(what: &'static str, most: u64) -> Self {
        Counted { what, found: 0, most }
    }

    fn add(&mut self, place: impl Fn() -> String, more: u64) -> Result<(), TooLarge> {
        self.found = self.found.saturating_add(more);
        within(place, self.what, self.found, self.most)
    }
}

fn within(place: impl Fn() -> String, what: &'static str, found: u64, most: u64) -> Result<(), TooLarge> {
    if found > most {
        return Err(TooLarge { place: place(), what, found, most });
    }
    Ok(())
}

fn the_file() -> String {
    "the file".into()
}

/// What is counted over the whole file.
struct Totals {
    parts: Counted,
    functions: Counted,
    types: Counted,
    items: Counted,
}

/// What is known of the core module that is being read.
#[derive(Default)]
struct CoreModule {
    /// By type: how many values a function of it takes and returns. Other types have none.
    types: Vec<(u64, u64)>,
    /// By function, imported ones first: its type.
    functions: Vec<u32>,
    /// How many of them are imported.
    imported: usize,
    /// How many bodies were read.
    bodies: usize,
}

impl CoreModule {
    fn signature(&self, of_type: u32) -> (u64, u64) {
        self.types.get(of_type as usize).copied().unwrap_or_default()
    }

    fn block(&self, block: BlockType) -> (u64, u64) {
        match block {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(of_type) => self.signature(of_type),
        }
    }
}

fn read(bytes: &[u8]) -> Result<(), Unfit> {
    let mut totals = Totals {
        parts: Counted::new("modules and components", PARTS),
        functions: Counted::new("functions", FUNCTIONS),
        types: Counted::new("types", TYPES),
        items: Counted::new("imports, exports and other items", ITEMS),
    };
    // One for each level that is open. Those of components stay empty.
    let mut levels = vec![CoreModule::default()];
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        let Some(level) = levels.last_mut() else { return Ok(()) };
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                totals.parts.add(the_file, 1)?;
                levels.push(CoreModule::default());
                within(the_file, "components nested in one another", levels.len() as u64, NESTING)?;
            }
            Payload::End(_) => drop(levels.pop()),
            Payload::TypeSection(section) => {
                for group in section {
                    let group = group?;
                    totals.types.add(the_file, group.types().len() as u64)?;
                    for kind in group.types() {
                        level.types.push(core_type(&kind.composite_type.inner, level.types.len())?);
                    }
                }
            }
            Payload::ImportSection(section) => {
                totals.items.add(the_file, section.count().into())?;
                for import in section.into_imports() {
                    if let TypeRef::Func(of_type) | TypeRef::FuncExact(of_type) = import?.ty {
                        level.functions.push(of_type);
                        level.imported += 1;
                    }
                }
            }
            Payload::FunctionSection(section) => {
                totals.functions.add(the_file, section.count().into())?;
                for of_type in section {
                    level.functions.push(of_type?);
                }
            }
            Payload::CodeSectionEntry(body) => {
                let number = level.imported + level.bodies;
                level.bodies += 1;
                function(level, number, &body)?;
            }
            Payload::TableSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::MemorySection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::TagSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::GlobalSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ExportSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ElementSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::DataSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::InstanceSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ComponentInstanceSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ComponentAliasSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ComponentCanonicalSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ComponentImportSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::ComponentExportSection(section) => totals.items.add(the_file, section.count().into())?,
            Payload::CoreTypeSection(section) => totals.types.add(the_file, section.count().into())?,
            Payload::ComponentTypeSection(section) => {
                totals.types.add(the_file, section.count().into())?;
                // Each type of a component or an instance begins with one of two bytes. There are no more of them than such bytes.
                let bytes = &bytes[section.range()];
                let nested = bytes.iter().filter(|byte| matches!(byte, 0x41 | 0x42)).count();
                within(the_file, "component and instance types in one section", nested as u64, NESTED_TYPES)?;
                for kind in section {
                    component_type(&mut totals, &kind?, 1)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn core_type(kind: &CompositeInnerType, number: usize) -> Result<(u64, u64), TooLarge> {
    let CompositeInnerType::Func(kind) = kind else { return Ok((0, 0)) };
    let (params, results) = (kind.params().len() as u64, kind.results().len() as u64);
    let place = || format!("the function type {number}");
    within(place, "parameters", params, PARAMS)?;
    within(place, "results", results, RESULTS)?;
    Ok((params, results))
}

fn component_type(totals: &mut Totals, kind: &ComponentType<'_>, depth: u64) -> Result<(), TooLarge> {
    within(the_file, "types nested in one another", depth, TYPE_NESTING)?;
    let members = |count: usize| within(|| "a type".into(), "members", count as u64, MEMBERS);
    match kind {
        ComponentType::Defined(defined) => {
            use wasmparser::ComponentDefinedType::{Enum, Flags, Record, Tuple, Variant};
            let count = match defined {
                Record(fields) => fields.len(),
                Variant(cases) => cases.len(),
                Tuple(types) => types.len(),
                Flags(names) | Enum(names) => names.len(),
                _ => 1,
            };
            members(count)
        }
        ComponentType::Func(function) => members(function.params.len()),
        ComponentType::Component(declarations) => {
            members(declarations.len())?;
            totals.types.add(the_file, declarations.len() as u64)?;
            declarations.iter().try_for_each(|declaration| match declaration {
                ComponentTypeDeclaration::Type(kind) => component_type(totals, kind, depth + 1),
                _ => Ok(()),
            })
        }
        ComponentType::Instance(declarations) => {
            members(declarations.len())?;
            totals.types.add(the_file, declarations.len() as u64)?;
            declarations.iter().try_for_each(|declaration| match declaration {
                InstanceTypeDeclaration::Type(kind) => component_type(totals, kind, depth + 1),
                _ => Ok(()),
            })
        }
        ComponentType::Resource { .. } => Ok(()),
    }
}

/// One function.
fn function(module: &CoreModule, number: usize, body: &FunctionBody<'_>) -> Result<(), Unfit> {
    let place = || format!("the function {number}");
    within(place, "bytes", body.as_bytes().len() as u64, BODY)?;
    let (params, results) = module.functions.get(number).map_or((0, 0), |of_type| module.signature(*of_type));
    let mut locals = Counted::new("local variables", LOCALS);
    locals.add(place, params)?;
    for group in body.get_locals_reader()? {
        locals.add(place, group?.0.into())?;
    }
    let mut work = Counted::new("instructions, counted with the values that they hand on,", WORK);
    let mut blocks = Counted::new("local variables times blocks", LOCALS_TIMES_BLOCKS);
    // By label that is open: how many values a branch to it hands on, and whether it is a loop. The outermost is the function itself.
    let mut labels = vec![(results, false)];
    let mut loops = 0;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let mut values = 0;
        match operators.read()? {
            Operator::Block { blockty } | Operator::If { blockty } => {
                let (params, results) = module.block(blockty);
                values = params + results;
                labels.push((results, false));
                blocks.add(place, locals.found.max(1))?;
            }
            Operator::Loop { blockty } => {
                let (params, results) = module.block(blockty);
                values = params + results;
                labels.push((params, true));
                loops += 1;
                within(place, "loops nested in one another", loops, LOOP_NESTING)?;
                blocks.add(place, locals.found.max(1).saturating_mul(loops))?;
            }
            Operator::TryTable { try_table } => {
                let (params, results) = module.block(try_table.ty);
                values = params + results + try_table.catches.len() as u64;
                labels.push((results, false));
                blocks.add(place, locals.found.max(1))?;
            }
            Operator::End => loops -= u64::from(labels.pop().is_some_and(|(_, is_loop)| is_loop)),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                values = label(&labels, relative_depth);
            }
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    work.add(place, 1 + label(&labels, target?))?;
                }
                values = label(&labels, targets.default());
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                let of_type = module.functions.get(function_index as usize);
                let (params, results) = of_type.map_or((0, 0), |of_type| module.signature(*of_type));
                values = params + results;
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => {
                let (params, results) = module.signature(type_index);
                values = params + results;
            }
            Operator::Return => values = results,
            _ => {}
        }
        work.add(place, 1 + values)?;
        within(place, "blocks nested in one another", labels.len() as u64, BLOCK_NESTING)?;
    }
    Ok(())
}

/// How many values a branch hands on. A branch to nowhere is the validator's affair.
fn label(labels: &[(u64, bool)], depth: u32) -> u64 {
    let at = labels.len().checked_sub(1 + depth as usize);
    at.and_then(|at| labels.get(at)).map_or(0, |(values, _)| *values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(component: &str, part: &str) {
        let bytes = wat::parse_str(component).unwrap_or_else(|error| panic!("{error}"));
        let said = check(&bytes).unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }

    fn core(body: &str) -> String {
        format!("(component (core module {body}))")
    }

    #[test]
    fn an_ordinary_component_passes() {
        for built_in in crate::built_in::built_in(true) {
            check(&built_in.source.bytes).unwrap();
        }
    }

    #[test]
    fn what_has_too_much_of_something_is_refused_with_the_number() {
        refused(
            &core(&format!("(type (func (param {})))", "i32 ".repeat(257))),
            "the function type 0 has 257 parameters; at most 256",
        );
        refused(&core(&format!("(type (func (result {})))", "i32 ".repeat(33))), "33 results; at most 32");
        refused(
            &core(&format!("(func (local {}))", "i32 ".repeat(20_001))),
            "the function 0 has 20001 local variables",
        );
        let nested = format!("(func {} {})", "block ".repeat(10_001), "end ".repeat(10_001));
        refused(&core(&nested), "blocks nested in one another");
        let loops = format!("(func {} {})", "loop ".repeat(65), "end ".repeat(65));
        refused(&core(&loops), "the function 0 has 65 loops nested in one another; at most 64");
        let many = format!("(func (local {}) {})", "i32 ".repeat(5_000), "block end ".repeat(5_000));
        refused(&core(&many), "local variables times blocks");
        let table = format!("(func {})", format!("(br_table {} (i32.const 0))", "0 ".repeat(60_000)).repeat(20));
        refused(&core(&table), "the function 0 has");
        refused(&core(&format!("(func {})", "nop ".repeat((1 << 20) + 1))), "bytes; at most 1048576");
        let calls = format!(
            "(import \"\" \"\" (func (result {}))) (func {} unreachable)",
            "i32 ".repeat(32),
            "call 0 ".repeat(40_000)
        );
        refused(&core(&calls), "the function 1 has");
        let deep = format!("(component {} {})", "(component ".repeat(17), ")".repeat(17));
        refused(&deep, "components nested in one another");
    }

    #[test]
    fn types_that_are_nested_deeply_are_refused_and_no_stack_overflows() {
        // Each level is an instance type with one declaration, a type.
        let mut section = vec![1];
        section.extend([0x42, 1, 1].repeat(100_000));
        section.extend([0x42, 0]);
        let mut bytes = b"\0asm\x0d\0\x01\0\x07".to_vec();
        let mut length = section.len();
        while length > 0x7f {
            bytes.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(section);
        let said = check(&bytes).unwrap_err().to_string();
        assert!(said.contains("component and instance types in one section"), "{said}");
        let nested = format!("(component {} {})", "(type (instance ".repeat(17), "))".repeat(17));
        refused(&nested, "types nested in one another");
    }
}
