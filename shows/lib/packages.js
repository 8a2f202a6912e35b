// npm's packages, where `npm --prefix tests/fixtures/js ci` has put them.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");

const ROOT = path.join(__dirname, "..", "..");
const installed = createRequire(path.join(ROOT, "tests/fixtures/js/package.json"));

function packages(name) {
  try {
    return installed(name);
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    console.error(`npm's package ${name} is needed: npm --prefix ${path.join(ROOT, "tests/fixtures/js")} ci --ignore-scripts`);
    process.exit(2);
  }
}

module.exports = { ROOT, packages };
