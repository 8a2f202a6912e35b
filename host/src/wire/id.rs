//! Which texts can be ids and names, and texts of peers in a form that is safe to show.

use crate::util::visible;

/// The longest id or name, bytes.
pub const MAX_ID: usize = 128;
/// The longest sentence about words of a peer, bytes.
pub const MAX_SENTENCE: usize = 1024;

/// Why a text cannot be an id or a name. The text itself stands in the sentence in a form that is safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// It is empty.
    #[error("it must not be empty")]
    Empty,
    /// It is too long.
    #[error("it has at most {MAX_ID} bytes, this one has {0}")]
    Long(usize),
    /// It has a character that is not seen, or not seen as what it is.
    #[error(
        "`{text}` has the character U+{code:04X} at byte {at}: it has visible characters and single blanks (U+0020) alone"
    )]
    Unseen {
        /// The text.
        text: String,
        /// The character.
        code: u32,
        /// Where it stands.
        at: usize,
    },
    /// It begins or ends with a blank.
    #[error("`{0}` must not begin or end with a blank")]
    Blank(String),
    /// It would be read as something else, such as one of the targets `*`, `type:NAME` and `ID@HOST:PORT`.
    #[error("`{0}` would be read as something else")]
    Taken(String),
}

/// Checks the id of a server or a client, wherever it comes from: a file or a peer. It is a name ([`check_name`]) that cannot be read as a target.
///
/// # Errors
/// [`BadId`].
pub fn check_id(id: &str) -> Result<(), BadId> {
    check_name(id)?;
    // JavaScript peers keep ids as members of objects, where `__proto__` is not a member like others.
    let taken = id.contains(['*', '@']) || id.starts_with("type:") || id == "__proto__";
    if taken { Err(BadId::Taken(shown(id))) } else { Ok(()) }
}

/// Checks a name that others are shown: of a server type, a user, an operation, a host. It has from 1 to [`MAX_ID`] bytes of visible characters and
/// single blanks, none at its ends, and its first character is none that is drawn over the one before it.
///
/// # Errors
/// [`BadId`].
pub fn check_name(name: &str) -> Result<(), BadId> {
    if name.is_empty() {
        return Err(BadId::Empty);
    }
    if name.len() > MAX_ID {
        return Err(BadId::Long(name.len()));
    }
    let unseen = |(at, letter): &(usize, char)| !visible::is_plain(*letter) || (*at == 0 && visible::combines(*letter));
    if let Some((at, letter)) = name.char_indices().find(unseen) {
        return Err(BadId::Unseen { text: shown(name), code: letter.into(), at });
    }
    if name.starts_with(' ') || name.ends_with(' ') {
        return Err(BadId::Blank(shown(name)));
    }
    Ok(())
}

/// A text of an untrusted peer, in a form that is safe to show in a line: escaped, and then cut at [`MAX_ID`] bytes.
pub fn shown(text: &str) -> String {
    shown_to(text, MAX_ID)
}

/// A sentence that may repeat words of an untrusted peer: as [`shown`], but cut at 1024 bytes.
pub fn sentence(text: &impl ToString) -> String {
    shown_to(&text.to_string(), MAX_SENTENCE)
}

fn shown_to(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        let before = shown.len();
        if visible::steers(letter) {
            visible::escape(letter, &mut shown);
        } else {
            shown.push(letter);
        }
        if shown.len() > limit {
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
        for good in ["chat-server-1", "a b/c", "prototype", "ü", "नमस्ते", "שלום", &"x".repeat(MAX_ID)]
        {
            check(good, "");
        }
        check("", "empty");
        check(&"ü".repeat(65), "this one has 130");
        for taken in ["*", "a@h:1", "type:chat", "__proto__"] {
            check(taken, &format!("`{taken}` would be read"));
        }
        check("a\n\u{1b}[31m", r"`a\n\u001b[31m` has the character U+000A at byte 1");
        for unseen in
            ["a\u{202e}b", "a\u{200b}", "\u{feff}a", "a\u{a0}b", "\u{301}a", "a\u{9b}", "a\u{3164}", "a\u{fe0f}"]
        {
            check(unseen, "has the character U+");
        }
        for blank in [" a", "a ", " "] {
            check(blank, "begin or end with a blank");
        }
        assert_eq!(check_name("type:chat"), Ok(()), "only ids are targets");
    }

    #[test]
    fn what_is_shown_is_short_and_whole() {
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), MAX_ID + 1);
        for wide in ["\u{1b}", "\u{10ffff}", "ü", "\"", "\u{e0041}"] {
            let shown = shown(&wide.repeat(1000));
            assert!(shown.ends_with('…') && shown.len() <= MAX_ID + '…'.len_utf8(), "{shown}");
        }
    }
}
