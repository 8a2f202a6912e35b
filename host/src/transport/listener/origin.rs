//! Which web pages may talk to this server.
//!
//! A browser sends the requests of any page to any address, loopback too. Two headers tell foreign pages from our own.
//!
//! - `Origin` names the page's site: scheme, host and port. A page of this server has the address that it was loaded from: one of this machine with the
//!   port of this listener, or the very host and port of the request's `Host`, which a proxy in front of this server has kept. A page of another port is
//!   the page of another program, of which anybody on this machine may have one, and is refused as a foreign site is.
//! - `Host` names the server that the browser thinks it talks to. A foreign *name* there means that somebody's DNS points at this server, so that a foreign
//!   page looks like one of ours (DNS rebinding).
//!
//! Names of `allowed_hosts` are ours: `host` with any port, `host:port` with that port.
//!
//! Programs other than browsers send no `Origin`. Their `Host` is checked only if the server listens on loopback, because on an address that others can
//! reach they may use any name for this host.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

/// The rule of one listener.
#[derive(Clone, Debug)]
pub(super) struct OriginRule {
    allowed: Vec<Allowed>,
    loopback: bool,
}

/// A name of `allowed_hosts`, in small letters and without brackets.
#[derive(Clone, Debug)]
struct Allowed {
    host: String,
    /// The only port; absent for any.
    port: Option<u16>,
}

/// Where something is: a host in small letters and without brackets, and a port.
#[derive(PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
}

impl OriginRule {
    /// The rule for a listener on an address; `allowed` are further names, as `host` or `host:port`.
    pub(super) fn new(bound: SocketAddr, allowed: &[String]) -> Self {
        OriginRule {
            allowed: allowed.iter().map(|name| Allowed::new(name)).collect(),
            loopback: bound.ip().is_loopback(),
        }
    }

    /// Checks a request that came to `local`.
    ///
    /// # Errors
    /// The sentence with which the request is refused.
    pub(super) fn check(&self, local: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
        let origin = headers.get(header::ORIGIN);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let host = uri.authority().or(host.as_ref());
        if let Some(origin) = origin {
            // `null`, the site of a file or a sandbox, is no address.
            let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
            if !origin.is_some_and(|origin| self.is_our_page(&origin, host, local)) {
                return Err(
                    "This server does not answer web pages of other sites, nor of other ports. If the page is yours, \
                            add its `host:port` to `allowed_hosts`.\n",
                );
            }
        }
        if origin.is_none() && !self.loopback {
            return Ok(());
        }
        // DNS cannot redirect an address, only a name.
        if host.map(Authority::host).is_some_and(|host| address(host).is_some() || self.is_our_name(host, local.ip())) {
            Ok(())
        } else {
            Err("This server is not known under the name in the request's Host header. If the name is yours, \
                 add it to `allowed_hosts`.\n")
        }
    }

    /// Whether a page of that site is one of ours, where `host` is what its request was sent to.
    fn is_our_page(&self, origin: &Uri, host: Option<&Authority>, local: SocketAddr) -> bool {
        let usual = match origin.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return false,
        };
        let Some(page) = origin.authority().map(|authority| Place::new(authority, usual)) else { return false };
        if self.allowed.iter().any(|allowed| allowed.is(&page)) {
            return true;
        }
        // A browser leaves the usual port out of both headers. A proxy that ends TLS keeps `Host`, whose usual port is then that of the page's scheme.
        let same = host.is_some_and(|host| Place::new(host, usual) == page);
        is_this_machine(&page.host, local.ip()) && (same || page.port == local.port())
            || same && self.is_our_name(&page.host, local.ip())
    }

    /// Whether this server is known under that name, whatever the port.
    fn is_our_name(&self, host: &str, local: IpAddr) -> bool {
        let host = bare(host);
        is_this_machine(&host, local) || self.allowed.iter().any(|allowed| allowed.host == host)
    }
}

impl Allowed {
    fn new(name: &str) -> Self {
        let authority = name.parse::<Authority>().ok();
        match authority.as_ref().and_then(|authority| Some((authority.host(), authority.port_u16()?))) {
            Some((host, port)) => Allowed { host: bare(host), port: Some(port) },
            // An IPv6 address without brackets is no authority.
            None => Allowed { host: bare(name), port: None },
        }
    }

    fn is(&self, page: &Place) -> bool {
        self.host == page.host && self.port.is_none_or(|port| port == page.port)
    }
}

impl Place {
    fn new(authority: &Authority, usual: u16) -> Self {
        Place { host: bare(authority.host()), port: authority.port_u16().unwrap_or(usual) }
    }
}

fn is_this_machine(host: &str, local: IpAddr) -> bool {
    match address(host) {
        Some(address) => address.is_loopback() || address == local.to_canonical(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn bare(host: &str) -> String {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_ascii_lowercase()
}

fn address(host: &str) -> Option<IpAddr> {
    bare(host).parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_pages_and_names_are_refused() {
        let check = |bound: &str, origin: Option<&str>, host: Option<&str>, good: bool| {
            let rule = OriginRule::new(bound.parse().unwrap(), &["Admin.example".into(), "one.example:8443".into()]);
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            let local = "10.0.0.5:3005".parse().unwrap();
            let said = rule.check(local, &Uri::from_static("/"), &headers);
            assert_eq!(said.is_ok(), good, "{bound} {origin:?} {host:?}");
        };
        let (loopback, open) = ("127.0.0.1:3005", "0.0.0.0:3005");
        check(loopback, None, Some("127.0.0.1:3005"), true);
        check(loopback, None, Some("localhost:3005"), true);
        check(loopback, None, Some("[::1]:3005"), true);
        check(loopback, None, Some("evil.example:3005"), false);
        check(loopback, None, None, false);
        check(loopback, Some("http://localhost:3005"), Some("localhost:3005"), true);
        check(loopback, Some("http://[::1]:3005"), Some("localhost:3005"), true);
        check(loopback, Some("http://evil.example"), Some("localhost:3005"), false);
        check(loopback, Some("http://localhost.evil.example"), Some("localhost:3005"), false);
        check(open, None, Some("any.example:3005"), true);
        check(open, None, None, true);
        check(open, Some("https://admin.EXAMPLE"), Some("admin.example"), true);
        check(open, Some("http://10.0.0.5:3005"), Some("10.0.0.5:3005"), true);
        check(open, Some("http://10.0.0.6:3005"), Some("10.0.0.5:3005"), false);
        check(open, Some("http://evil.example"), Some("evil.example"), false);
        check(open, Some("http://localhost:3005"), Some("evil.example"), false);
        // The page of another program of this machine.
        for other in [
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "http://localhost",
            "https://localhost",
            "http://[::1]:80",
        ] {
            check(loopback, Some(other), Some("localhost:3005"), false);
            check(open, Some(other), Some("10.0.0.5:3005"), false);
        }
        check(open, Some("http://10.0.0.5:8080"), Some("10.0.0.5:3005"), false);
        // Of no site at all.
        for none in
            ["null", "file://", "", "localhost:3005", "ws://localhost:3005", "chrome-extension://localhost:3005"]
        {
            check(loopback, Some(none), Some("localhost:3005"), false);
        }
        // A proxy that keeps `Host` answers under its own port, with TLS or without.
        check(loopback, Some("http://localhost:8080"), Some("localhost:8080"), true);
        check(loopback, Some("https://localhost"), Some("localhost"), true);
        check(loopback, Some("https://localhost"), Some("localhost:443"), true);
        check(loopback, Some("https://localhost"), Some("localhost:80"), false);
        check(open, Some("https://admin.example:444"), Some("admin.example:444"), true);
        // A name that is allowed with its port, and with any.
        check(open, Some("https://one.example:8443"), Some("one.example:8443"), true);
        check(open, Some("https://one.example:8444"), Some("one.example:8443"), false);
        check(open, Some("https://one.example"), Some("one.example"), true);
        check(loopback, Some("http://admin.example:9"), Some("localhost:3005"), true);
    }
}
