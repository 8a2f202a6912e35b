//! Which server the commands are for.

use std::fmt;

use super::misuse::Misuse;

/// What `use` has chosen: one server or, at the beginning, all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Context {
    #[default]
    All,
    Server(String),
}

impl Context {
    /// The word that means all servers.
    pub const ALL: &str = "all";

    /// The server, for a command that is for one server only.
    ///
    /// # Errors
    /// Where all servers are chosen. The sentence says how to choose one.
    pub fn server(&self, what: &str) -> Result<&str, Misuse> {
        match self {
            Context::Server(id) => Ok(id),
            Context::All => Err(Misuse::NoServer { what: what.to_owned() }),
        }
    }
}

/// The form of the prompt and of the member `context` in messages to modules.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Context::All => Context::ALL,
            Context::Server(id) => id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_one_server_says_how_to_choose_it() {
        let refused = Context::All.server("get").unwrap_err().to_string();
        assert!(refused.contains("`get`") && refused.contains("use <serverId>"), "{refused}");
        let context = Context::Server("chat-1".into());
        assert_eq!((context.server("get").ok(), context.to_string()), (Some("chat-1"), "chat-1".to_owned()));
    }
}
