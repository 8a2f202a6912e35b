//! What a file says of itself. Where it does not say it in a section, the host calls `describe`, which may ask the host for nothing.

use serde_json::json;

use crate::support::{Ask, Plan, fixture, without_descriptor};

/// A component whose `describe` never ends.
const ENDLESS: &str = r#"
(component
  (core module $Code
    (memory (export "memory") 1)
    (func (export "describe") (result i32) (loop $forever (br $forever)) (unreachable)))
  (core instance $code (instantiate $Code))
  (func $describe (result string) (canon lift (core func $code "describe") (memory (core memory $code "memory"))))
  (instance $descriptor (export "describe" (func $describe)))
  (export "pomelo:admin/descriptor@0.1.0" (instance $descriptor)))
"#;

/// A component whose `describe` wants to know the time.
const CURIOUS: &str = r#"
(component
  (import "pomelo:admin/agent@0.1.0" (instance $agent (export "now" (func (result u64)))))
  (core func $now (canon lower (func $agent "now")))
  (core module $code
    (import "agent" "now" (func $now (result i64)))
    (memory (export "memory") 1)
    (func (export "describe") (result i32) (drop (call $now)) (i32.const 0)))
  (core instance $code (instantiate $code (with "agent" (instance (export "now" (func $now))))))
  (func $describe (result string) (canon lift (core func $code "describe") (memory (core memory $code "memory"))))
  (instance $descriptor (export "describe" (func $describe)))
  (export "pomelo:admin/descriptor@0.1.0" (instance $descriptor)))
"#;

/// A component that answers with what it is sent, by hand: nothing of the SDK is in it.
const MIRROR: &str = r#"
(component
  (core module $Code
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    ;; Nothing is ever given back.
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get $size))))
    (data (i32.const 64) "{\22ids\22:[{\22id\22:\22mirror\22}]}")
    (func (export "describe") (result i32)
      (i32.store (i32.const 16) (i32.const 64))
      (i32.store (i32.const 20) (i32.const 25))
      (i32.const 16))
    ;; Given are whether there is a message, and the address and length of its JSON.
    (func (export "handle") (param i32) (param $at i32) (param $length i32) (result i32)
      ;; The result: its case, 0 for an answer; the address and length of the answer's JSON.
      (i32.store (i32.const 32) (i32.const 0))
      (i32.store (i32.const 36) (local.get $at))
      (i32.store (i32.const 40) (local.get $length))
      (i32.const 32)))
  (core instance $code (instantiate $Code))
  (func $describe (result string) (canon lift (core func $code "describe") (memory (core memory $code "memory"))))
  (instance $descriptor (export "describe" (func $describe)))
  (export "pomelo:admin/descriptor@0.1.0" (instance $descriptor))
  (type $fields (record (field "code" string) (field "message" string)))
  (export $failure "failure" (type $fields))
  (func $handle (param "msg" (option string)) (result (result string (error $failure)))
    (canon lift (core func $code "handle")
      (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (instance $handler (export "failure" (type $failure)) (export "handle" (func $handle)))
  (export "pomelo:admin/client-handler@0.1.0" (instance $handler)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_component_that_was_not_written_with_the_sdk_runs() {
    let cluster = Plan::with([("mirror", wat::parse_str(MIRROR).unwrap())]).start().await;
    let client = cluster.admin().await;
    for message in [json!({"a": ["\u{fc}", 1]}), json!("x")] {
        assert_eq!(client.ask("mirror", &message).await.unwrap(), message);
    }
    assert_eq!(cluster.status("mirror").unwrap().handlers, ["client-handler"]);
    cluster.stop().await;
}

/// An interpreter's component is put together from parts: one of JavaScript that jco makes has three memories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_component_of_parts_with_memories_of_their_own_runs() {
    const PARTS: &str = "(core module $Part (memory 1))
        (core instance (instantiate $Part)) (core instance (instantiate $Part)) (core instance (instantiate $Part))
        (core module $Code";
    let component = wat::parse_str(MIRROR.replacen("(core module $Code", PARTS, 1)).unwrap();
    let cluster = Plan::with([("mirror", component)]).start().await;
    assert_eq!(cluster.admin().await.ask("mirror", 1).await.unwrap(), json!(1));
    cluster.stop().await;
}

/// An interpreter's component asks for the time, its arguments and more before it runs anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_component_that_needs_wasi_to_say_what_it_is_runs() {
    let component = MIRROR
        .replacen(
            "(core module $Code",
            "(import \"wasi:clocks/monotonic-clock@0.2.0\" (instance $clock (export \"now\" (func (result u64)))))
            (core func $now (canon lower (func $clock \"now\")))
            (core module $Code (import \"clock\" \"now\" (func $now (result i64)))",
            1,
        )
        .replacen(
            "(func (export \"describe\") (result i32)",
            "(func (export \"describe\") (result i32) (drop (call $now))",
            1,
        )
        .replacen(
            "(instantiate $Code)",
            "(instantiate $Code (with \"clock\" (instance (export \"now\" (func $now)))))",
            1,
        );
    let cluster = Plan::with([("mirror", wat::parse_str(component).unwrap())]).start().await;
    assert!(cluster.console().refused().is_empty(), "{:?}", cluster.console().refused());
    assert_eq!(cluster.admin().await.ask("mirror", 1).await.unwrap(), json!(1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_the_descriptors_section_is_asked_what_it_is() {
    let cluster = Plan::with([("echo", without_descriptor(&fixture("echo-v1")))]).start().await;
    // That level 2 may ask it is the descriptor's word as well.
    let viewer = cluster.viewer().await;
    assert_eq!(viewer.ask("echo", 1).await.unwrap(), json!({"version": 1, "echo": 1}));
    assert_eq!(cluster.status("echo").unwrap().version, "1.0.0");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_whoever_asks_its_host_for_something_while_it_is_described_is_refused() {
    let cluster = Plan::with([("curious", wat::parse_str(CURIOUS).unwrap())]).start().await;
    let why = cluster.refused("curious", "`describe` failed").await;
    assert!(why.contains("pomelo:descriptor"), "{why}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_whoever_computes_without_end_while_it_is_described_is_told_the_limit() {
    let cluster = Plan::with([("endless", wat::parse_str(ENDLESS).unwrap())]).start().await;
    let why = cluster.refused("endless", "`describe` failed").await;
    assert!(why.contains("cpu-limit") && why.contains("ms of CPU time"), "{why}");
    cluster.stop().await;
}
