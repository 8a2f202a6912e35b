// The program's side of the control socket (docs/control-socket.md).
"use strict";

const net = require("node:net");

// Connects to the monitor, and offers it these functions: {name: (args) => result}. The program is ready.
function control(functions) {
  const socket = net.connect(process.env.POMELO_CONTROL);
  const say = (message) => socket.write(JSON.stringify(message) + "\n");
  say({ hello: { offers: Object.keys(functions), ready: true } });
  let rest = "";
  socket.setEncoding("utf8").on("data", async (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    // Each is begun in its turn; nobody waits for the one before.
    for (const line of lines) {
      const { id, call, args } = JSON.parse(line);
      if (call === undefined) continue;
      try {
        say({ id, result: functions[call](args) ?? null });
      } catch (error) {
        say({ id, error: { code: "failed", message: error.message } });
      }
    }
  });
  socket.on("error", (error) => console.error(`the control socket: ${error.message}`));
}

module.exports = { control };
