//! From where clear text is let in.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A network: an address, or one with the length of its prefix, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Reads a network. Absent if the text is none, or if it has bits behind its prefix, because it is unclear then what is meant.
    pub fn parse(text: &str) -> Option<Network> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().ok()?,
        };
        (network.addr() == network.network()).then_some(Network(network))
    }

    /// Whether an address is in it. An IPv4 address counts as such where a socket shows it as one of IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From where clear text is let in. The default lets it in from everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClearText {
    /// Whether others than this machine and those of `networks` must speak TLS.
    pub tls_required: bool,
    /// From here clear text is let in all the same.
    pub networks: Vec<Network>,
}

/// What is said to those who speak clear text where TLS is required.
pub const TLS_REQUIRED: &str = "this master takes TLS only from other machines: give it as https://HOST:PORT, or with --tls or --ca FILE; \
     `clear_networks` in [tls] of pomelo.toml lets clear text in from a network";

impl ClearText {
    /// Whether a peer of that address may speak clear text.
    pub fn is_let_in(&self, address: IpAddr) -> bool {
        !self.tls_required
            || address.to_canonical().is_loopback()
            || self.networks.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_and_prefixes() {
        for good in ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert!(Network::parse(good).is_some(), "{good}");
        }
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "example.org", "10.0.0", "10.0.0.0/8 "] {
            assert!(Network::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn clear_text_is_let_in_from_here_and_from_the_named_networks() {
        let clear = ClearText { tls_required: true, networks: vec![Network::parse("10.1.0.0/16").unwrap()] };
        let check = |clear: &ClearText, address: &str| clear.is_let_in(address.parse().unwrap());
        for let_in in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(check(&clear, let_in), "{let_in}");
        }
        for refused in ["10.2.0.1", "192.168.0.1", "fd00::1", "::ffff:10.2.0.1"] {
            assert!(!check(&clear, refused), "{refused}");
            assert!(check(&ClearText::default(), refused), "{refused}");
        }
    }
}
