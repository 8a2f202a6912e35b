//! The demo: what somebody sees who types `pomelo start` for the first time.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::*;

const SERVERS: [(&str, u16); 5] = [
    ("gate-server-1", 3014),
    ("connector-server-1", 4050),
    ("connector-server-2", 4051),
    ("chat-server-1", 6050),
    ("chat-server-2", 6051),
];

/// The demo's ports are fixed, so all that needs them is this one test.
#[test]
fn s4_c1_w5_the_demo_runs_heals_itself_and_ends_whole() {
    for port in SERVERS.map(|(_, port)| port).into_iter().chain([3005]) {
        eventually(&format!("port {port}, which the demo needs, is free"), || {
            TcpListener::bind(("127.0.0.1", port)).ok().map(drop)
        });
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = pomelo(&["start"]);
    command.current_dir(dir.path());
    let hosts = vec![Host::start(command, dir.path().join("log"))];
    let mut demo = Cluster { hosts, dir, port: 3005 };

    // It says what to type next.
    let said = eventually("the demo says what to do", || {
        let log = demo.hosts[0].log();
        log.contains("Ctrl-C ends everything").then_some(log)
    });
    for line in ["pomelo list\n", "pomelo restart gate-server-1\n", "pomelo stop gate-server-1\n", "pomelo modules\n"] {
        assert!(said.contains(line), "{line} is not in {said}");
    }

    // Everybody is listed, with a real process and pomelo's members.
    let everybody = SERVERS.map(|(id, _)| id);
    let all = || {
        let listed = demo.list();
        let running = |id: &&str| listed[*id]["state"] == "running";
        (everybody.iter().all(running) && listed["master-server-1"]["state"] == "running").then_some(listed)
    };
    let listed = eventually("all run", all);
    assert_eq!(listed.as_object().unwrap().len(), 6);
    for (id, server) in listed.as_object().unwrap() {
        assert_eq!(&server["serverId"], id);
        assert!(id.starts_with(server["serverType"].as_str().unwrap()));
        for figure in ["rss", "heapTotal", "heapUsed"] {
            let value: f64 = server[figure].as_str().unwrap().parse().unwrap();
            assert!(value > 0.0, "{figure} of {server}");
        }
        assert!(server["uptime"].as_str().unwrap().parse::<f64>().is_ok());
    }
    assert_eq!(pid(&listed, "master-server-1"), demo.hosts[0].pid());
    for (id, port) in SERVERS {
        assert!(command_line(pid(&listed, id)).ends_with(&format!("demo-server --port {port} ")));
    }
    let table = demo.done(&["list"]);
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.lines().all(|line| line.trim_end().chars().count() <= 80), "it fits 80 columns:\n{table}");

    // A server that is killed goes from every other view, and comes back by itself, with another process.
    let mut whole = everybody.to_vec();
    whole.push("master-server-1");
    let views: BTreeMap<&str, PathBuf> =
        everybody.iter().map(|&id| (id, view_file(pid(&listed, id)).unwrap())).collect();
    for file in views.values() {
        eventually("the view is whole", || (members(file) == ids(&whole)).then_some(()));
        eventually("all have started", || (view(file)["startOver"] == true).then_some(()));
    }
    let victim = pid(&listed, "chat-server-1");
    let others = views.iter().filter(|(id, _)| **id != "chat-server-1");
    let watching: Vec<_> = others
        .map(|(_, file)| {
            let file = file.clone();
            std::thread::spawn(move || {
                eventually("the others lose it", || (!members(&file).contains("chat-server-1")).then_some(()));
                eventually("the others have it again", || {
                    let pid = view(&file)["servers"]["chat-server-1"]["pid"].as_u64()?;
                    (pid != u64::from(victim)).then_some(pid)
                })
            })
        })
        .collect();
    send(victim, Signal::SIGKILL);
    let seen: Vec<u64> = watching.into_iter().map(|view| view.join().unwrap()).collect();
    let listed = eventually("it is back", all);
    assert!(seen.iter().all(|seen| *seen == u64::from(pid(&listed, "chat-server-1"))), "{seen:?} {listed}");
    assert_eq!((&listed["chat-server-1"]["restarts"], &listed["gate-server-1"]["restarts"]), (&1.into(), &0.into()));

    // Ctrl-C, or a SIGTERM, leaves nothing behind.
    let programs: Vec<u32> = everybody.iter().map(|id| pid(&listed, id)).collect();
    let monitors: Vec<u32> = programs.iter().map(|pid| parent(*pid)).collect();
    assert!(monitors.iter().all(|pid| command_line(*pid).contains(" monitor --quiet --poll --demo ")));
    demo.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(demo.hosts[0].ended().code(), Some(0));
    programs.into_iter().chain(monitors).for_each(gone);
    assert!(views.values().all(|file| !file.exists()), "nor on the disk");
}
