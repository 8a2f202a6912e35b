//! Files that do not say in a section what they are: they are asked, and may ask nothing back.

use serde_json::json;

use crate::support::{Ask, Plan, fixture, without_descriptor};

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
