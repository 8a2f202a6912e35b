// npm's socket.io-client against the Rust server. Usage: node client.js PORT websocket|upgrade|polling
// Prints one line for each check and ends with status 0, or says what is wrong and ends with 1.
const assert = require('node:assert');
const { io } = require('socket.io-client');

const [port, mode] = process.argv.slice(2);
const transports = { websocket: ['websocket'], upgrade: ['polling', 'websocket'], polling: ['polling'] }[mode];
const COUNT = 2000;

function open(options) {
  return io(`http://127.0.0.1:${port}`, {
    transports,
    reconnection: false,
    forceNew: true,
    ...options,
  });
}

function event(emitter, name) {
  return new Promise((resolve) => emitter.once(name, (...args) => resolve(args)));
}

async function upgraded({ io: { engine } }) {
  if (mode === 'upgrade' && engine.transport.name !== 'websocket') await event(engine, 'upgrade');
}

async function main() {
  const socket = open();
  await event(socket, 'connect');

  // Sent while a polling client is still upgrading: order has to survive that too.
  const got = [];
  const all = new Promise((resolve) => {
    socket.on('client', (payload) => {
      got.push(payload.n);
      if (got.length === COUNT) resolve();
    });
  });
  for (let n = 0; n < COUNT; n += 1) socket.emit('client', { n });
  await all;
  assert.deepStrictEqual(got, Array.from({ length: COUNT }, (_, n) => n));
  console.log('order kept');

  const acked = await socket.emitWithAck('client', { ack: 'ü"\\' });
  assert.deepStrictEqual(acked, { ack: 'ü"\\' });
  console.log('acknowledged');

  await upgraded(socket);
  console.log('by', socket.io.engine.transport.name);

  // The server closes: what it sent before arrives, then the reason is the server's.
  let last;
  socket.on('monitor', (payload) => { last = payload; });
  const closed = event(socket, 'disconnect');
  socket.emit('register', 'close');
  assert.strictEqual((await closed)[0], 'io server disconnect');
  assert.deepStrictEqual(last, { last: true });
  console.log('closed by the server');

  // The server cuts: the transport ends.
  const second = open();
  await event(second, 'connect');
  await upgraded(second);
  const cut = event(second, 'disconnect');
  second.emit('register', 'cut');
  const [reason] = await cut;
  assert.ok(['transport close', 'transport error', 'io server disconnect'].includes(reason), reason);
  console.log('cut by the server');

  // The client leaves.
  const third = open();
  await event(third, 'connect');
  third.emit('register', 'leaving');
  await third.emitWithAck('client', {});
  third.disconnect();
  console.log('left');

  // Binary data and more than one argument are refused.
  for (const args of [[Buffer.from('x')], [1, 2], []]) {
    const wrong = open();
    await event(wrong, 'connect');
    const ended = event(wrong, 'disconnect');
    wrong.emit('client', ...args);
    await ended;
  }
  console.log('wrong shapes refused');

  // Other namespaces do not exist.
  const other = io(`http://127.0.0.1:${port}/other`, { reconnection: false, forceNew: true });
  const [error] = await event(other, 'connect_error');
  assert.match(error.message, /namespace/i);
  other.disconnect();
  console.log('no other namespace');
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
