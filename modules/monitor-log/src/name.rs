//! The names of logs: which are allowed, and which log a client means.

use pomelo_sdk::{Failure, Result};

/// The longest name, bytes.
const LONGEST: usize = 128;

/// Checks that a name is plain: letters, digits, `-`, `_` and `.`, with a letter or digit at its beginning. Such a name cannot lead to another directory,
/// and means nothing to a shell.
pub fn check(name: &str) -> Result {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= LONGEST && name.bytes().all(plain) {
        return Ok(());
    }
    let message =
        "`logfile` is a plain name: letters, digits, `-`, `_` and `.`, with a letter or a digit at its beginning.";
    Err(Failure::new("bad-message", message))
}

/// The file that a client means: the one of that name, or of pomelo's short form.
pub fn find<'a>(logs: &'a [String], logfile: &str, server_id: &str) -> Result<&'a str> {
    let long = [logfile, "-", server_id, ".log"].concat();
    let named = |name: &str| logs.iter().find(|log| *log == name);
    if let Some(found) = named(logfile).or_else(|| named(&long)) {
        return Ok(found);
    }
    let mut message = [server_id, " has no log ", logfile].concat();
    for (index, log) in logs.iter().enumerate() {
        message.push_str(if index == 0 { "; it has " } else { ", " });
        message.push_str(log);
    }
    message.push('.');
    Err(Failure::new("not-found", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_monitorlog_takes_plain_names_only() {
        for good in ["con-log", "rpc-log-chat-1.log", "0", "a..b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "../secret", "a/b", "a\\b", "a b", "a;reboot", "$(id)", "-n", ".hidden", "a\0", "é"]
        {
            assert_eq!(check(bad).unwrap_err().code(), "bad-message", "{bad:?}");
        }
        assert!(check(&"a".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn p_monitorlog_finds_a_log_by_either_name() {
        let logs = ["con-log-chat-1.log", "crash.log"].map(String::from);
        assert_eq!(find(&logs, "con-log", "chat-1"), Ok("con-log-chat-1.log"));
        assert_eq!(find(&logs, "crash.log", "chat-1"), Ok("crash.log"));
        let failure = find(&logs, "rpc-log", "chat-1").unwrap_err();
        assert_eq!(
            (failure.code(), failure.message()),
            ("not-found", "chat-1 has no log rpc-log; it has con-log-chat-1.log, crash.log.")
        );
        assert_eq!(find(&[], "a", "b").unwrap_err().message(), "b has no log a.");
    }
}
