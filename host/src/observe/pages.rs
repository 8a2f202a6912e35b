//! The pages, and who may see them.
//!
//! `/healthz` tells everybody whether the host is well, and trusted requests also what is wrong. `/metrics` answers trusted requests only. A request is
//! trusted when it comes from this machine or shows the token. One that a proxy on this machine passes on does not count as coming from this
//! machine, and neither does one for a foreign host name that was made to point here (DNS rebinding).

use std::net::IpAddr;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use subtle::ConstantTimeEq;

use super::{Health, Host, Options, process};
use crate::auth::Secret;
use crate::transport::listener::Remote;
use crate::util::visible::escaped;

/// Headers by which a proxy says that it asks for somebody else.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

#[derive(Clone)]
struct Pages {
    host: Host,
    options: Options,
}

/// Whether a request may read the metrics and the problems of the host.
#[derive(Clone, Copy)]
struct Trusted(bool);

/// `/metrics` and `/healthz` of a host.
pub fn pages(host: Host, options: Options) -> Router {
    let pages = Pages { host, options };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .layer(middleware::from_fn_with_state(pages.clone(), trust))
        .with_state(pages)
}

async fn trust(State(pages): State<Pages>, mut request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Remote>().copied();
    let trusted = is_trusted(remote, request.headers(), pages.options.token.as_ref());
    request.extensions_mut().insert(Trusted(trusted));
    next.run(request).await
}

fn is_trusted(remote: Option<Remote>, headers: &HeaderMap, token: Option<&Secret>) -> bool {
    let near = remote.is_some_and(|Remote(address)| address.ip().to_canonical().is_loopback());
    if near && names_this_machine(headers) && FORWARDED.iter().all(|name| !headers.contains_key(*name)) {
        return true;
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match (token, shown) {
        (Some(token), Some(shown)) => token.expose().as_bytes().ct_eq(shown.as_bytes()).into(),
        _ => false,
    }
}

/// Whether a request's `Host`, where it has one, is a loopback address or `localhost`.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

async fn metrics(State(pages): State<Pages>, Extension(Trusted(trusted)): Extension<Trusted>) -> Response {
    if !trusted {
        let why = match pages.options.token {
            Some(_) => {
                "Metrics are shown to those who send the token of [metrics] in pomelo.toml: `Authorization: Bearer TOKEN`.\n"
            }
            None => "Metrics are shown on this machine only, because [metrics] in pomelo.toml has no token.\n",
        };
        let status = if pages.options.token.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        return (status, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response();
    }
    let Some(recorder) = &pages.options.recorder else {
        return (StatusCode::NOT_FOUND, "This process collects no metrics.\n").into_response();
    };
    let mut families = process::families();
    if let Some(host) = pages.host.upgrade() {
        host.refresh();
        families.extend(host.families());
    }
    let mut page = recorder.render();
    for family in families {
        family.write(&mut page);
    }
    let format =
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (format, page).into_response()
}

async fn healthz(State(pages): State<Pages>, Extension(Trusted(trusted)): Extension<Trusted>) -> Response {
    let health = pages.host.upgrade().map(|host| host.health());
    let mut health = health.unwrap_or_else(|| Health::not("shutting-down", "the host is shutting down"));
    // A host that is degraded works: whoever restarts it for that would make it worse.
    let works = ["ok", "degraded"].contains(&health.status);
    let code = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !trusted {
        health.problems.clear();
        health.servers.clear();
    }
    // People look at it with what shows it as it is, and peers have a part in the problems. Texts and numbers can always be written.
    let body = escaped(&serde_json::to_string(&health).unwrap_or_default()).into_owned();
    let format = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (code, format, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x4_metrics_are_for_this_machine_and_for_those_with_the_token() {
        let token = Secret::new("t0ken");
        let check = |from: &str, header: Option<(&'static str, &str)>, token: Option<&Secret>| {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, value.parse().unwrap());
            }
            is_trusted(Some(Remote(format!("{from}:1").parse().unwrap())), &headers, token)
        };
        assert!(check("127.0.0.1", None, None) && check("[::1]", None, Some(&token)));
        assert!(check("[::ffff:127.0.0.1]", None, None));
        assert!(!check("10.0.0.1", None, None) && !check("10.0.0.1", None, Some(&token)));
        assert!(!check("127.0.0.1", Some(("x-forwarded-for", "10.0.0.1")), None), "a proxy asks for somebody else");
        for here in ["localhost:3005", "LOCALHOST", "127.0.0.1:3005", "[::1]:3005", "127.1.2.3"] {
            assert!(check("127.0.0.1", Some(("host", here)), None), "{here}");
        }
        for rebound in ["evil.example:3005", "127.0.0.1.evil.example", "10.0.0.1:3005", "", "local host"] {
            assert!(!check("127.0.0.1", Some(("host", rebound)), None), "{rebound}");
        }
        assert!(check("10.0.0.1", Some(("authorization", "Bearer t0ken")), Some(&token)));
        assert!(!check("10.0.0.1", Some(("authorization", "Bearer t0kem")), Some(&token)));
        assert!(!check("10.0.0.1", Some(("authorization", "Bearer ")), None));
    }
}
