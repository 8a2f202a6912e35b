//! Which characters are seen as what they are, and texts of others in a form that is safe to show.
//!
//! A text of a peer may end a line, move a terminal's cursor, turn the direction of what stands behind it, or hold what nobody sees. Whatever shows texts
//! of others shows them through this file. Letters of all languages stay as they are, with their combining marks.
//!
//! The escapes are those of JSON (`\n`, `\u202e`), so that a text that is JSON stays the same JSON. A backslash stays as it is, so that escaping twice
//! is escaping once.

use std::borrow::Cow;
use std::fmt::Write;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Says which form of the sign before them is meant, such as the coloured one of an emoji.
const VARIATIONS: std::ops::RangeInclusive<char> = '\u{fe00}'..='\u{fe0f}';
/// A Braille pattern without a dot.
const BLANK_BRAILLE: char = '\u{2800}';

/// Whether a character acts on what is around it instead of being seen: controls, line ends, the marks of bidirectional text, and all others without
/// width.
pub fn steers(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_control();
    }
    match category(letter) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => true,
        _ => CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter) && !VARIATIONS.contains(&letter),
    }
}

/// Whether a character may stand in a name: it is seen, and seen as nothing else. Of blanks there is one, U+0020.
pub fn is_plain(letter: char) -> bool {
    if letter.is_ascii() {
        return !letter.is_ascii_control();
    }
    let unclear = matches!(
        category(letter),
        GeneralCategory::SpaceSeparator | GeneralCategory::PrivateUse | GeneralCategory::Unassigned
    );
    !unclear && !steers(letter) && !VARIATIONS.contains(&letter) && letter != BLANK_BRAILLE
}

/// Whether a character is drawn over the one before it.
pub fn combines(letter: char) -> bool {
    use GeneralCategory::{EnclosingMark, NonspacingMark, SpacingMark};
    matches!(category(letter), EnclosingMark | NonspacingMark | SpacingMark)
}

fn category(letter: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(letter)
}

/// A text in one line, in which nothing steers.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// A text of several lines, in which nothing steers but the ends of lines and tabs.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, &['\n', '\t'])
}

/// A text in which nothing steers but what is in `kept`.
pub fn escaped_but<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let is_escaped = |letter: char| steers(letter) && !kept.contains(&letter);
    let Some(first) = text.find(is_escaped) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for letter in text[first..].chars() {
        if is_escaped(letter) {
            escape(letter, &mut shown);
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Appends the escape of a character.
pub fn escape(letter: char, to: &mut String) {
    match letter {
        '\n' => to.push_str("\\n"),
        '\r' => to.push_str("\\r"),
        '\t' => to.push_str("\\t"),
        _ => {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // A string takes all that is written to it.
                let _ = write!(to, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_is_not_seen_is_escaped() {
        let ranges = [
            '\0'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{e0000}'..='\u{e01ef}',
        ];
        for letter in ranges.into_iter().flatten() {
            assert!(steers(letter) && !is_plain(letter), "{letter:?}");
        }
        for letter in "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{1d173}".chars() {
            assert!(steers(letter) && !is_plain(letter), "{letter:?}");
        }
        assert_eq!(escaped("a\n\u{1b}[2J\u{202e}b\u{e0041}\u{9b}"), "a\\n\\u001b[2J\\u202eb\\udb40\\udc41\\u009b");
        assert_eq!(escaped_lines("a\n\tb\r"), "a\n\tb\\r");
    }

    #[test]
    fn words_of_all_languages_stay_as_they_are() {
        for word in
            ["Zürich", "e\u{301}", "नमस्ते", "ภาษาไทย", "שָׁלוֹם", "العَرَبِيَّة", "漢字", "👍🏽", "❤\u{fe0f}", "a\\nb \"c\" 'd'"]
        {
            assert_eq!(escaped(word), word);
        }
        for word in ["Zürich", "e\u{301}", "नमस्ते", "ภาษาไทย", "שָׁלוֹם", "漢字", "chat-1 ~"]
        {
            assert!(word.chars().all(is_plain), "{word}");
        }
        for blank in "\u{a0}\u{2003}\u{3000}\u{2800}\u{e000}\u{378}\u{fe0f}".chars() {
            assert!(!is_plain(blank), "{blank:?}");
        }
        assert!(combines('\u{301}') && !combines('e'));
    }

    #[test]
    fn json_stays_the_same_json_and_escaping_twice_is_escaping_once() {
        let value = serde_json::json!({ "a\u{202e}": ["\u{9b}\u{7f}\u{e0041}\n\\"] });
        let text = escaped(&value.to_string()).into_owned();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(!text.contains(steers));
        assert_eq!(escaped(&text), text);
    }
}
