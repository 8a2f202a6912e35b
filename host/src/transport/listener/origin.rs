//! Which web pages may talk to this server.
//!
//! A browser sends the requests of any page to any address, loopback too. Two headers tell foreign pages from our own.
//!
//! - `Origin` names the page's site. A foreign site is refused.
//! - `Host` names the server that the browser thinks it talks to. A foreign *name* there means that somebody's DNS points at this server, so that a foreign
//!   page looks like one of ours (DNS rebinding).
//!
//! Programs other than browsers send no `Origin`. Their `Host` is checked only if the server listens on loopback, because on an address that others can
//! reach they may use any name for this host.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

/// The rule of one listener.
#[derive(Clone, Debug)]
pub(super) struct OriginRule {
    allowed: Vec<String>,
    loopback: bool,
}

impl OriginRule {
    /// The rule for a listener on an address; `allowed` are further names.
    pub(super) fn new(bound: SocketAddr, allowed: &[String]) -> Self {
        let allowed = allowed.iter().map(|name| name.to_ascii_lowercase()).collect();
        OriginRule { allowed, loopback: bound.ip().is_loopback() }
    }

    /// Checks a request that came to `local`.
    ///
    /// # Errors
    /// The sentence with which the request is refused.
    pub(super) fn check(&self, local: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
        let origin = headers.get(header::ORIGIN);
        if let Some(origin) = origin {
            let host = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
            let host = host.as_ref().and_then(Uri::host);
            if !host.is_some_and(|host| self.is_ours(host, local)) {
                return Err("This server does not answer web pages of other sites. If the page is yours, \
                            add its host to `allowed_hosts`.\n");
            }
        }
        if origin.is_none() && !self.loopback {
            return Ok(());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let host = uri.authority().or(host.as_ref()).map(Authority::host);
        // DNS cannot redirect an address, only a name.
        if host.is_some_and(|host| address(host).is_some() || self.is_ours(host, local)) {
            Ok(())
        } else {
            Err("This server is not known under the name in the request's Host header. If the name is yours, \
                 add it to `allowed_hosts`.\n")
        }
    }

    fn is_ours(&self, host: &str, local: IpAddr) -> bool {
        match address(host) {
            Some(address) => address.is_loopback() || address == local.to_canonical() || self.names(host),
            None => {
                let host = host.to_ascii_lowercase();
                host == "localhost" || host.ends_with(".localhost") || self.names(&host)
            }
        }
    }

    fn names(&self, host: &str) -> bool {
        self.allowed.iter().any(|name| name == host)
    }
}

fn address(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_pages_and_names_are_refused() {
        let check = |bound: &str, origin: Option<&str>, host: Option<&str>, good: bool| {
            let rule = OriginRule::new(bound.parse().unwrap(), &["Admin.example".into()]);
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            let local = "10.0.0.5".parse().unwrap();
            let said = rule.check(local, &Uri::from_static("/"), &headers);
            assert_eq!(said.is_ok(), good, "{bound} {origin:?} {host:?}");
        };
        let (loopback, open) = ("127.0.0.1:3005", "0.0.0.0:3005");
        check(loopback, None, Some("127.0.0.1:3005"), true);
        check(loopback, None, Some("localhost:3005"), true);
        check(loopback, None, Some("[::1]:3005"), true);
        check(loopback, None, Some("evil.example:3005"), false);
        check(loopback, None, None, false);
        check(loopback, Some("http://localhost:8080"), Some("localhost:3005"), true);
        check(loopback, Some("http://evil.example"), Some("localhost:3005"), false);
        check(loopback, Some("null"), Some("localhost:3005"), false);
        check(loopback, Some("http://localhost.evil.example"), Some("localhost:3005"), false);
        check(open, None, Some("any.example:3005"), true);
        check(open, None, None, true);
        check(open, Some("https://admin.EXAMPLE"), Some("admin.example"), true);
        check(open, Some("http://10.0.0.5:3005"), Some("10.0.0.5:3005"), true);
        check(open, Some("http://10.0.0.6:3005"), Some("10.0.0.5:3005"), false);
        check(open, Some("http://evil.example"), Some("evil.example"), false);
        check(open, Some("http://localhost"), Some("evil.example"), false);
    }
}
