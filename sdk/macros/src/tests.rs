//! The macro from outside: what it makes of an attribute and an `impl`, and what it says where it can make nothing.

use crate::expand;
use crate::module::Module;
use crate::syntax;
use proc_macro2::TokenStream;
use syn::parse::Parser;

fn tokens(source: &str) -> TokenStream {
    source.parse().unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn an_attribute_makes_a_descriptor() {
    let cases = [
        (r#"id = "a""#, r#"{"ids":[{"id":"a"}],"name":"p","version":"1.2.3"}"#),
        (
            r#"id = "timeReport", pull, interval = 5, level = 2"#,
            r#"{"ids":[{"id":"timeReport","interval":5,"type":"pull"}],"name":"p","operations":{"levels":{"*":2}},"version":"1.2.3"}"#,
        ),
        (
            r#"pull, interval = 1.5, delay = 0, roles(master), id = "a","#,
            r#"{"ids":[{"delay":0,"id":"a","interval":1.5,"roles":["master"],"type":"pull"}],"name":"p","version":"1.2.3"}"#,
        ),
        (
            r#"id("a", roles(master)), id("b", roles(monitor), push, interval = 10)"#,
            r#"{"ids":[{"id":"a","roles":["master"]},{"id":"b","interval":10,"roles":["monitor"],"type":"push"}],"name":"p","version":"1.2.3"}"#,
        ),
        (
            r#"id = "a", operations(by = "signal", list = 2, "add-cron" = 1, "*" = 3)"#,
            r#"{"ids":[{"id":"a"}],"name":"p","operations":{"by":"signal","levels":{"*":3,"add-cron":1,"list":2}},"version":"1.2.3"}"#,
        ),
        (
            r#"id = "a", limits(wall_ms = 60_000, answer_kib = 2048)"#,
            r#"{"ids":[{"id":"a"}],"limits":{"answer_kib":2048,"wall_ms":60000},"name":"p","version":"1.2.3"}"#,
        ),
        (
            r#"id = "a", serial(master_handler, server_events), durable("k", "count:*"), version = "9.0.0""#,
            r#"{"durable":["k","count:*"],"ids":[{"id":"a"}],"name":"p","serial":["master-handler","server-events"],"version":"9.0.0"}"#,
        ),
    ];
    for (attribute, expected) in cases {
        let arguments = syntax::arguments.parse2(tokens(attribute)).unwrap();
        let module = Module::read(&arguments).unwrap_or_else(|error| panic!("{attribute}: {error}"));
        assert_eq!(module.descriptor("p", "1.2.3"), expected, "{attribute}");
    }
}

/// What the macro says about an attribute on an `impl` with every callback.
fn attribute_error(attribute: &str) -> String {
    let item = "impl M {
        fn master_handler() -> Result {}
        fn monitor_handler() -> Result {}
        fn client_handler() -> Result {}
        fn start() -> Result {}
    }";
    error(attribute, item)
}

fn error(attribute: &str, item: &str) -> String {
    match expand::module(tokens(attribute), tokens(item)) {
        Ok(_) => panic!("{attribute} on {item} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_wrong_attribute_is_refused_with_what_to_write() {
    let cases = [
        ("", "write `#[module(id = \"…\")]`"),
        ("level = 2", "write `#[module(id = \"…\")]`"),
        ("id = 5", "`id` takes a string"),
        (r#"id = """#, "an id is a word"),
        (r#"id = "a b""#, "an id is a word"),
        (r#"id = "a", id = "b""#, "`id` is there twice"),
        (r#"id = "a", id("b")"#, "write this one as `id(\"…\")` as well"),
        (r#"id("a"), id("a")"#, "the id `a` is there twice"),
        (r#"id("a"), pull"#, "Write `pull` inside `id(…)`"),
        (r#"id("a", level = 2)"#, "`level` is no property of an id"),
        (r#"id = "a", color = 1"#, "`color` means nothing here"),
        (r#"id = "a", pull"#, "add `interval = 5`"),
        (r#"id = "a", interval = 5"#, "add one of them"),
        (r#"id = "a", pull, push, interval = 5"#, "either `pull` or `push`"),
        (r#"id = "a", pull, interval = 0"#, "at least a second"),
        (r#"id = "a", pull, interval = "5""#, "takes a number of seconds"),
        (r#"id = "a", pull = 5, interval = 5"#, "`pull` stands alone"),
        (r#"id = "a", roles(client)"#, "`client` is no role"),
        (r#"id = "a", level = 0"#, "a level is a number from 1 to 255"),
        (r#"id = "a", level = 2, operations("*" = 2)"#, "exclude each other"),
        (r#"id = "a", operations(list = 2)"#, "Add `by = \"…\"`"),
        (r#"id = "a", operations(by = "signal", list = 2, list = 3)"#, "is there twice"),
        (r#"id = "a", serial()"#, "`serial` takes a list"),
        (r#"id = "a", serial(timer)"#, "`timer` cannot be serial"),
        (r#"id = "a", serial(server_events)"#, "there is no `server_events` in the impl"),
        (r#"id = "a", limits(wall = 5)"#, "`wall` is no limit"),
        (r#"id = "a", limits(wall_ms = "5")"#, "`wall_ms` takes a number"),
        (r#"id = "a", durable(key)"#, "a string is wanted here"),
    ];
    for (attribute, expected) in cases {
        let said = attribute_error(attribute);
        assert!(said.contains(expected), "{attribute}: {said}");
    }
}

#[test]
fn a_wrong_impl_is_refused_with_what_to_write() {
    let cases = [
        ("struct M;", "stands on the `impl` of a struct"),
        ("impl Module for M { fn start() -> Result {} }", "without a trait"),
        ("impl<T> M<T> { fn start() -> Result {} }", "leave its parameters out"),
        ("impl M { fn helper() {} }", "there is no callback: add"),
        ("impl M { fn clientHandler() -> Result {} }", "write `client_handler`"),
        ("impl M { fn start() {} }", "write `-> Result` after"),
        ("impl M { fn client_handler() {} }", "write `-> Result<Answer>` after"),
        ("impl M { async fn start() -> Result {} }", "leave `async` and `.await` out"),
        ("impl M { unsafe fn start() -> Result {} }", "leave `unsafe` out"),
        ("impl M { fn client_handler<T>(msg: T) -> Result {} }", "leave its type parameters out"),
        ("impl M { fn client_handler(self) -> Result {} }", "write `&self` or `&mut self`"),
        ("impl M { fn client_handler(agent: Agent) -> Result {} }", "write `&Agent`"),
        ("impl M { fn client_handler(agent: &mut Agent) -> Result {} }", "write `&Agent`"),
        ("impl M { fn client_handler(msg: u8, agent: &Agent) -> Result {} }", "before the message"),
        ("impl M { fn client_handler(a: u8, b: u8) -> Result {} }", "takes one message"),
        ("impl M { fn start(msg: u8) -> Result {} }", "`start` has no message"),
    ];
    for (item, expected) in cases {
        let said = error(r#"id = "a""#, item);
        assert!(said.contains(expected), "{item}: {said}");
    }
    let said = error(r#"id = "a", push, interval = 5"#, "impl M { fn start() -> Result {} }");
    assert!(said.contains("add `fn monitor_handler` to the impl"), "{said}");
}

#[test]
fn only_the_callbacks_that_are_there_are_exported() {
    let item =
        "impl M { #[cfg(feature = \"x\")] fn start() -> Result {} fn client_handler(msg: Option<u8>) -> Result {} }";
    let made = expand::module(tokens(r#"id = "a""#), tokens(item)).unwrap().to_string();
    let exports = |name: &str| made.contains(&format!("export_{name} !"));
    assert!(exports("descriptor") && exports("lifecycle") && exports("client_handler"));
    assert!(!exports("master_handler") && !exports("monitor_handler") && !exports("server_events"));
    assert!(made.contains("optional_message"));
    // Once on the author's function, on the implementation, and on its export.
    assert_eq!(made.matches("feature = \"x\"").count(), 3);
}
