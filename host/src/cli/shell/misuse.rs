//! Why a line of the shell is refused before anything is done. Knows no command, so that everything here may refuse with it.

/// What is wrong with the words of a line.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misuse {
    /// The words are not those that the command takes.
    #[error("{0}")]
    Words(String),
    /// The command is for one server, and none is chosen.
    #[error("`{what}` is for one server: choose it with `use <serverId>`")]
    NoServer { what: String },
}

impl Misuse {
    /// Wrong words, with a sentence that says which would be right.
    pub fn words(why: impl Into<String>) -> anyhow::Error {
        Misuse::Words(why.into()).into()
    }

    /// The sentence, followed by the forms of the command (`usage`, one a line) where the words are wrong.
    pub fn explained(&self, usage: &str) -> String {
        match self {
            Misuse::Words(why) => format!("{why}\nusage: {}", usage.replace('\n', "\n       ")),
            Misuse::NoServer { .. } => self.to_string(),
        }
    }
}
