//! `blacklist`: tells frontend servers which addresses to turn away.

use std::net::{IpAddr, Ipv4Addr};

use pomelo_sdk::prelude::*;
use serde::Deserialize;

use crate::answer::{Answer, ConsoleOptions};
use crate::arguments::{Arguments, bad};
use crate::ask::command;
use crate::message::Message;

/// Patterns in one command.
const MAX_PATTERNS: usize = 1000;

pub fn blacklist(agent: &Agent, args: Arguments) -> Result<Answer> {
    /// `frontend` is a boolean, or a text as pomelo has it.
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        frontend: Option<serde_json::Value>,
    }
    let patterns = check(args.one()?)?;
    let is_frontend = |info: &Info| {
        info.frontend.as_ref().is_some_and(|frontend| frontend.as_bool() == Some(true) || frontend == "true")
    };
    let servers = agent.cluster().servers::<Info>()?.servers;
    let frontends: Vec<String> = servers.into_iter().filter(|(_, info)| is_frontend(info)).map(|(id, _)| id).collect();
    if frontends.is_empty() {
        return Err(Failure::new("not-found", "No frontend server is connected."));
    }
    let message = Message { blacklist: Some(patterns), ..Message::new("blacklist") };
    let timeout = agent.options::<ConsoleOptions>()?.timeout;
    Answer::of_outcomes("given the addresses", command(agent, &frontends, &message, timeout)?)
}

/// Checks each pattern.
fn check(patterns: Vec<String>) -> Result<Vec<String>> {
    if patterns.is_empty() || patterns.len() > MAX_PATTERNS {
        return Err(bad("A blacklist has from 1 to 1000 addresses or patterns."));
    }
    match patterns.iter().find(|pattern| !is_pattern(pattern)) {
        None => Ok(patterns),
        Some(pattern) => Err(bad(&[
            "`",
            pattern,
            "` is no address, no network such as 10.0.0.0/8, and no pattern such as 10.0.*.*, or it means every address.",
        ]
        .concat())),
    }
}

/// Whether a text is an IPv4 or IPv6 address, a network, or the four parts of an IPv4 address of which some are `*`. A text that means every address is
/// no pattern. Nothing else passes, because pomelo's servers read patterns as regular expressions.
fn is_pattern(pattern: &str) -> bool {
    if let Some((address, bits)) = pattern.split_once('/') {
        let longest = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        let plain = bits.bytes().all(|byte| byte.is_ascii_digit());
        return plain && bits.parse::<u8>().is_ok_and(|bits| (1..=longest).contains(&bits));
    }
    if pattern.contains('*') {
        let parts: Vec<&str> = pattern.split('.').collect();
        return parts.iter().any(|part| *part != "*")
            // The text is a pattern if a number in the place of each `*` makes it an address.
            && parts.iter().map(|part| if *part == "*" { "0" } else { part }).collect::<Vec<_>>().join(".").parse::<Ipv4Addr>().is_ok();
    }
    pattern.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_patterns_are_addresses_networks_and_stars() {
        for good in ["10.0.0.1", "::1", "2001:db8::1", "10.0.0.0/8", "2001:db8::/32", "10.0.*.*", "*.0.0.1", "10.*.0.1"]
        {
            assert!(is_pattern(good), "{good}");
        }
        for bad in [
            "",
            "10.0.0",
            "10.0.0.256",
            "010.0.0.1",
            "10.0.0.1.5",
            "host",
            "10.0.0.0/33",
            "10.0.0.0/0",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "*",
            "*.*.*.*",
            "10.0.1*.*",
            "10.0.*",
            "10.0.*.*.*",
            ".*",
            "(\\d+)",
            "10.0.0.1|",
            "1.1.1.1 ",
            "::*",
        ] {
            assert!(!is_pattern(bad), "{bad}");
        }
        let failure = check(vec!["10.0.0.1".into(), "(a+)+$".into()]).unwrap_err();
        assert!(failure.message().contains("`(a+)+$`"), "{failure}");
        assert!(check(Vec::new()).is_err());
    }
}
