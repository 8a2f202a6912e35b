// An administrator of an original master, with npm's pomelo-admin: gives a command or asks a module, and prints the answer. Arguments: the
// master's port, the command or `request`, a module's id, and what is said to it, JSON.
"use strict";

const { adminClient: AdminClient } = require("pomelo-admin");

const [, , port, command, moduleId, body = "{}"] = process.argv;
const client = new AdminClient({ username: "admin", password: "admin", md5: true });
const answered = (error, answer) => {
  console.log(`\n${JSON.stringify({ error, answer })}`);
  process.exit(0);
};
client.connect(`commands-${process.pid}`, "127.0.0.1", port, (error) => {
  if (error) throw error;
  if (command === "request") client.request(moduleId, JSON.parse(body), answered);
  else client.command(command, moduleId, JSON.parse(body), answered);
});
