//! Files that cost much before anything of them runs, and descriptors that are too large.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use procfs::process::{Process, all_processes};
use serde_json::{Value, json};

use crate::neighbour::Neighbour;
use crate::shapes;
use crate::support::{POMELO, eventually};
use crate::target::Target;

/// Puts a file into the modules' directory in one step.
fn put(target: &Target, name: &str, bytes: &[u8]) -> PathBuf {
    let path = target.cluster.path("modules").join(name).with_extension("wasm");
    fs::write(path.with_extension("part"), bytes).unwrap();
    fs::rename(path.with_extension("part"), &path).unwrap();
    path
}

fn modules(target: &Target) -> Value {
    serde_json::from_str(&target.cluster.done(&["modules", "--json"])).unwrap()
}

/// Waits until a file is refused; why it was.
fn refused(target: &Target, name: &str, part: &str) -> String {
    eventually(&format!("{name} is refused: {part}"), || {
        let why = modules(target)["refused"].get(name)?.as_str()?.to_owned();
        why.contains(part).then_some(why)
    })
}

/// Has the neighbour ask without pause, in a task of its own, while `work` waits for what it does.
async fn beside(target: &Target, work: impl FnOnce()) {
    let neighbour = Neighbour::of(target).await;
    let (done, ended) = tokio::sync::oneshot::channel::<()>();
    let asking = tokio::spawn(async move { neighbour.asks_during(ended).await });
    tokio::task::block_in_place(work);
    drop(done);
    assert!(asking.await.unwrap().answered > 0);
}

/// The compiler processes of a master.
fn compilers(target: &Target) -> Vec<Process> {
    let master = target.cluster.hosts[0].pid().cast_signed();
    let own = |process: &Process| {
        let stat = process.stat().ok()?;
        let name = process.cmdline().ok()?.into_iter().next()?;
        // One that has ended and was not waited for yet has no name.
        (stat.ppid == master && name == "pomelo-compiler").then_some(())
    };
    all_processes().unwrap().flatten().filter(|process| own(process).is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_that_a_compiler_needs_minutes_for_are_refused_before_it_sees_them() {
    let target = Target::start("");
    beside(&target, || {
        let descriptor = json!({"ids": [{"id": "shape"}]});
        let with = |core: Vec<u8>| shapes::module(Some(&core), &descriptor);
        for (name, bytes, part) in [
            ("locals", with(shapes::loops(10_000, 3_000, 1)), "local variables times blocks"),
            ("values", with(shapes::calls(1_000, 1)), "1000 results; at most 32"),
            ("branches", with(shapes::branches(60_000, 17)), "the function 0 has"),
            ("nested", shapes::nested_types(100_000, &descriptor), "component and instance types in one section"),
        ] {
            println!("{name}.wasm has {} bytes", bytes.len());
            put(&target, name, &bytes);
            refused(&target, name, part);
        }
    })
    .await;
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_takes_more_time_or_memory_than_it_may_is_given_up() {
    // Within all bounds of shapes, and yet more than these limits.
    let costly = |name: &str| shapes::module(Some(&shapes::loops(1_500, 1_900, 40)), &json!({"ids": [{"id": name}]}));
    let target = Target::start("[modules]\ncompile_seconds = 1\n");
    beside(&target, || {
        put(&target, "slow", &costly("slow"));
        let why = refused(&target, "slow", "more than 1 s of CPU time");
        assert!(why.contains("compile_seconds"), "it says what to change: {why}");
    })
    .await;
    target.held();
    drop(target);

    let target = Target::start("[modules]\ncompile_mib = 128\n");
    beside(&target, || {
        put(&target, "large", &costly("large"));
        let why = refused(&target, "large", "more than 128 MiB of memory");
        assert!(why.contains("compile_mib"), "it says what to change: {why}");
    })
    .await;
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_any_more_is_not_compiled_to_its_end() {
    let target = Target::start("[modules]\ncompile_seconds = 600\n");
    let costly = |number: usize| {
        let descriptor = json!({"ids": [{"id": "costly"}], "version": number.to_string()});
        shapes::module(Some(&shapes::loops(1_500, 1_900, 200)), &descriptor)
    };
    let saved = || {
        for number in 0..9 {
            let file = put(&target, "costly", &costly(number));
            eventually("it is being compiled", || (!compilers(&target).is_empty()).then_some(()));
            assert!(compilers(&target).len() <= 2, "the one before it is killed");
            if number == 8 {
                fs::remove_file(file).unwrap();
            }
        }
        eventually("no compiler is left", || compilers(&target).is_empty().then_some(()));
    };
    beside(&target, saved).await;
    target.held();
}

/// A compiler process that is given a component.
fn compiler(component: &[u8], cache: &Path) -> Child {
    let mut child = Command::new(POMELO)
        .args(["__compile", "--seconds", "600", "--mib", "4096", "--cache"])
        .arg(cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&(component.len() as u64).to_le_bytes()).unwrap();
    input.write_all(component).unwrap();
    child
}

/// How a compiler has come by the code (`c`: it compiled; `r`: it read what another had left), and the code.
fn code(child: &mut Child) -> (u8, Vec<u8>) {
    let mut all = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut all).unwrap();
    assert!(child.wait().unwrap().success());
    (all[0], all.split_off(1))
}

#[test]
fn of_eleven_hosts_one_compiles() {
    let dir = tempfile::tempdir().unwrap();
    let component = shapes::module(Some(&shapes::loops(300, 300, 10)), &json!({"ids": [{"id": "a"}]}));
    let mut all: Vec<Child> = (0..11).map(|_| compiler(&component, dir.path())).collect();
    let codes: Vec<_> = all.iter_mut().map(code).collect();
    assert_eq!(codes.iter().filter(|(how, _)| *how == b'c').count(), 1, "the others read what it has left");
    assert!(codes.iter().all(|(_, code)| *code == codes[0].1));
}

#[test]
fn one_that_is_killed_gives_its_turn_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let component = shapes::module(Some(&shapes::loops(1_500, 1_900, 200)), &json!({"ids": [{"id": "a"}]}));
    let begun = |child: &mut Child| {
        let mut how = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut how).unwrap();
        how[0]
    };
    let mut first = compiler(&component, dir.path());
    assert_eq!(begun(&mut first), b'c');
    let mut second = compiler(&component, dir.path());
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(begun(&mut second), b'c');
    // Nobody wants its code any more: its host has closed the pipe.
    drop(second.stdin.take());
    assert!(!second.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_descriptor_says_at_length_is_refused_by_its_name() {
    let target = Target::start("");
    let many = |count: usize| (0..count).map(|number| format!("key-{number}-*")).collect::<Vec<_>>();
    let levels: Value = many(10_000).into_iter().map(|name| (name, json!(2))).collect::<serde_json::Map<_, _>>().into();
    let id = |id: &str| json!([{ "id": id }]);
    beside(&target, || {
        for (name, descriptor, part) in [
            ("durable", json!({"ids": id("d"), "durable": many(200_000)}), "`pomelo:descriptor` has"),
            ("patterns", json!({"ids": id("p"), "durable": many(129)}), "`durable` of the descriptor has 129 entries"),
            ("version", json!({"ids": id("v"), "version": "1".repeat(20 << 20)}), "`pomelo:descriptor` has"),
            ("name", json!({"ids": id("n"), "name": "n".repeat(1_000)}), "`name` of the descriptor has a text of 1000"),
            ("levels", json!({"ids": id("l"), "operations": {"levels": levels}}), "`pomelo:descriptor` has"),
            ("reads", json!({"ids": id("r"), "operations": {"reads": many(300)}}), "`operations.reads`"),
        ] {
            put(&target, name, &shapes::module(None, &descriptor));
            refused(&target, name, part);
        }
        let said = target.cluster.done(&["modules"]);
        assert!(said.len() < 20_000, "what `modules` says stays short: {} bytes", said.len());
    })
    .await;
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_no_file_has_any_more_are_given_back() {
    let target = Target::start("");
    beside(&target, || {
        // Together more than a host has at a time.
        for version in 0..20 {
            let ids: Vec<Value> = (0..64).map(|id| json!({"id": format!("id-{version}-{id}")})).collect();
            let last = format!("id-{version}-63");
            put(&target, "many", &shapes::module(None, &json!({ "ids": ids })));
            eventually("it is in force", || {
                let all = modules(&target);
                assert_eq!(all["refused"], json!({}));
                all["modules"].as_array()?.iter().find(|module| module["id"] == last)?["refused"]
                    .is_null()
                    .then_some(())
            });
        }
    })
    .await;
    target.held();
}
