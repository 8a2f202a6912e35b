//! `[tls]`, and the certificates that it names.

use super::*;
use crate::tls::{Authority, Holder, Issued, Lifetime, Network};

#[test]
fn tls_is_read_with_paths_of_the_directory() {
    let settings = "[tls]\ncertificate = 'a.pem'\nkey = '/etc/a.key'\nclient_ca = 'tls/ca.pem'\nca = 'tls/ca.pem'\nrequired = true\n\
                    clear_networks = ['10.0.0.0/8', 'fd00::1']\n[auth]\nserver_url = 'https://checks.example/server'\nca = 'checks.pem'\n";
    let dir = dir(&[("master.json", MASTER), ("pomelo.toml", settings)]);
    let settings = Config::load(dir.path(), "development").unwrap().settings;
    let tls = settings.tls;
    let server = tls.server.clone().unwrap();
    assert_eq!((server.certificate.clone(), server.key), (dir.path().join("a.pem"), "/etc/a.key".into()));
    assert_eq!(
        (server.client_ca, tls.ca.clone()),
        (Some(dir.path().join("tls/ca.pem")), Some(dir.path().join("tls/ca.pem")))
    );
    assert_eq!(tls.clear.networks, ["10.0.0.0/8", "fd00::1"].map(|text| Network::parse(text).unwrap()));
    assert!(tls.clear.tls_required && tls.is_on() && tls.takes_certificates());
    assert_eq!(settings.auth.ca, Some(dir.path().join("checks.pem")));

    // A monitor shows a certificate if it has one of its own.
    assert_eq!(tls.monitor("a/b").certificate, None);
    fs::create_dir(dir.path().join("tls")).unwrap();
    fs::write(dir.path().join("tls/server-a%2Fb.pem"), "").unwrap();
    let files = tls.monitor("a/b");
    assert_eq!(files.key, Some(dir.path().join("tls/server-a%2Fb.key")));
    assert!(files.certificate.is_some() && tls.monitor("a").certificate.is_none());

    let none = load(&[("master.json", MASTER)]).unwrap().settings.tls;
    assert!(!none.is_on() && !none.clear.tls_required && none.server.is_none());
    let only_ca = load(&[("master.json", MASTER), ("pomelo.toml", "[tls]\nca = 'ca.pem'\n")]).unwrap().settings.tls;
    assert!(only_ca.is_on() && only_ca.server.is_none(), "a monitor on another machine needs no more");
}

#[test]
fn faults_of_tls_are_named_with_line_and_how_to_mend_them() {
    let faults = |text: &str, expected: &[(&str, &str, &str)]| check("pomelo.toml", text, expected);
    faults("[tls]\ncertificate = 'a.pem'\n", &[("2:15", "without its `key`", "key = ")]);
    faults("[tls]\nkey = 'a.key'\n", &[("2:7", "without its `certificate`", "certificate = ")]);
    faults("[tls]\nrequired = true\n", &[("2:12", "TLS is required, and the port has no certificate", "init --tls")]);
    faults("[tls]\nclient_ca = 'ca.pem'\n", &[("2:13", "no certificate of its own", "init --tls")]);
    faults("[tls]\nca = ''\n", &[("2:6", "`ca` is empty", "ca = ")]);
    faults("[tls]\ncertficate = 'a.pem'\n", &[("2:1", "unknown key `certficate`", "certificate")]);
    faults(
        "[tls]\ncertificate = 'a'\nkey = 'a'\nrequired = true\nclear_networks = ['10.0.0.1/8', 'here']\n",
        &[("5:19", "`10.0.0.1/8` is no network", "10.0.0.0/8"), ("5:33", "`here` is no network", "10.0.0.0/8")],
    );
    faults("[auth]\nuser_url = 'https://a@b/'\n", &[("2:12", "holds a user or a password", "address")]);
}

#[test]
fn check_reads_the_certificates_and_says_at_which_line_a_bad_one_is_named() {
    let dir = dir(&[
        ("master.json", MASTER),
        ("pomelo.toml", "[tls]\ncertificate = 'tls/master.pem'\nkey = 'tls/master.key'\nclient_ca = 'tls/ca.pem'\n"),
        ("tls/x", ""),
    ]);
    let report = || super::check::check(dir.path(), None, |_| Default::default());
    let write = |name: &str, issued: &Issued| {
        fs::write(dir.path().join(format!("tls/{name}.pem")), &issued.certificate).unwrap();
        fs::write(dir.path().join(format!("tls/{name}.key")), &issued.key).unwrap();
    };
    let fault = || report().faults.iter().map(|found| found.fault.to_string()).collect::<Vec<_>>();
    let missing = fault();
    assert!(
        missing.len() == 1
            && missing[0].contains("pomelo.toml:2:15: ")
            && missing[0].contains("master.pem: it cannot be read"),
        "{missing:?}"
    );
    let (authority, own) = Authority::make("a cluster").unwrap();
    write("ca", &own);
    write("master", &authority.host(&["127.0.0.1".into()], Lifetime::days(10)).unwrap());
    assert_eq!(fault(), Vec::<String>::new());
    let warned: Vec<String> = report().warnings.iter().map(|found| found.fault.to_string()).collect();
    assert!(warned.iter().any(|warning| warning.contains("pomelo.toml:2:15: the certificate ends on")), "{warned:?}");
    assert!(
        warned.iter().any(|warning| warning.contains("master.key") && warning.contains("everybody on this machine")),
        "{warned:?}"
    );
    assert!(!warned.iter().any(|warning| warning.contains("is not for")), "{warned:?}");
    write("master", &authority.host(&["other.example".into()], Lifetime::days(90)).unwrap());
    let warned: Vec<String> = report().warnings.iter().map(|found| found.fault.to_string()).collect();
    assert!(
        warned.iter().any(|warning| warning.contains("is not for `127.0.0.1`") && warning.contains("renew --all")),
        "{warned:?}"
    );
    write("user", &authority.holder(&Holder::User("a".into()), Lifetime::days(90)).unwrap());
    fs::copy(dir.path().join("tls/user.key"), dir.path().join("tls/master.key")).unwrap();
    let swapped = fault();
    assert!(swapped[0].contains("pomelo.toml:3:7: ") && swapped[0].contains("it is not the key of"), "{swapped:?}");
    fs::write(dir.path().join("tls/ca.pem"), "x\n-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n").unwrap();
    let broken = fault();
    assert!(broken[0].contains("pomelo.toml:4:13: ") && broken[0].contains("ca.pem:3: "), "{broken:?}");
}
