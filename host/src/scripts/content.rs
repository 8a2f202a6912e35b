//! Makes a component of what a person saved.

use wasmparser::Validator;

use crate::failure::{Failure, code};

/// Bytes that a script may have, as text or as a component.
pub const MAX_SIZE: usize = 1 << 20;

/// The component that wraps a core module.
const NUMBER: &str = include_str!("number.wat");
/// The types that `run` of a core module may give, each with the call that gives it as an i64.
const NUMBERS: [(&str, &str); 2] = [("i32", "(i64.extend_i32_s (call $run))"), ("i64", "(call $run)")];

/// What every WebAssembly file begins with, and what follows in a core module and in a component.
const MAGIC: &[u8] = b"\0asm";
const CORE: &[u8] = &[1, 0, 0, 0];
const HEADER: usize = 8;
/// The section of a component that holds a core module.
const CORE_MODULE: u8 = 1;

/// The component that is run of a script. A component is run itself, and a text is the component or core module that it describes. A core module
/// is wrapped in a component that answers with the number that `run` gives.
///
/// # Errors
/// `bad-message` says what is wrong, in text form with line and column.
pub(super) fn component(name: &str, content: &[u8]) -> Result<Vec<u8>, Failure> {
    let bad = |why: &dyn std::fmt::Display| Failure::new(code::BAD_MESSAGE, format!("{name} is no script: {why}"));
    if content.len() > MAX_SIZE {
        return Err(bad(&format_args!("it has {} bytes, and a script has at most {MAX_SIZE}", content.len())));
    }
    let binary = if content.starts_with(MAGIC) {
        content.to_vec()
    } else {
        let text = str::from_utf8(content).map_err(|_| bad(&"it is neither WebAssembly nor text in UTF-8"))?;
        wat::parse_str(text).map_err(|mut error| {
            error.set_path(name);
            bad(&error)
        })?
    };
    if binary.get(MAGIC.len()..HEADER) != Some(CORE) {
        return Ok(binary);
    }
    Validator::new().validate_all(&binary).map_err(|error| bad(&error))?;
    let wrapped = NUMBERS.iter().filter_map(|(kind, wide)| wrap(&binary, kind, wide));
    let mut fitting = wrapped.filter(|component| Validator::new().validate_all(component).is_ok());
    fitting.next().ok_or_else(|| {
        bad(&"a core module that is run as a script imports nothing and exports `run`, a function without parameters that gives an i32 or \
              an i64; a component exports `pomelo:admin/monitor-handler@0.1.0`")
    })
}

/// The wrapping component, with its first core module replaced by this one.
fn wrap(core: &[u8], kind: &str, wide: &str) -> Option<Vec<u8>> {
    let template = wat::parse_str(NUMBER.replace("TYPE", kind).replace("WIDE", wide)).ok()?;
    let (header, sections) = template.split_at_checked(HEADER)?;
    let (&CORE_MODULE, section) = sections.split_first()? else { return None };
    let mut reader = wasmparser::BinaryReader::new(section, 0);
    let length = usize::try_from(reader.read_var_u32().ok()?).ok()?;
    let rest = section.get(reader.current_position() + length..)?;
    // The length as LEB128, in the five bytes that it may have.
    let size = u32::try_from(core.len()).ok()?;
    let length: [u8; 5] = std::array::from_fn(|byte| {
        let low = (size >> (7 * byte)) as u8 & 0x7f;
        if byte < 4 { low | 0x80 } else { low }
    });
    Some([header, &[CORE_MODULE], &length, core, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(content: &[u8]) -> String {
        let failure = component("it", content).unwrap_err();
        assert_eq!(failure.code, code::BAD_MESSAGE);
        failure.message
    }

    #[test]
    fn p_scripts_what_is_none_is_refused_with_its_place() {
        let wrong = refused(b"(component\n  (nonsense))");
        assert!(wrong.contains("it:2:4"), "{wrong}");
        assert!(refused(b"\xff\xfe").contains("UTF-8"));
        assert!(refused(&vec![b' '; MAX_SIZE + 1]).contains("at most 1048576"));
        assert!(refused(b"\0asm\x01\0\0\0\x07").contains("it is no script"));
        let run = "imports nothing and exports `run`";
        for other in [
            "(module)",
            r#"(module (func (export "run")))"#,
            r#"(module (func (export "run") (result f64) (f64.const 1)))"#,
            r#"(module (func (export "run") (param i32) (result i32) (local.get 0)))"#,
            r#"(module (import "env" "exit" (func)) (func (export "run") (result i32) (i32.const 1)))"#,
        ] {
            let said = refused(other.as_bytes());
            assert!(said.contains(run), "{other}: {said}");
        }
    }

    #[test]
    fn p_scripts_a_core_module_becomes_a_component() {
        for kind in ["i32", "i64"] {
            let text = format!(r#"(module (func (export "run") (result {kind}) ({kind}.const 42)))"#);
            let from_text = component("it", text.as_bytes()).unwrap();
            let from_binary = component("it", &wat::parse_str(&text).unwrap()).unwrap();
            assert_eq!(from_text, from_binary);
            assert!(crate::plugin::Inspection::script(&from_text).is_ok());
        }
    }
}
