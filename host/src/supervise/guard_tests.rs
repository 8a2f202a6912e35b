//! Tests of the guard, with real processes.

use tokio::time::timeout;

use super::tests::{LONG, eventually, launch, line, policy, runs, shell, until};
use super::*;

/// A program that runs, and whose lines are read.
fn begun(spec: &Spec, announcement: Option<guard::Announcement>) -> group::Group {
    let mut group = group::Group::spawn(spec, announcement).unwrap();
    group.read_output(spec);
    group
}

#[tokio::test]
async fn the_guard_ends_groups_when_its_host_is_gone() {
    let (spec, mut lines) = shell("echo $$; sleep 1000 & wait", policy(Restart::Never));
    let mut group = begun(&spec, None);
    let (mut other, mut other_lines) = shell("echo $$; sleep 1000", policy(Restart::Never));
    other.id = "other".into();
    let mut other = begun(&other, None);
    let (pid, other_pid) = (line(&mut lines).await, line(&mut other_lines).await);
    let guard = Guard::new();
    guard.add(other.pid()).await;
    guard.add(group.pid()).await;
    guard.remove(other.pid()).await;
    // A host that is killed closes the pipe and does nothing else.
    drop(guard);
    timeout(LONG, group.leader_ended()).await.expect("the guard kills the group");
    assert!(!runs(&pid) && runs(&other_pid), "only groups that were not taken back are killed");
    other.kill();
    timeout(LONG, other.leader_ended()).await.unwrap();
}

#[tokio::test]
async fn the_guard_knows_of_a_program_before_it_runs() {
    let guard = Guard::new();
    // One that is taken back is not killed, whether it was announced or added. It is the first, so that it would be killed before the others.
    let (mut other, mut other_lines) = shell("echo $$; sleep 1000", policy(Restart::Never));
    other.id = "other".into();
    let (_, announcement) = guard.announcement().await.unwrap();
    let mut other = begun(&other, Some(announcement));
    guard.add(other.pid()).await;
    guard.remove(other.pid()).await;
    let (spec, mut lines) = shell("echo $$; sleep 1000", policy(Restart::Never));
    let (_, announcement) = guard.announcement().await.unwrap();
    let mut announced = begun(&spec, Some(announcement));
    let (mut missing, _) = shell("", policy(Restart::Never));
    missing.command = vec!["/nowhere/to/be/found".into()];
    let (key, announcement) = guard.announcement().await.unwrap();
    assert!(group::Group::spawn(&missing, Some(announcement)).is_err());
    guard.take_back(key).await;
    let (pid, other_pid) = (line(&mut lines).await, line(&mut other_lines).await);
    // The host ends before it has said anything itself.
    drop(guard);
    timeout(LONG, announced.leader_ended()).await.expect("the guard kills the group");
    assert!(!runs(&pid) && runs(&other_pid));
    other.kill();
    timeout(LONG, other.leader_ended()).await.unwrap();
}

#[tokio::test]
async fn a_program_runs_whose_guard_has_ended() {
    let guard = Guard::new();
    let (_, announcement) = guard.announcement().await.unwrap();
    guard.end().await;
    // What a program inherits is what this process has.
    let script = "echo up; exec grep SigIgn /proc/self/status";
    let (spec, mut lines) = shell(script, policy(Restart::Never));
    let mut group = begun(&spec, Some(announcement));
    assert_eq!(line(&mut lines).await, "up");
    let ignored = line(&mut lines).await;
    let ignored = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 << (nix::sys::signal::Signal::SIGPIPE as u64 - 1)), 0, "SIGPIPE is not ignored");
    timeout(LONG, group.leader_ended()).await.unwrap();
    assert!(guard.announcement().await.is_some(), "there is a new one");
}

/// The variable in which [`a_killed_host_leaves_no_orphan`] tells its host where the program is to write.
const HOST_FILE: &str = "POMELO_TEST_HOST_FILE";

/// Not a test of its own: the host that [`a_killed_host_leaves_no_orphan`] runs, and kills.
#[tokio::test]
#[ignore = "run by a_killed_host_leaves_no_orphan"]
async fn host_to_be_killed() {
    let Ok(file) = std::env::var(HOST_FILE) else { return };
    let (mut spec, _lines) = shell("sleep 1000 & echo $$ $! > \"$0\"; wait", policy(Restart::Always));
    spec.command.push(file);
    let supervisor = launch(spec);
    until(&supervisor, |status| matches!(status.phase, Phase::Exited(_))).await;
}

#[tokio::test]
async fn a_killed_host_leaves_no_orphan() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let mut host = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "supervise::guard_tests::host_to_be_killed"])
        .env(HOST_FILE, &file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("the program runs", || read().ends_with('\n')).await;
    let pids = read();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| runs(pid)), "{pids:?}");
    host.kill().await.unwrap();
    eventually("the program and its child end", || !pids.iter().any(|pid| runs(pid))).await;
}
