//! The web page, which shows the cluster in a browser. Its files are part of this program and are served unchanged. The page asks the master for
//! everything that it shows, as a Socket.IO client that logs in like any other.
//!
//! The page loads nothing from other hosts, runs no script but its own, and cannot be shown in another site's frame. `socket.io.esm.min.js` is Socket.IO's
//! own client, version 4.8.4, unchanged; its licence is in `socket.io.LICENSE`.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Path, type and content of each file.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/socket.io.esm.min.js", "text/javascript; charset=utf-8", include_str!("socket.io.esm.min.js")),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    // Other versions of this program serve other files under the same names.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page and its files.
pub fn pages() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { (HEADERS, [(header::CONTENT_TYPE, kind)], text).into_response() }))
    })
}
