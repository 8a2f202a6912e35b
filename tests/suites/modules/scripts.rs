//! Scripts: programs that people send, run once under a module's limits and with the grants of scripts.

use std::time::Duration;

use pomelo_host::built_in::built_in;
use pomelo_host::plugin::{Grants, Limits};
use pomelo_host::scripts::Settings;
use serde_json::{Value, json};

use crate::support::{Ask, Cluster, GENEROUS, Plan, code_of, fixture};

/// The fenced blocks of a kind in a page of the documentation.
fn examples(page: &str, kind: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn plan(scripts: Settings) -> Plan {
    let mut plan = Plan { scripts, ..Plan::default() };
    plan.settings.built_in = built_in(true);
    plan
}

/// Tight, so that no misdeed takes long.
fn tight() -> Settings {
    let limits = Limits { cpu: Duration::from_millis(200), memory: 4 << 20, ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

async fn run(cluster: &Cluster, server: &str, script: &str) -> Result<Value, pomelo_host::failure::Failure> {
    let client = cluster.admin().await;
    client.ask("scripts", json!({"command": "run", "serverId": server, "script": script})).await
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_the_examples_of_the_documentation_run_where_they_are_sent() {
    let cluster = plan(Settings::default()).start().await;
    let server = cluster.server("chat-1", "chat").await;
    let examples = examples("scripts.md", "wat");
    assert_eq!(run(&cluster, "chat-1", &examples[0]).await.unwrap(), 42);
    assert_eq!(run(&cluster, "chat-1", &examples[1]).await.unwrap(), json!({"server": "chat-1"}));
    assert_eq!(run(&cluster, "master-1", &examples[1]).await.unwrap(), json!({"server": "master-1"}));
    assert_eq!(code_of(&run(&cluster, "nobody", &examples[0]).await), "not-found");
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_a_core_modules_number_is_the_answer() {
    let cluster = plan(Settings::default()).start().await;
    for (kind, number) in [
        ("i32", "0"),
        ("i32", "-2147483648"),
        ("i64", "-9223372036854775808"),
        ("i64", "9223372036854775807"),
        ("i64", "-7"),
    ] {
        let script = format!(r#"(module (func (export "run") (result {kind}) ({kind}.const {number})))"#);
        assert_eq!(run(&cluster, "master-1", &script).await.unwrap().to_string(), number);
        let binary = base64(&wat::parse_str(&script).unwrap());
        assert_eq!(run(&cluster, "master-1", &binary).await.unwrap().to_string(), number);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_import_only_what_was_granted_to_scripts() {
    let script = base64(&fixture("probe"));
    let refusing = plan(Settings::default()).start().await;
    let refused = run(&refusing, "master-1", &script).await.unwrap_err();
    assert_eq!(refused.code, "forbidden");
    assert!(
        refused
            .message
            .contains("which are not granted to scripts: add \"cluster\", \"uplink\" to `grants` of [scripts]"),
        "{refused}"
    );
    let client = refusing.admin().await;
    let saved = client.ask("scripts", json!({"command": "save", "filename": "probe", "body": script})).await;
    assert_eq!(code_of(&saved), "forbidden", "what may not run is not saved");
    refusing.stop().await;

    let granted = Settings { grants: Grants::new(["cluster", "uplink"]), ..Settings::default() };
    let cluster = plan(granted).start().await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.admin().await;
    let save = json!({"command": "save", "serverId": "chat-1", "filename": "probe", "body": script});
    assert_eq!(client.ask("scripts", save).await.unwrap(), Value::Null);
    let ask = json!({"command": "run", "serverId": "chat-1", "filename": "probe", "args": {"some": "thing"}});
    let seen = client.ask("scripts", &ask).await.unwrap();
    assert_eq!((&seen["id"], &seen["server"]), (&json!("script:probe"), &json!("chat-1")));
    // Without arguments it tells the master's module of its id, and there is none.
    let get = client.ask("scripts", json!({"command": "get", "serverId": "chat-1", "filename": "probe"})).await;
    assert_eq!(get.unwrap(), script, "bytes come back as they were");
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_every_misdeed_ends_with_its_own_failure() {
    let cluster = plan(tight()).start().await;
    let server = cluster.server("chat-1", "chat").await;
    for (body, expected) in [
        ("(loop (br 0)) (i32.const 0)", "cpu-limit"),
        ("unreachable", "trap"),
        ("(call $run)", "trap"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "trap"),
    ] {
        let began = std::time::Instant::now();
        let script = format!(r#"(module (func $run (export "run") (result i32) {body}))"#);
        let failure = run(&cluster, "chat-1", &script).await.unwrap_err();
        assert_eq!(failure.code, expected, "{body}: {failure}");
        assert!(failure.message.contains("script"), "{failure}");
        assert!(began.elapsed() < GENEROUS);
    }
    let large = r#"(module (memory 100) (func (export "run") (result i32) (i32.const 0)))"#;
    assert_eq!(code_of(&run(&cluster, "chat-1", large).await), "memory-limit");
    let start = r#"(module (func $s (loop (br 0))) (start $s) (func (export "run") (result i32) (i32.const 0)))"#;
    assert_eq!(code_of(&run(&cluster, "chat-1", start).await), "cpu-limit", "before it is called, too");
    let grow = r#"(module (memory 1) (func (export "run") (result i32) (memory.grow (i32.const 100))))"#;
    assert_eq!(run(&cluster, "chat-1", grow).await.unwrap(), -1, "what it is refused it can do without");
    let one = r#"(module (func (export "run") (result i32) (i32.const 1)))"#;
    assert_eq!(run(&cluster, "chat-1", one).await.unwrap(), 1, "the server goes on");
    assert_eq!(cluster.status("scripts").unwrap().state, "enabled", "a script's misdeeds are not its module's");
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_what_is_no_script_is_refused_with_its_place() {
    let cluster = plan(tight()).start().await;
    let client = cluster.admin().await;
    let save = async |filename: &str, body: &str| {
        client.ask("scripts", json!({"command": "save", "filename": filename, "body": body})).await
    };
    let good = r#"(module (func (export "run") (result i32) (i32.const 1)))"#;
    for name in ["", "..", "../../etc/cron.d/x", "a/b", ".profile", "a b"] {
        let failure = save(name, good).await.unwrap_err();
        assert_eq!(failure.code, "bad-message", "{name}");
        assert!(failure.message.contains("a script's name has"), "{failure}");
    }
    let wrong = save("wrong.wat", "(module\n  (func (export \"run\") (result i32) (i32.cnst 1)))").await.unwrap_err();
    assert_eq!(wrong.code, "bad-message");
    assert!(wrong.message.contains("wrong.wat:2:38") && wrong.message.contains("i32.cnst"), "{wrong}");
    let invalid = save("invalid", r#"(module (func (export "run") (result i32)))"#).await.unwrap_err();
    assert!(invalid.message.contains("invalid is no script: type mismatch"), "{invalid}");
    let other = save("other", "(component)").await.unwrap_err();
    assert!(other.message.contains("does not export `pomelo:admin/monitor-handler@0.1.0`"), "{other}");
    let broken = save("broken", "base64:AGFzbQEAAAA").await.unwrap_err();
    assert!(broken.message.contains("base64"), "{broken}");
    let list = client.ask("scripts", json!({"command": "list"})).await.unwrap();
    assert_eq!(list, json!({"servers": ["master-1"], "scripts": []}), "nothing was saved");
    assert_eq!(code_of(&client.ask("scripts", json!({"command": "run", "filename": "wrong.wat"})).await), "no-script");
    assert_eq!(code_of(&client.ask("scripts", json!({"command": "delete"})).await), "bad-message");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_scripts_are_kept_over_a_restart_and_lent_by_the_master() {
    let directory = tempfile::tempdir().unwrap();
    let settings = || Settings { directory: Some(directory.path().into()), ..Settings::default() };
    let number = |number: u32| format!(r#"(module (func (export "run") (result i32) (i32.const {number})))"#);

    let cluster = plan(settings()).start().await;
    let client = cluster.admin().await;
    let save = json!({"command": "save", "filename": "number.wat", "body": number(1)});
    assert_eq!(client.ask("scripts", save).await.unwrap(), Value::Null);
    drop(client);
    cluster.stop().await;

    let cluster = plan(settings()).start().await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.admin().await;
    let list = client.ask("scripts", json!({"command": "list"})).await.unwrap();
    assert_eq!(list, json!({"servers": ["chat-1", "master-1"], "scripts": ["number.wat"]}));
    let get = client.ask("scripts", json!({"command": "get", "filename": "number.wat"})).await.unwrap();
    assert_eq!(get, json!(number(1)));
    let run = json!({"command": "run", "serverId": "chat-1", "filename": "number.wat"});
    assert_eq!(client.ask("scripts", &run).await.unwrap(), 1, "the master's, since the server has none of that name");
    let save = json!({"command": "save", "serverId": "chat-1", "filename": "number.wat", "body": number(2)});
    client.ask("scripts", save).await.unwrap();
    assert_eq!(client.ask("scripts", &run).await.unwrap(), 2, "the server's own");
    assert!(directory.path().join("chat-1/number.wat").is_file());
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_scripts_are_for_level_1_alone() {
    let cluster = plan(Settings::default()).start().await;
    let viewer = cluster.viewer().await;
    for command in ["list", "get", "save", "run"] {
        let ask = json!({"command": command, "filename": "x", "body": "(component)"});
        assert_eq!(code_of(&viewer.ask("scripts", ask).await), "forbidden", "{command}");
    }
    cluster.stop().await;
}
