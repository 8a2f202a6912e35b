//! Which servers of pomelo 2.x may reconnect without a token.

/// Which pomelo 2.x servers may reconnect if tokens are required, because their `reconnect` carries no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconnect {
    /// A server that has registered with a valid token before, from the same address, because it is then the same process.
    #[default]
    Known,
    /// A server that has registered with a valid token before, from any address.
    KnownId,
    /// Any server. Anybody who reaches the port can then pose as any server.
    Any,
    /// Only a server that the operator admits.
    Never,
}

impl Reconnect {
    /// The words of the configuration.
    pub const WORDS: [&'static str; 4] = ["known", "known-id", "any", "never"];

    /// The policy of that word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "known" => Some(Reconnect::Known),
            "known-id" => Some(Reconnect::KnownId),
            "any" => Some(Reconnect::Any),
            "never" => Some(Reconnect::Never),
            _ => None,
        }
    }
}
