//! `[tls]`: certificates, and from where clear text is let in. The files are read by whoever uses them, because a monitor cannot read its master's key.

use std::path::Path;

use crate::config::reader::Table;
use crate::config::settings::Tls;
use crate::tls::{ClearText, Network, ServerFiles};

/// The default of `dir`.
pub(super) const DIR: &str = "tls";

/// `[tls]`; relative paths begin at `base`.
pub(super) fn tls(mut table: Table<'_>, base: &Path) -> Tls {
    let certificate = table.optional("certificate", "certificate = \"tls/master.pem\"");
    let key = table.optional("key", "key = \"tls/master.key\"");
    let client_ca = table.optional("client_ca", "client_ca = \"tls/ca.pem\"");
    let ca = table.optional("ca", "ca = \"tls/ca.pem\"");
    let dir = table.optional("dir", "dir = \"tls\"");
    let required_at = table.get("required").map(|node| node.at);
    let required = table.flag("required", false);
    let networks = networks(&mut table, required);
    let at = |found: Option<(&str, usize)>| found.map(|(path, _)| base.join(path));
    for (name, found) in [("certificate", certificate), ("key", key), ("client_ca", client_ca)] {
        if let Some((_, at)) = found {
            table.file.mark(format!("tls {name}"), at);
        }
    }
    let one_is_missing = match (certificate, key) {
        (Some((_, at)), None) => Some((at, "`certificate` is given without its `key`", "key = \"tls/master.key\"")),
        (None, Some((_, at))) => {
            Some((at, "`key` is given without its `certificate`", "certificate = \"tls/master.pem\""))
        }
        _ => None,
    };
    if let Some((at, what, example)) = one_is_missing {
        table.file.fault(at, what, format!("for example: {example}"));
    }
    if certificate.is_none() && key.is_none() {
        let hint = "`pomelo init --tls` makes certificates: give `certificate` and `key`";
        if let Some((_, at)) = client_ca {
            table.file.fault(at, "`client_ca` is given, and the port has no certificate of its own", hint);
        }
        if let Some(at) = required_at.filter(|_| required) {
            table.file.fault(at, "TLS is required, and the port has no certificate", hint);
        }
    }
    let server = certificate.zip(key).map(|((certificate, _), (key, _))| ServerFiles {
        certificate: base.join(certificate),
        key: base.join(key),
        client_ca: at(client_ca),
    });
    let tls = Tls {
        server,
        ca: at(ca),
        dir: at(dir).unwrap_or_else(|| base.join(DIR)),
        clear: ClearText { tls_required: required, networks },
    };
    table.close();
    tls
}

/// `clear_networks`.
fn networks(table: &mut Table<'_>, required: bool) -> Vec<Network> {
    const EXAMPLE: &str = "clear_networks = [\"10.0.0.0/8\"]";
    let mut networks = Vec::new();
    for (text, at) in table.texts("clear_networks", EXAMPLE) {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => {
                let what = format!(
                    "`{}` is no network: an address, or the first one with the length of its prefix",
                    text.escape_debug()
                );
                table.file.fault(at, what, format!("for example: {EXAMPLE}"));
            }
        }
        if !required {
            let what = "clear text is let in from everywhere, because `required` is not true";
            table.file.warn(at, what, "add: required = true");
        }
    }
    networks
}
