// Asks the console for its list, with a trace of its own: node trace.js PORT TRACEPARENT
const { io } = require("socket.io-client");

const [port, trace] = process.argv.slice(2);
const socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"] });
socket.on("connect", () => {
  socket.emit("register", { type: "client", id: "tracing", username: "admin", password: "admin" }, (answer) => {
    if (answer.code !== 1) throw new Error(answer.msg);
    const request = { reqId: 1, moduleId: "__console__", body: { signal: "list" }, trace };
    socket.emit("client", request, ({ error }) => {
      if (error) throw new Error(error.message);
      console.log("listed");
      socket.disconnect();
    });
  });
});
