//! How much compiled code the modules of a host may hold together. It stays in memory for as long as a version is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Costly;

/// The compiled code of an engine, in bytes.
#[derive(Clone, Debug)]
pub struct Code {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// A part of it, given back when it is dropped.
#[derive(Debug)]
pub struct CodeShare {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Code {
    pub fn new(most: usize) -> Self {
        Code { held: Arc::default(), most }
    }

    /// Bytes that one file may have: half of all, because the version before it is held while it takes over.
    pub fn of_one(&self) -> usize {
        self.most / 2
    }

    /// Takes room for a file.
    pub fn take(&self, bytes: usize) -> Result<CodeShare, Costly> {
        if bytes > self.of_one() {
            return Err(Costly::Code { bytes: bytes as u64, most: self.of_one() as u64 });
        }
        let room = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        match self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(_) => Ok(CodeShare { held: self.held.clone(), bytes }),
            Err(held) => Err(Costly::AllCode { bytes: bytes as u64, held: held as u64, most: self.most as u64 }),
        }
    }
}

impl Drop for CodeShare {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_file_has_more_than_half() {
        let code = Code::new(100);
        assert_eq!(code.take(51).unwrap_err(), Costly::Code { bytes: 51, most: 50 });
        let first = code.take(50).unwrap();
        let _second = code.take(40).unwrap();
        assert_eq!(code.take(20).unwrap_err(), Costly::AllCode { bytes: 20, held: 90, most: 100 });
        drop(first);
        assert!(code.take(20).is_ok());
    }
}
