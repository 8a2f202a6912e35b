// The options of a show: numbers and switches with a default each, given as `--name value`.
"use strict";

const { parseArgs } = require("node:util");

// Options that every show has.
const COMMON = {
  seed: [1, "what the random choices are made from; the same seed makes the same choices"],
  limit: [900, "seconds after which the show has failed, whatever it was doing"],
  keep: [false, "leave the directory of the show, with all logs"],
};

// What was given, or the defaults. `known` is {name: [default, meaning]}; a default that is a number takes a number, `false` is a switch.
function options(purpose, known) {
  const all = { ...known, ...COMMON, help: [false, "print this"] };
  const kinds = Object.entries(all).map(([name, [preset]]) => [name, { type: preset === false ? "boolean" : "string" }]);
  let given;
  try {
    given = parseArgs({ options: Object.fromEntries(kinds) }).values;
  } catch (error) {
    wrong(error.message);
  }
  if (given.help) {
    console.log(`${purpose}\n\nThe program is target/debug/pomelo, or the one that POMELO names.\n`);
    for (const [name, [preset, meaning]] of Object.entries(all)) {
      console.log(`  ${`--${name}${preset === false ? "" : " N"}`.padEnd(22)}${meaning}${preset === false ? "" : ` [${preset}]`}`);
    }
    process.exit(0);
  }
  const values = {};
  for (const [name, [preset]] of Object.entries(all)) {
    const value = given[name];
    values[name] = value === undefined || preset === false ? value ?? preset : Number(value);
    if (preset !== false && !(Number.isFinite(values[name]) && values[name] >= 0)) wrong(`--${name} ${value}: a number of 0 or more is needed`);
  }
  return values;
}

// Ends the script, because it was asked for something that it cannot do.
function wrong(message) {
  console.error(`${message}\n--help shows the options.`);
  process.exit(2);
}

module.exports = { options, wrong };
