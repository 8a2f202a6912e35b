//! Which texts can be ids.

/// The longest id, bytes.
pub const MAX_ID: usize = 128;

/// Why a text cannot be an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// It is empty.
    #[error("an id must not be empty")]
    Empty,
    /// It is too long.
    #[error("an id has at most {MAX_ID} bytes, this one has {0}")]
    Long(usize),
    /// It would be read as something else, such as one of the targets `*`, `type:NAME` and `ID@HOST:PORT`.
    #[error("the id \"{0}\" would be read as something else")]
    Taken(String),
}

/// Checks the id of a server or a client, wherever it comes from: a file or a peer.
///
/// # Errors
/// [`BadId`].
pub fn check_id(id: &str) -> Result<(), BadId> {
    // JavaScript peers keep ids as members of objects, where `__proto__` is not a member like others.
    let taken = id.contains(['*', '@']) || id.starts_with("type:") || id == "__proto__";
    if id.is_empty() {
        Err(BadId::Empty)
    } else if id.len() > MAX_ID {
        Err(BadId::Long(id.len()))
    } else if taken || id.chars().any(char::is_control) {
        Err(BadId::Taken(shown(id)))
    } else {
        Ok(())
    }
}

/// A text of an untrusted peer, in a form that is safe in a log: escaped, and then cut at [`MAX_ID`] bytes.
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        let before = shown.len();
        shown.extend(character.escape_debug());
        if shown.len() > MAX_ID {
            shown.truncate(before);
            shown.push('…');
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_neither_targets_nor_able_to_write_into_a_log() {
        let check = |id: &str, part: &str| {
            let said = check_id(id).err().map(|bad| bad.to_string()).unwrap_or_default();
            assert_eq!(said.is_empty(), part.is_empty(), "{id:?}: {said}");
            assert!(said.contains(part), "{id:?}: {said}");
        };
        for good in ["chat-server-1", "a b/c", "prototype", "ü", &"x".repeat(MAX_ID)] {
            check(good, "");
        }
        check("", "empty");
        check(&"ü".repeat(65), "this one has 130");
        for taken in ["*", "a@h:1", "type:chat", "__proto__"] {
            check(taken, &format!("\"{taken}\" would be read"));
        }
        check("a\n\u{1b}[31m", r"a\n\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), MAX_ID + 1);
        for wide in ["\u{1b}", "\u{10ffff}", "ü", "\""] {
            let shown = shown(&wide.repeat(1000));
            assert!(shown.ends_with('…') && shown.len() <= MAX_ID + '…'.len_utf8(), "{shown}");
        }
    }
}
