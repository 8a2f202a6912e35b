//! Who may come back without a token.

/// What counts where tokens are asked for and a pomelo 2.x server comes back: its `reconnect` carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconnect {
    /// One that has registered with a valid token before, at the address from which it did: what comes back is the same process.
    #[default]
    Known,
    /// One that has registered with a valid token before, from wherever it comes.
    KnownId,
    /// Whoever says so. Anybody who reaches the port can then stand for any server.
    Any,
    /// Nobody whom the operator does not admit.
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
