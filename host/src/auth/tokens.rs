//! Tokens of monitors.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Secret;

/// An entry of `adminServer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorToken {
    /// The server type that it is for.
    pub server_type: String,
    /// The token.
    pub token: Secret,
}

/// The tokens that monitors register with. A type may have several, so that one can be replaced without a pause.
#[derive(Clone, Debug)]
pub struct Tokens(Option<Vec<MonitorToken>>);

impl Tokens {
    /// Takes the tokens of a configuration. If they are absent (no `adminServer.json`), every monitor is let in, as in pomelo.
    pub fn new(tokens: Option<Vec<MonitorToken>>) -> Self {
        Tokens(tokens)
    }

    /// Whether monitors must show a token.
    pub fn required(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a monitor of that type and token is let in. The type `master` is no exception, and a type without a token is not let in.
    /// Takes the same time whichever entry matches.
    pub fn verify(&self, server_type: &str, token: Option<&str>) -> bool {
        let Some(tokens) = &self.0 else { return true };
        let shown = token.unwrap_or_default().as_bytes();
        let found = tokens.iter().fold(Choice::from(0), |found, entry| {
            let same_type = entry.server_type.as_bytes().ct_eq(server_type.as_bytes());
            found | (same_type & entry.token.expose().as_bytes().ct_eq(shown))
        });
        found.into()
    }

    /// The SHA-256 of a token in hexadecimal, by which it is remembered.
    pub fn digest(token: &str) -> String {
        hex::encode(Sha256::digest(token))
    }

    /// Whether servers of that type have the token of that digest. Always true if no tokens are required.
    pub fn has(&self, server_type: &str, digest: &str) -> bool {
        self.0.as_ref().is_none_or(|tokens| {
            let of_type = tokens.iter().filter(|entry| entry.server_type == server_type);
            of_type.map(|entry| Tokens::digest(entry.token.expose())).any(|own| own == digest)
        })
    }

    /// The token with which a monitor of that type registers.
    pub fn own(&self, server_type: &str) -> Option<&Secret> {
        self.0.as_ref()?.iter().find(|entry| entry.server_type == server_type).map(|entry| &entry.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_a_token_is_for_its_type_and_master_is_no_exception() {
        let entry = |server_type: &str, token: &str| MonitorToken {
            server_type: server_type.into(),
            token: Secret::new(token),
        };
        let tokens = Tokens::new(Some(vec![entry("chat", "old"), entry("chat", "new"), entry("gate", "g")]));
        let check = |server_type, token, expected| {
            assert_eq!(tokens.verify(server_type, token), expected, "{server_type} {token:?}");
        };
        check("chat", Some("old"), true);
        check("chat", Some("new"), true);
        check("gate", Some("new"), false);
        check("chat", None, false);
        check("chat", Some(""), false);
        check("master", None, false);
        check("master", Some("g"), false);
        assert!(tokens.has("chat", &Tokens::digest("new")) && !tokens.has("gate", &Tokens::digest("new")));
        assert_eq!(tokens.own("chat").map(Secret::expose), Some("old"));
        assert!(!format!("{tokens:?}").contains("old"));
        assert!(Tokens::new(None).verify("master", None), "without the file everybody is let in");
        assert!(!Tokens::new(Some(Vec::new())).verify("chat", Some("")), "an empty file lets nobody in");
    }
}
