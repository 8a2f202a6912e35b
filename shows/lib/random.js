// Random choices that are the same for the same seed.
"use strict";

// A generator (mulberry32): numbers from 0 to below 1.
function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  // One of a list that is not empty.
  const pick = (list) => list[Math.floor(next() * list.length)];
  // So many of a list, in any order.
  const some = (list, count) => {
    const left = [...list];
    return Array.from({ length: Math.min(count, left.length) }, () => left.splice(Math.floor(next() * left.length), 1)[0]);
  };
  return { next, pick, some };
}

module.exports = { random };
