//! Texts are cut to a bound.

/// Cuts a text to at most `limit` bytes, between two characters, and marks the cut with `…`.
pub fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
}
