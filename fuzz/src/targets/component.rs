//! What is read of a component's file before anything of it runs.
//!
//! Any bytes are an admin module, a script, or are refused with a reason. What is read does not depend on what is asked for, and is no more than the file
//! has.

use pomelo_host::plugin::{Grants, Inspection};

/// Reads the bytes as a module and as a script.
pub fn run(bytes: &[u8]) {
    let (module, script) = (Inspection::new(bytes), Inspection::script(bytes));
    if let (Ok(module), Ok(script)) = (&module, &script) {
        assert_eq!((&module.imports, &module.descriptor), (&script.imports, &script.descriptor));
        assert_eq!((&module.handlers, &module.digest), (&script.handlers, &script.digest));
    }
    for read in [module, script] {
        match read {
            Ok(found) => whole(&found, bytes),
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
}

fn whole(found: &Inspection, bytes: &[u8]) {
    assert_eq!((found.size, found.digest.len()), (bytes.len(), 64));
    let texts = found.imports.iter().map(String::len).sum::<usize>() + found.descriptor.as_ref().map_or(0, String::len);
    assert!(texts <= bytes.len(), "{texts} bytes of names and descriptor are in {} bytes", bytes.len());
    let mut handlers = found.handlers.clone();
    handlers.dedup();
    assert_eq!(handlers, found.handlers, "a callback is there or is not");
    if let Some(text) = &found.descriptor {
        super::descriptor::run(text.as_bytes());
    }
    // What a file may import is decided by these names alone.
    if let Err(refused) = Grants::default().check("any", &found.imports) {
        assert!(!refused.to_string().is_empty());
    }
}
