//! TLS between real processes: openssl's client, npm's, our own commands and monitors; certificates that change under load; and wrong ones, with the
//! sentences that are shown at both ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use pomelo_host::client::{AdminClient, Options};
use pomelo_host::tls::{Authority, ClientFiles, ClientTls, DAY, Holder, Issued, Lifetime, now, when};
use serde_json::json;

use crate::clients::script;
use crate::observing::get;
use crate::support::*;

/// `[tls]` of these clusters.
const TLS: &str = "[tls]\ncertificate = \"tls/master.pem\"\nkey = \"tls/master.key\"\nca = \"tls/ca.pem\"\nclient_ca = \"tls/ca.pem\"\n";

/// A cluster with an authority.
struct Secure {
    cluster: Cluster,
    authority: Authority,
}

fn chat(id: &str) -> Holder {
    Holder::Server { server_type: "chat".into(), id: id.into() }
}

fn names() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

impl Secure {
    /// A configuration with certificates of the master and of both users. Nothing runs.
    fn configured(settings: &str) -> Secure {
        let cluster = Cluster::configured(two_chats(), &format!("{SETTINGS}{TLS}{settings}"));
        fs::create_dir(cluster.path("tls")).unwrap();
        let (authority, own) = Authority::make("a cluster").unwrap();
        let secure = Secure { cluster, authority };
        secure.write("ca", &own);
        secure.write("master", &secure.authority.host(&names(), Lifetime::days(90)).unwrap());
        for user in ["admin", "monitor"] {
            secure.issue(&format!("user-{user}"), &Holder::User(user.into()), Lifetime::days(90));
        }
        secure
    }

    fn write(&self, name: &str, issued: &Issued) {
        // As package tools and `pomelo cert` do it: each file is replaced at once.
        for (ending, text) in [("key", &issued.key), ("pem", &issued.certificate)] {
            self.cluster.write("tls/new", text);
            fs::rename(self.cluster.path("tls/new"), self.file(&format!("{name}.{ending}"))).unwrap();
        }
    }

    fn issue(&self, name: &str, holder: &Holder, lifetime: Lifetime) {
        self.write(name, &self.authority.holder(holder, lifetime).unwrap());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.cluster.path(&format!("tls/{name}"))
    }

    fn text(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.cluster.port)
    }

    /// Runs a command over TLS that trusts the authority of that name, with further arguments.
    fn ask(&self, ca: &str, arguments: &[&str]) -> Done {
        let mut command = pomelo(arguments);
        command.args(["--host", &self.url("127.0.0.1"), "--ca", &self.text(ca)]);
        run(command)
    }

    /// What a command says that must fail.
    fn refused(&self, ca: &str, arguments: &[&str]) -> String {
        let done = self.ask(ca, arguments);
        assert_ne!(done.code, Some(0), "{arguments:?}: {done:?}");
        done.err
    }

    /// The arguments with which a holder's certificate is shown.
    fn shown(&self, name: &str) -> [String; 4] {
        ["--cert".into(), self.text(&format!("{name}.pem")), "--key".into(), self.text(&format!("{name}.key"))]
    }

    fn log(&self, part: &str) {
        eventually(&format!("the master's log has `{part}`"), || {
            self.cluster.hosts[0].log().contains(part).then_some(())
        });
    }

    /// The value of a metric of the master, asked for in clear text from this machine.
    fn metric(&self, line: &str) -> Option<f64> {
        let (_, page) = get(&format!("127.0.0.1:{}", self.cluster.port), "/metrics", "")?;
        page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// What openssl's client shows when it has sent some bytes.
    fn openssl(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", self.cluster.port),
            "-CAfile",
            &self.text("ca.pem"),
        ]);
        openssl.args(["-verify_return_error", "-ign_eof"]).args(arguments);
        let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        output.stdout.into_iter().chain(output.stderr).map(char::from).collect()
    }
}

#[test]
fn init_makes_a_cluster_that_speaks_tls_and_whose_certificates_stand_in_place_of_secrets() {
    let [port] = free_ports();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    let text = config.to_str().unwrap();
    let made = run(pomelo(&["init", text, "--tls", "--port", &port.to_string()]));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.out.contains("export POMELO_CA=") && made.out.contains("pomelo cert renew"), "{}", made.out);
    let checked = run(pomelo(&["check", text]));
    assert!(checked.code == Some(0) && checked.out.contains("no faults, no warnings"), "{checked:?}");
    for key in ["ca", "master", "user-admin", "server-chat-server-1"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = |ending: &str| {
            fs::metadata(config.join(format!("tls/{key}.{ending}"))).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("key"), mode("pem")), (0o600, 0o644), "{key}");
    }
    let listed = run(pomelo(&["cert", "list", "--config", text]));
    assert!(
        listed.out.contains("server `chat-server-1` of type `chat`") && listed.out.contains("user `admin`"),
        "{listed:?}"
    );
    let unknown = run(pomelo(&["cert", "user", "nobody", "--config", text]));
    assert!(unknown.err.contains("there is no user `nobody`"), "{unknown:?}");
    let other_type = run(pomelo(&["cert", "server", "chat-server-1", "gate", "--config", text]));
    assert!(other_type.err.contains("configured as a server of type `chat`, not `gate`"), "{other_type:?}");

    // The servers have no token any more, so that only their certificates let them in.
    let servers = json!({"chat": [{"id": "chat-1", "command": ["sh", "-c", GRACEFUL]}, {"id": "chat-2", "command": ["sh", "-c", GRACEFUL]}]});
    fs::write(config.join("servers.json"), servers.to_string()).unwrap();
    fs::write(config.join("adminServer.json"), r#"[{"type": "gate", "token": "a token of another type"}]"#).unwrap();
    for id in ["chat-1", "chat-2"] {
        let made = run(pomelo(&["cert", "server", id, "--config", text]));
        assert!(made.code == Some(0) && made.out.contains(&format!("server `{id}` of type `chat`")), "{made:?}");
    }
    let mut command = pomelo(&["start", "--config", text]);
    command.current_dir(dir.path());
    let host = Host::start(command, dir.path().join("host.log"));
    let ask = |arguments: &[&str]| {
        let mut command = pomelo(arguments);
        command.env("POMELO_CA", config.join("tls/ca.pem")).env("POMELO_CERT", config.join("tls/user-admin.pem"));
        command.env("POMELO_KEY", config.join("tls/user-admin.key")).arg(format!("--port={port}"));
        run(command)
    };
    eventually("both servers run", || {
        let listed = ask(&["list", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.out).ok()?;
        let runs = |id: &str| listed["msg"][id]["state"] == "running";
        (runs("chat-1") && runs("chat-2")).then_some(())
    });
    let stopped = ask(&["stop", "chat-2"]);
    assert_eq!(stopped.code, Some(0), "the user's level is that of adminUser.json: {stopped:?}");
    // The host of master.json is another: the certificate is made anew, and taken over by the running master.
    let renewed = run(pomelo(&["cert", "renew", "--all", "--config", text]));
    assert!(renewed.out.contains("master.pem") && renewed.out.contains("server-chat-1.pem"), "{renewed:?}");
    eventually("it is taken over", || {
        host.log().contains("was read again and counts for new connections").then_some(())
    });
    assert_eq!(ask(&["restart", "chat-2"]).code, Some(0));
    let log = host.log();
    assert!(!log.contains("panicked") && !log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn openssl_npm_our_commands_and_the_page_speak_tls_on_the_port_of_clear_text() {
    let mut secure = Secure::configured("");
    secure.cluster.host("start", &[]);
    secure.cluster.wait_for(&["chat-1", "chat-2"]);

    let http = secure.openssl(
        &["-verify_hostname", "localhost"],
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert!(http.contains("Verify return code: 0 (ok)") && http.contains("HTTP/1.1 200"), "{http}");
    // CONNECT of pomelo-admin 1.x, and its goodbye.
    let mut connect = vec![0x10, 13, 0, 4];
    connect.extend(b"MQTT\x04\x02\x00\x3c\x00\x01x");
    let wire = secure.openssl(&["-quiet"], &[connect.as_slice(), &[0xe0, 0]].concat());
    assert!(wire.contains("\u{20}\u{2}\0\0"), "CONNACK in {wire:?}");
    let unknown = secure.openssl(&["-CAfile", "/dev/null"], b"");
    assert!(!unknown.contains("Verify return code: 0"), "{unknown}");

    let (port, ca) = (secure.cluster.port.to_string(), secure.text("ca.pem"));
    let checks = ["listed over websocket", "listed over polling", "an unknown authority is not trusted"];
    for arguments in [
        vec![port.clone(), ca.clone()],
        vec![port.clone(), ca, secure.text("user-admin.pem"), secure.text("user-admin.key")],
    ] {
        let said = script("tls.js", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said.lines().collect::<Vec<_>>(), checks);
    }

    for arguments in [vec!["list"], vec!["list", "--timeout", "5"], vec!["events"]] {
        let done = secure.ask("ca.pem", &arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    }
    let shown = secure.shown("user-monitor");
    let mut shell = pomelo(&["shell", "--host", &secure.url("localhost"), "--ca", &secure.text("ca.pem")]);
    shell.args(&shown);
    let said = run_with_input(shell, "list\nstop chat-1\n");
    assert!(said.out.contains("chat-1") && said.err.contains("level 1"), "level 2 by its certificate: {said:?}");

    crate::page::driver();
    let cluster = page_cluster();
    let said = script("page.js", &[&cluster.cluster.port.to_string(), "", "https"]);
    assert!(said.lines().any(|line| line == "a server is restarted and the event is shown"), "{said}");
}

/// A cluster as `page.js` wants it.
fn page_cluster() -> Secure {
    let mut secure = Secure::configured("");
    let loud = "trap 'exit 0' TERM; test -e said || { touch said; echo '<img src=x onerror=alert(1)>' >&2; exit 1; }; \
                while :; do sleep 0.05; done";
    let servers = json!({"chat": [{"id": "chat-1", "command": ["sh", "-c", loud], "cwd": "."}, {"id": "chat-2", "command": ["sh", "-c", GRACEFUL]}]});
    secure.cluster.write("servers.json", &servers.to_string());
    secure.cluster.write("pomelo.toml", &format!("[supervise]\nready_delay_ms = 0\nbackoff_min_ms = 50\n{TLS}"));
    secure.cluster.host("start", &[]);
    secure.cluster.wait_for(&["chat-1", "chat-2"]);
    eventually("it has said it", || secure.cluster.path("said").exists().then_some(()));
    secure
}

#[test]
fn a_wrong_certificate_of_the_master_is_told_at_both_ends() {
    let mut secure = Secure::configured("");
    let (_, other) = Authority::make("another").unwrap();
    secure.write("other", &other);
    secure.cluster.host("master", &[]);
    secure.cluster.wait_for(&[]);
    assert_eq!(secure.ask("ca.pem", &["list"]).code, Some(0));

    let said = secure.refused("other.pem", &["list"]);
    assert!(
        said.contains("its certificate is of no authority that is trusted here") && said.contains("--ca FILE"),
        "{said}"
    );
    secure.log("it does not accept this host's certificate: it is of an authority that is not trusted there");
    eventually("it is counted", || {
        secure.metric("pomelo_tls_handshakes_failed_total{reason=\"own-refused\"}").filter(|count| *count >= 1.0)
    });

    let mut elsewhere = pomelo(&["list", "--ca", &secure.text("ca.pem")]);
    elsewhere.args(["--host", &secure.url("127.0.0.2")]);
    let listening = run(elsewhere);
    assert_eq!(listening.code, Some(3), "the master listens on 127.0.0.1 alone: {listening:?}");

    // A certificate that counts for another name.
    secure.write("master", &secure.authority.host(&["master.example".into()], Lifetime::days(90)).unwrap());
    secure.log("was read again and counts for new connections");
    let said = secure.refused("ca.pem", &["list"]);
    assert!(said.contains("its certificate is not for `127.0.0.1`, but for master.example"), "{said}");
    secure.log("it is not for the name that was connected to");

    // A running master does not take one that has expired; a new one does, because it must be reachable to be mended.
    let past = Lifetime { from: now() - 3 * DAY, until: now() - 2 * DAY };
    let read_before = secure.cluster.hosts[0].log().matches("is not taken").count();
    secure.write("master", &secure.authority.host(&names(), past).unwrap());
    eventually("it is refused", || {
        (secure.cluster.hosts[0].log().matches("is not taken").count() > read_before).then_some(())
    });
    secure.log("the certificate has expired on");
    let events = secure.cluster.done(&["events"]);
    assert!(
        events.contains("the changed certificate is not taken") && events.contains("pomelo cert renew"),
        "{events}"
    );
    let checked = run(pomelo(&["check", secure.cluster.dir.path().to_str().unwrap()]));
    assert!(
        checked.out.contains("the certificate has expired on") && checked.out.contains("pomelo.toml:"),
        "{checked:?}"
    );
    secure.cluster.done(&["stop", "--all"]);
    assert_eq!(secure.cluster.hosts[0].ended().code(), Some(0));
    secure.cluster.hosts.clear();
    secure.cluster.host("master", &[]);
    secure.cluster.wait_for(&[]);
    let said = secure.refused("ca.pem", &["list"]);
    assert!(said.contains(&format!("its certificate has expired (on {})", when(past.until))), "{said}");
    secure.log("it does not accept this host's certificate: it has expired");
    assert!(secure.metric("pomelo_tls_certificate_end_seconds").unwrap() < 0.0);
    eventually("an event says so", || {
        secure.cluster.done(&["events"]).contains("nobody who checks it connects").then_some(())
    });
}

#[test]
fn a_wrong_certificate_of_a_peer_is_told_at_both_ends() {
    let mut secure = Secure::configured("");
    let (stranger, other) = Authority::make("another").unwrap();
    secure.write("other", &other);
    secure.write("user-stranger", &stranger.holder(&Holder::User("admin".into()), Lifetime::days(9)).unwrap());
    let past = Lifetime { from: now() - 3 * DAY, until: now() - 2 * DAY };
    secure.issue("user-late", &Holder::User("admin".into()), past);
    secure.issue("user-gone", &Holder::User("gone".into()), Lifetime::days(9));
    secure.issue("chat-1", &chat("chat-1"), Lifetime::days(9));
    secure.cluster.host("master", &[]);
    secure.cluster.wait_for(&[]);
    let list = |name: &str, more: &[&str]| {
        let shown = secure.shown(name);
        let arguments: Vec<&str> =
            ["list"].into_iter().chain(shown.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        secure.refused("ca.pem", &arguments)
    };

    let said = list("user-stranger", &[]);
    assert!(
        said.contains(
            "it does not accept the certificate of this side: it is of an authority that is not trusted there"
        ),
        "{said}"
    );
    secure.log("its certificate is of an authority that is not trusted here (`client_ca` in [tls] of pomelo.toml)");
    let said = list("user-late", &[]);
    assert!(said.contains("it does not accept the certificate of this side: it has expired"), "{said}");
    secure.log(&format!("a TLS handshake failed: its certificate has expired (on {})", when(past.until)));
    eventually("both are counted", || {
        secure.metric("pomelo_tls_handshakes_failed_total{reason=\"unknown-authority\"}")?;
        secure.metric("pomelo_tls_handshakes_failed_total{reason=\"expired\"}")
    });

    let both = "the certificate is that of user `monitor`, and not of user `admin`";
    assert!(
        list("user-monitor", &["--username", "admin", "--password", "admin"]).contains(both),
        "a password is no way around it"
    );
    secure.log(both);
    assert!(list("user-gone", &[]).contains("the certificate is that of a user who is not in adminUser.json"));
    let both = "the certificate is that of server `chat-1` of type `chat`, and not of user `admin`";
    assert!(list("chat-1", &[]).contains(both));
    assert!(secure.metric("pomelo_registrations_refused_total").unwrap() >= 3.0);

    // A monitor with the certificate of another server: it is refused, and with its own it joins without a token.
    let (url, ca) = (secure.url("127.0.0.1"), secure.text("ca.pem"));
    let shown = secure.shown("chat-1");
    let monitor = |id: &str| {
        let mut command = pomelo(&["monitor", "--id", id, "--type", "chat", "--master", &url, "--ca", &ca]);
        command.args(&shown).args(["--", "sh", "-c", GRACEFUL]).current_dir(secure.cluster.dir.path());
        Host::start(command, secure.cluster.path(&format!("{id}.log")))
    };
    let wrong = monitor("chat-2");
    let both = "the certificate is that of server `chat-1` of type `chat`, and not of server `chat-2` of type `chat`";
    eventually("the monitor is told", || wrong.log().contains(both).then_some(()));
    secure.log(both);
    drop(wrong);
    let right = monitor("chat-1");
    secure.cluster.wait_for(&["chat-1"]);
    eventually("the admin log has it", || {
        let asked = secure.cluster.asked();
        asked.iter().any(|line| line.to_string().contains("and not of server `chat-2`")).then_some(())
    });
    drop(right);
}

#[test]
fn a_side_that_speaks_tls_and_one_that_does_not_tell_each_other() {
    let mut secure = Secure::configured("");
    secure.cluster.write("pomelo.toml", SETTINGS);
    secure.cluster.host("master", &[]);
    secure.cluster.wait_for(&[]);
    let said = secure.refused("ca.pem", &["list"]);
    assert!(said.contains("it does not speak TLS") && said.contains("without https://"), "{said}");
    secure.log("it speaks TLS, which is not configured ([tls] in pomelo.toml)");
    let contradiction = run(pomelo(&["list", "--tls", "--host", "http://127.0.0.1"]));
    assert!(contradiction.code == Some(2) && contradiction.err.contains("give https://HOST:PORT"), "{contradiction:?}");
    let keyless = run(pomelo(&["list", "--key", "x"]));
    assert!(keyless.code == Some(2) && keyless.err.contains("without --cert"), "{keyless:?}");
    let missing = run(pomelo(&["list", "--ca", "no.pem"]));
    assert!(missing.code == Some(2) && missing.err.contains("no.pem: it cannot be read"), "{missing:?}");
}

/// An address of this machine that others reach it by.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.255:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

#[test]
fn from_other_machines_clear_text_is_let_in_only_from_the_named_networks() {
    let Some(address) = own_address() else {
        return eprintln!("NO address but loopback: that clear text is refused is tested by its parts alone");
    };
    let settings = "required = true\n";
    let mut secure = Secure::configured(settings);
    let port = secure.cluster.port;
    let write_master = |secure: &Secure| {
        secure.cluster.write("master.json", &json!({"id": "master", "host": "0.0.0.0", "port": port}).to_string())
    };
    write_master(&secure);
    secure.cluster.write(
        "adminUser.json",
        &json!([{"username": "admin", "password": "not-to-be-guessed", "level": 1}]).to_string(),
    );
    secure.write(
        "master",
        &secure.authority.host(&["0.0.0.0".into(), "localhost".into(), address.clone()], Lifetime::days(90)).unwrap(),
    );
    secure.issue("server-chat-1", &chat("chat-1"), Lifetime::days(9));
    secure.issue("server-chat-2", &chat("chat-2"), Lifetime::days(9));
    // There is no adminServer.json: the certificates of servers let the master listen here.
    secure.cluster.host("start", &[]);
    let list = |host: &str, more: &[&str]| {
        let mut command = pomelo(&["list", "--json", "--password", "not-to-be-guessed", "--host", host]);
        command.arg(format!("--port={port}")).args(more);
        run(command)
    };
    let ca = secure.text("ca.pem");
    eventually("both run", || {
        let listed = list(&format!("https://{address}:{port}"), &["--ca", &ca]);
        let listed: serde_json::Value = serde_json::from_str(&listed.out).ok()?;
        ["chat-1", "chat-2"].iter().all(|id| listed["msg"][*id]["state"] == "running").then_some(())
    });
    assert_eq!(list("127.0.0.1", &[]).code, Some(0), "this machine may speak clear text");

    let refused = list(&address, &[]);
    assert!(refused.err.contains("426") && refused.err.contains("it takes TLS only"), "{refused:?}");
    secure.log("a request in clear text was refused, because [tls] requires TLS");
    let (status, said) = get(&format!("{address}:{port}"), "/healthz", "").unwrap();
    assert!(status == 426 && said.contains("this master takes TLS only from other machines"), "{status} {said}");
    let pomelos = |id: &str| {
        let mut command =
            pomelo(&["monitor", "--id", id, "--type", "chat", "--pomelo-master", &format!("{address}:{port}")]);
        command.args(["--", "sh", "-c", GRACEFUL]).current_dir(secure.cluster.dir.path());
        Host::start(command, secure.cluster.path(&format!("{id}.log")))
    };
    let clear = pomelos("chat-8");
    eventually("it is told", || clear.log().contains("the master refuses the connection with code 5").then_some(()));
    secure.log("it speaks clear text, and [tls] requires TLS");
    drop(clear);
    // A monitor over TLS, but without a certificate and where there are no tokens.
    let mut command = pomelo(&[
        "monitor",
        "--id",
        "chat-7",
        "--type",
        "chat",
        "--master",
        &format!("https://{address}:{port}"),
        "--ca",
        &ca,
    ]);
    command.args(["--", "sh", "-c", GRACEFUL]).current_dir(secure.cluster.dir.path());
    let bare = Host::start(command, secure.cluster.path("chat-7.log"));
    eventually("it is told", || {
        bare.log().contains("a monitor from another machine needs a certificate").then_some(())
    });
    drop(bare);

    let named = format!("{settings}clear_networks = [\"{address}\"]\n");
    secure.cluster.write("pomelo.toml", &format!("{SETTINGS}{TLS}{named}"));
    let stopped = list("127.0.0.1", &[]);
    assert_eq!(stopped.code, Some(0));
    let mut stop = pomelo(&["stop", "--all", "--password", "not-to-be-guessed"]);
    stop.arg(format!("--port={port}"));
    assert_eq!(run(stop).code, Some(0));
    secure.cluster.hosts[0].ended();
    secure.cluster.hosts.clear();
    secure.cluster.host("start", &[]);
    eventually("clear text is let in from there", || (list(&address, &[]).code == Some(0)).then_some(()));
}

#[test]
fn a_certificate_changes_under_load_and_no_connection_is_dropped() {
    let mut secure = Secure::configured("");
    secure.cluster.host("start", &[]);
    secure.cluster.wait_for(&["chat-1", "chat-2"]);
    let before = secure.cluster.list();
    let log_before = secure.cluster.hosts[0].log();
    let ca = ClientFiles { ca: Some(secure.file("ca.pem")), ..ClientFiles::default() };
    let tls = ClientTls::load(ca).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let connect = || {
        let mut options = Options { host: "localhost".into(), port: secure.cluster.port, ..Options::default() };
        options.connection.tls = Some(tls.clone());
        AdminClient::connect(options)
    };
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let client = runtime.block_on(connect()).unwrap();
            let (stop, answered) = (stop.clone(), answered.clone());
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.request("__console__", json!({"signal": "list"})).await.expect("no request fails");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                assert!(client.is_open(), "no connection is dropped");
                client.close().await;
            })
        })
        .collect();
    let more = |count: u64| {
        let wanted = answered.load(Ordering::Relaxed) + count;
        eventually("requests are answered", || (answered.load(Ordering::Relaxed) >= wanted).then_some(()));
    };
    more(20);
    for round in 1..=4 {
        let lifetime = Lifetime::days(100 + round);
        secure.write("master", &secure.authority.host(&names(), lifetime).unwrap());
        if round % 2 == 0 {
            // Without waiting until it is looked at.
            secure.cluster.hosts[0].signal(Signal::SIGHUP);
        }
        let until = when(lifetime.until);
        secure.log(&format!("counts for new connections; it ends on {until}"));
        let shown =
            secure.openssl(&["-showcerts"], b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let day = chrono::DateTime::from_timestamp(lifetime.until, 0).unwrap().format("NotAfter: %b %e").to_string();
        assert!(shown.contains(&day), "{day} in {shown}");
        assert_eq!(secure.ask("ca.pem", &["list"]).code, Some(0), "new connections are taken");
        more(20);
    }
    // A broken pair is refused, and what was there before stays.
    let other = secure.authority.host(&names(), Lifetime::days(50)).unwrap();
    secure.cluster.write("tls/master.key", &other.key);
    secure.log("it is not the key of the certificate");
    secure.cluster.write("tls/master.pem", "nothing");
    secure.log("there is no certificate in it");
    assert_eq!(secure.ask("ca.pem", &["list"]).code, Some(0), "the one before stays in force");
    more(20);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("no client has failed");
    }
    let events = secure.cluster.done(&["events"]);
    assert!(events.contains("the changed certificate is not taken, and the one before stays in force"), "{events}");
    let after = secure.cluster.list();
    for id in ["chat-1", "chat-2"] {
        assert_eq!(pid(&after, id), pid(&before, id), "{id} was left alone");
    }
    let log = secure.cluster.hosts[0].log();
    let news = log.strip_prefix(&log_before).unwrap_or(&log);
    assert!(
        !news.contains("no connection to the master") && !news.contains("has left"),
        "the monitors kept theirs: {news}"
    );
}

#[test]
fn a_check_of_logins_may_be_asked_over_tls() {
    let mut secure = Secure::configured("");
    let mut node = Command::new("node");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/js/check.js");
    node.args([script, &secure.text("master.pem"), &secure.text("master.key")]).stdout(Stdio::piped());
    let mut endpoint = Endpoint(node.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(endpoint.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let auth =
        |ca: &str| format!("{SETTINGS}{TLS}[auth]\nuser_url = \"https://localhost:{}/login\"\n{ca}", line.trim());
    secure.cluster.write("pomelo.toml", &auth("ca = \"tls/ca.pem\"\n"));
    secure.cluster.host("master", &[]);
    let list = |user: &str| {
        run({
            let mut command = pomelo(&["list", "--username", user, "--password", "any"]);
            command.arg(format!("--port={}", secure.cluster.port));
            command
        })
    };
    eventually("carol is let in", || (list("carol").code == Some(0)).then_some(()));
    assert_eq!(list("mallory").code, Some(4));
    // Without the authority its certificate is not trusted, and nobody is let in.
    secure.cluster.hosts.clear();
    secure.cluster.write("pomelo.toml", &auth(""));
    secure.cluster.host("master", &[]);
    let list = |user: &str| {
        run({
            let mut command = pomelo(&["list", "--username", user, "--password", "any"]);
            command.arg(format!("--port={}", secure.cluster.port));
            command
        })
    };
    eventually("carol is refused", || (list("carol").code == Some(4)).then_some(()));
    secure.log("the endpoint cannot be asked");
}

/// A process that ends with its test.
struct Endpoint(std::process::Child);

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
