//! `[auth]`: the operator's own checks.

use std::path::Path;

use axum::http::Uri;

use crate::auth::{Bounds, Way};
use crate::config::reader::Table;
use crate::config::settings::Auth;

/// `[auth]`; commands run in `base`.
pub(super) fn auth(mut table: Table<'_>, base: &Path) -> Auth {
    let default = Bounds::default();
    let auth = Auth {
        user: way(&mut table, "user_command", "user_url", base),
        server: way(&mut table, "server_command", "server_url", base),
        ca: table.optional("ca", "ca = \"tls/ca.pem\"").map(|(path, _)| base.join(path)),
        bounds: Bounds {
            timeout: table.millis("timeout_ms", default.timeout, 10..=60_000),
            concurrent: table.size("concurrent", default.concurrent, 1, 1..=64),
        },
    };
    table.close();
    auth
}

/// A command or an address, but not both.
fn way(table: &mut Table<'_>, command: &'static str, url: &'static str, base: &Path) -> Option<Way> {
    let given = table.get(command).map(|node| node.at);
    let words = table.words(command, &format!("{command} = [\"./check-login\"]"));
    let address = table.text(url, &format!("{url} = \"http://127.0.0.1:8080/login\""));
    if let Some(at) = given {
        if words.first().is_none_or(String::is_empty) {
            table.file.fault(
                at,
                format!("`{command}` names no program"),
                format!("for example: {command} = [\"./check-login\"]"),
            );
            return None;
        }
        if address.is_some() {
            table.file.fault(at, format!("both `{command}` and `{url}` are given"), "keep one of the two");
        }
        return Some(Way::Command(words, base.to_owned()));
    }
    let (text, at) = address?;
    let parsed = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let (what, hint) = match parsed.as_ref().map(|uri| (uri.scheme_str(), uri.authority())) {
        Some((Some("http" | "https"), Some(authority))) if authority.as_str().contains('@') => (
            format!("`{url}` holds a user or a password"),
            "the endpoint must know this master by its address".to_owned(),
        ),
        Some((Some("http" | "https"), _)) => return parsed.map(Way::Url),
        _ => (format!("`{url}` is no address"), format!("for example: {url} = \"http://127.0.0.1:8080/login\"")),
    };
    table.file.fault(at, what, hint);
    None
}
