//! Components that are made here byte for byte, because what matters of them is their shape, and a text of them would be many times as large.

// Each of the programs that share this file uses a part of it.
#![allow(dead_code)]

use serde_json::Value;

/// The type `i32`, and what ends a function, a block or a loop.
const I32: u8 = 0x7f;
const END: u8 = 0x0b;

/// A component that is a module with this descriptor and no callbacks, and that instantiates the core module.
pub fn module(core: Option<&[u8]>, descriptor: &Value) -> Vec<u8> {
    let text = r#"(component (instance $none) (export "pomelo:admin/descriptor@0.1.0" (instance $none)))"#;
    let exported = wat::parse_str(text).unwrap();
    let (head, rest) = exported.split_at(8);
    let mut bytes = head.to_vec();
    if let Some(core) = core {
        bytes.extend(section(1, core));
        // One instance, of the first module, without arguments.
        bytes.extend(section(2, &[1, 0, 0, 0]));
    }
    bytes.extend(rest);
    let mut custom = length(17);
    custom.extend(b"pomelo:descriptor");
    custom.extend(descriptor.to_string().as_bytes());
    bytes.extend(section(0, &custom));
    bytes
}

/// The same, with a section of types that are nested so deeply.
pub fn nested_types(depth: usize, descriptor: &Value) -> Vec<u8> {
    let mut bytes = module(None, descriptor);
    // Each level is an instance type with one declaration, a type.
    let mut types = vec![1];
    types.extend([0x42, 1, 1].repeat(depth));
    types.extend([0x42, 0]);
    bytes.extend(section(7, &types));
    bytes
}

/// Functions that each have `count` loops, in which some of so many local variables change: at the beginning of each loop all of them may be one of several
/// values.
pub fn loops(locals: usize, count: usize, functions: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..count {
        let [one, two, three, four] =
            [(1, 0), (7, 1), (13, 3), (5, 0)].map(|(step, first)| (number * step + first) % locals);
        body.extend([0x03, 0x40]);
        get(&mut body, one);
        get(&mut body, two);
        body.push(0x6a);
        set(&mut body, three);
        get(&mut body, four);
        body.extend([0x0d, 0, END]);
    }
    for local in 0..locals.min(2_000) {
        get(&mut body, local);
        set(&mut body, (local + 1) % locals);
    }
    core(&[function_type(0)], &vec![(0, locals, body); functions])
}

/// A function that calls another so often, which returns so many values.
pub fn calls(results: usize, count: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..count {
        body.extend([0x10, 0]);
        body.extend(vec![0x1a; results]);
    }
    core(&[function_type(results), function_type(0)], &[(0, 0, vec![0x00]), (1, 0, body)])
}

/// A function with so many tables of so many branches.
pub fn branches(targets: usize, tables: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..tables {
        body.extend([0x02, 0x40]);
        get(&mut body, 0);
        body.push(0x0e);
        body.extend(length(targets));
        body.extend(vec![0; targets + 1]);
        body.push(END);
    }
    core(&[function_type(0)], &[(0, 1, body)])
}

fn get(body: &mut Vec<u8>, local: usize) {
    body.push(0x20);
    body.extend(length(local));
}

fn set(body: &mut Vec<u8>, local: usize) {
    body.push(0x21);
    body.extend(length(local));
}

/// The type of a function without parameters.
fn function_type(results: usize) -> Vec<u8> {
    let mut of_type = vec![0x60, 0];
    of_type.extend(length(results));
    of_type.extend(vec![I32; results]);
    of_type
}

/// A core module with these types and functions: of each the type, the number of its local variables, and what it does.
fn core(types: &[Vec<u8>], functions: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let of_types: Vec<Vec<u8>> = functions.iter().map(|(of_type, ..)| length(*of_type)).collect();
    let bodies = functions.iter().map(|(_, locals, body)| {
        let mut locals = if *locals == 0 { vec![0] } else { [vec![1], length(*locals), vec![I32]].concat() };
        locals.extend(body);
        locals.push(END);
        [length(locals.len()), locals].concat()
    });
    let bodies: Vec<Vec<u8>> = bodies.collect();
    let sections = [section(1, &list(types)), section(3, &list(&of_types)), section(10, &list(&bodies))];
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

fn list(entries: &[Vec<u8>]) -> Vec<u8> {
    [length(entries.len()), entries.concat()].concat()
}

fn section(number: u8, content: &[u8]) -> Vec<u8> {
    [vec![number], length(content.len()), content.to_vec()].concat()
}

/// A length as WebAssembly writes it.
fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
