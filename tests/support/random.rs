//! Numbers for tests that draw lots.

// Each of the test programs that share this file uses a part of it.
#![allow(dead_code)]

/// Numbers that are the same for the same seed, also in years (SplitMix64): a seed that is kept must not change with a library.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// From the first number to below the second, which is larger.
    pub fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.number() % (most - least)
    }
}
