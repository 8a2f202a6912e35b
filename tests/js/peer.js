// What the scripts that talk to a master share.
const { io } = require('socket.io-client');

const port = process.argv[2];

function event(emitter, name) {
  return new Promise((resolve) => emitter.once(name, (...args) => resolve(args)));
}

// A connection that has not registered.
async function open() {
  const socket = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], reconnection: false, forceNew: true });
  await event(socket, 'connect');
  return socket;
}

// Sends a registration; its answer, and a promise of the socket's end.
async function register(socket, payload, topic = 'register') {
  const closed = event(socket, 'disconnect');
  const answer = event(socket, topic === 'reconnect' ? 'reconnect_ok' : topic);
  socket.emit(topic, payload);
  return { answer: (await answer)[0], closed };
}

function main(script) {
  script().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { event, open, register, main };
