//! The answers of several servers to one request, within bounds.
//!
//! A module gets all of them in its memory at once, so that one server's large answer could cost the answers of all. Each answer that is too large, or for which
//! there is no room beside the smaller ones, becomes a failure of that server alone. What was given up is dropped at once, so that the host keeps no more than
//! the bound either.

use std::collections::BinaryHeap;

use serde_json::value::RawValue;

use super::Limits;
use crate::budget::{ModuleAccount, ModuleCharge, ModuleOver};
use crate::failure::{Failure, code};

/// Bytes of a failure's sentence that are passed on. It is a sentence, and comes from a peer.
const MAX_SENTENCE: usize = 512;
/// Bytes of a failure's code that are passed on.
const MAX_CODE: usize = 64;
/// Bytes that an answer counts for beside its own, because the guest keeps something for each.
const OVERHEAD: usize = 128;

/// How deep an answer may be nested. A module may pass it on within an answer of its own, and JSON parsers commonly give up at 128.
const MAX_NESTING: usize = 96;

/// How large the answers to one request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBounds {
    /// One answer, bytes.
    pub each: usize,
    /// All answers together, bytes.
    pub all: usize,
}

impl AnswerBounds {
    /// Those of a request to one server: its answer is a message to the module.
    pub fn of_one(limits: &Limits) -> Self {
        AnswerBounds { each: limits.message, all: usize::MAX }
    }

    /// Those of a request to several servers: all together have at most three quarters of what an answer may have, so that a module can pass them on in an
    /// answer of its own.
    pub fn of_many(limits: &Limits) -> Self {
        AnswerBounds { each: limits.message, all: limits.answer / 4 * 3 }
    }
}

/// What a server answered.
type Outcome = Result<Box<RawValue>, Failure>;

/// The answers that have come.
pub struct Gathered {
    bounds: AnswerBounds,
    answers: Vec<(String, Outcome)>,
    /// The answers that are kept: size, and place in `answers`. The largest is on top.
    kept: BinaryHeap<(usize, usize)>,
    /// What those have together, bytes.
    bytes: usize,
    /// Of all that is kept for them.
    charge: ModuleCharge,
}

/// What the host keeps for a server that was asked, beside its answer: the request, its place among those under way, and a failure's words. Bytes.
const ASKED: usize = 1 << 10;

impl Gathered {
    /// None yet, of so many servers. What is kept is charged to the module that has asked.
    ///
    /// # Errors
    /// [`ModuleOver`] where there is no room.
    pub fn new(bounds: AnswerBounds, account: &ModuleAccount, servers: usize) -> Result<Self, ModuleOver> {
        let charge = account.charge(servers.saturating_mul(ASKED))?;
        Ok(Gathered { bounds, answers: Vec::new(), kept: BinaryHeap::new(), bytes: 0, charge })
    }

    /// Takes what a server answered. If there is no room, the largest answer so far gives way.
    pub fn add(&mut self, id: String, outcome: Outcome) {
        let place = self.answers.len();
        let mut outcome = within(self.bounds.each, outcome);
        if let Ok(answer) = &outcome
            && let Err(over) = self.charge.resize(self.charge.bytes() + answer.get().len())
        {
            outcome = Err(Failure::new(code::BUSY, format!("there is no room for its answer: {over}")));
        }
        if let Ok(answer) = &outcome {
            let size = answer.get().len() + OVERHEAD;
            self.kept.push((size, place));
            self.bytes += size;
        }
        self.answers.push((id, outcome));
        while self.bytes > self.bounds.all
            && let Some((size, place)) = self.kept.pop()
        {
            self.bytes -= size;
            self.charge.is_now(self.charge.bytes().saturating_sub(size - OVERHEAD));
            let (bytes, all) = (size - OVERHEAD, self.bounds.all);
            let message = format!(
                "it answered with {bytes} bytes, and there is no room for them beside the smaller answers of others: the answers to one request have at most \
                 {all} bytes together ([module.ID.limits] answer_kib)"
            );
            self.answers[place].1 = Err(Failure::new(code::BAD_ANSWER, message));
        }
    }

    /// All answers, in the order in which they came.
    pub fn into_answers(self) -> Vec<(String, Outcome)> {
        self.answers
    }
}

/// A peer's answer, or the failure that takes its place because it is too large. A failure's words are cut.
pub fn within(limit: usize, outcome: Outcome) -> Outcome {
    match outcome {
        Ok(answer) if answer.get().len() > limit => {
            let bytes = answer.get().len();
            let message = format!(
                "it answered with {bytes} bytes; what a module is sent has at most {limit} ([module.ID.limits] message_kib)"
            );
            Err(Failure::new(code::BAD_ANSWER, message))
        }
        Ok(answer) if nesting(answer.get()) > MAX_NESTING => {
            let message = format!("it answered with JSON that is nested more than {MAX_NESTING} deep");
            Err(Failure::new(code::BAD_ANSWER, message))
        }
        Ok(answer) => Ok(answer),
        Err(Failure { code, mut message }) => {
            if message.len() > MAX_SENTENCE {
                message.truncate(message.floor_char_boundary(MAX_SENTENCE));
                message.push('…');
            }
            let code = if code.len() > MAX_CODE { code::FAILED.into() } else { code };
            Err(Failure { code, message })
        }
    }
}

/// How deep JSON text is nested.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut bytes) = (0_usize, 0, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ModulesBudget;
    use crate::wire::raw;

    /// None yet, of a module of which no more than so many bytes may be held.
    fn gathered(bounds: AnswerBounds, limit: usize) -> Gathered {
        Gathered::new(bounds, &ModulesBudget::new(usize::MAX).open("relay", Some(limit)), 0).unwrap()
    }

    #[test]
    fn an_answer_for_which_the_module_has_no_room_is_a_failure_of_its_server() {
        let bounds = AnswerBounds { each: 4000, all: 10_000 };
        let mut gathered = gathered(bounds, 3000);
        for (id, size) in [("a", 2000), ("b", 2000), ("c", 500)] {
            gathered.add(id.into(), Ok(raw(&"x".repeat(size))));
        }
        let answers = gathered.into_answers();
        let refused = answers[1].1.clone().unwrap_err();
        assert_eq!(refused.code, code::BUSY);
        assert!(refused.message.contains("module_mib"), "{refused}");
        assert_eq!(answered(answers), [("a".into(), true), ("b".into(), false), ("c".into(), true)]);
    }

    fn answered(answers: Vec<(String, Outcome)>) -> Vec<(String, bool)> {
        answers.into_iter().map(|(id, outcome)| (id, outcome.is_ok())).collect()
    }

    #[test]
    fn a_large_answer_costs_its_own_server_and_no_other() {
        let bounds = AnswerBounds { each: 4000, all: 10_000 };
        let sizes = [("a", 100), ("too-large", 4500), ("b", 3500), ("c", 3600), ("d", 3700), ("e", 100)];
        let mut gathered = gathered(bounds, usize::MAX);
        for (id, size) in sizes {
            gathered.add(id.into(), Ok(raw(&"x".repeat(size))));
            assert!(gathered.bytes <= bounds.all);
        }
        let answers = gathered.into_answers();
        let why = |id: &str| answers.iter().find(|(known, _)| known == id).unwrap().1.clone().unwrap_err();
        assert!(why("too-large").message.contains("4502 bytes") && why("too-large").message.contains("message_kib"));
        assert_eq!(why("d").code, code::BAD_ANSWER);
        assert!(why("d").message.contains("answer_kib"), "{}", why("d"));
        let whole: Vec<_> = answered(answers).into_iter().filter(|(_, whole)| *whole).map(|(id, _)| id).collect();
        assert_eq!(whole, ["a", "b", "c", "e"]);
    }

    #[test]
    fn a_thousand_answers_for_which_there_is_no_room_are_each_named() {
        let bounds = AnswerBounds::of_many(&Limits::default());
        let mut gathered = gathered(bounds, usize::MAX);
        for number in 0..1000 {
            gathered.add(format!("s-{number}"), Ok(raw(&"x".repeat(2000))));
        }
        let answers = answered(gathered.into_answers());
        let whole = answers.iter().filter(|(_, whole)| *whole).count();
        assert_eq!((answers.len(), whole), (1000, bounds.all / (2002 + OVERHEAD)));
    }

    #[test]
    fn an_answer_that_a_parser_would_give_up_on_is_refused() {
        let cases = [("1", 0), (r#"{"a":[1,{}],"b":[[]]}"#, 3), (r#"["[[[\"[[",[]]"#, 2), (r#"["\\",[]]"#, 2)];
        for (text, expected) in cases {
            assert_eq!(nesting(text), expected, "{text}");
        }
        let nested = |depth: usize| RawValue::from_string("[".repeat(depth) + &"]".repeat(depth)).unwrap();
        assert!(within(usize::MAX, Ok(nested(MAX_NESTING))).is_ok());
        let failure = within(usize::MAX, Ok(nested(MAX_NESTING + 1))).unwrap_err();
        assert_eq!(failure.code, code::BAD_ANSWER);
    }

    #[test]
    fn the_words_of_a_failure_are_bounded() {
        let failure = Failure::new("c".repeat(1000), "ü".repeat(10_000));
        let failure = within(10, Err(failure)).unwrap_err();
        assert_eq!(failure.code, code::FAILED);
        assert!(failure.message.len() <= MAX_SENTENCE + '…'.len_utf8() && failure.message.ends_with('…'));
    }
}
