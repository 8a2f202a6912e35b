// What several processes have seen, in one file with a line of JSON for each thing. A line is written at once and at the end of the file, and before
// anybody else can know what it says. So the order of lines is the order of causes, whatever the clocks say.
"use strict";

const fs = require("node:fs");

// Writes to a file: (event, {…}) => nothing.
function journal(file, common) {
  const open = fs.openSync(file, "a");
  return (event, more = {}) => fs.writeSync(open, JSON.stringify({ time: Date.now(), event, ...common, ...more }) + "\n");
}

// What was written: [{time, event, …}…].
const entries = (text) => text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));

module.exports = { journal, entries };
