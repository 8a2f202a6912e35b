// What a show prints: lines with the time since its begin, checks that hold or do not, and at the end a table of figures.
"use strict";

const begun = process.hrtime.bigint();
const checks = new Map(); // what → {held, broken: [detail…]}
const figures = []; // [name, value]
const SHOWN = 5; // details of a check that are printed

// Seconds since the show has begun.
const seconds = () => Number(process.hrtime.bigint() - begun) / 1e9;

function say(text) {
  for (const line of String(text).split("\n")) console.log(`${seconds().toFixed(1).padStart(6)} s  ${line}`);
}

// Notes that something was looked at, and whether it was as it should be; `detail` says what was seen where it was not. The same thing may be looked
// at often: it holds if it held each time.
function check(what, holds, detail = "") {
  const known = checks.get(what) ?? { held: 0, broken: [] };
  checks.set(what, known);
  if (holds) known.held += 1;
  else {
    known.broken.push(String(detail));
    if (known.broken.length <= SHOWN) say(`NOT SO: ${what}${detail === "" ? "" : `: ${detail}`}`);
  }
  return Boolean(holds);
}

function figure(name, value) {
  figures.push([name, String(value)]);
}

// Prints figures and checks; whether all checks held. A show without checks has shown nothing.
function table() {
  const width = Math.max(0, ...figures.map(([name]) => name.length), ...[...checks.keys()].map((what) => what.length));
  console.log("");
  for (const [name, value] of figures) console.log(`${name.padEnd(width)}  ${value}`);
  console.log("");
  for (const [what, { held, broken }] of checks) {
    console.log(`${what.padEnd(width)}  ${broken.length ? `FAIL (${broken.length} of ${held + broken.length})` : `PASS (${held})`}`);
  }
  const passed = checks.size > 0 && [...checks.values()].every(({ broken }) => broken.length === 0);
  console.log(`\n${passed ? "PASS" : "FAIL"}`);
  return passed;
}

module.exports = { say, check, figure, table, seconds };
