// npm's socket.io-client as a user of level 2 of a running cluster with the servers `chat-1` and `master`. Usage: node levels.js PORT
// Tries everything over every route. Prints a line of JSON for each message that was sent and answered: what, over which route, and the code.
const assert = require('node:assert');
const { event, open, register, main } = require('./peer');

const stop = { ids: ['chat-1'], serverId: 'chat-1' };
// What the spec keeps for level 1, and what it lets others do.
const FORBIDDEN = [
  ...['stop', 'kill', 'restart', 'add', 'addCron', 'removeCron', 'blacklist', 'no-such-signal', ''].map((signal) =>
    ['__console__', { signal, ...stop }]),
  ['__console__', undefined], ['__console__', null], ['__console__', ['stop']], ['__console__', 'stop'],
  // Nothing that a message says of its sender counts.
  ['__console__', { signal: 'stop', ...stop, level: 1, username: 'admin', user: 'admin', clientId: 'admin-1', role: 'master' }],
  ['__masterwatcher__', { action: 'subscribe', id: 'level-2' }],
  ['__masterwatcher__', { action: 'record', id: 'chat-1' }],
  ...['config', 'cpu', 'memory', 'set', 'enable', 'disable', 'run'].map((comd) =>
    ['watchServer', { comd, context: 'chat-1', param: 'x', ...stop }]),
  ...['list', 'get', 'save', 'run'].map((command) => ['scripts', { command, filename: 'x', body: '', ...stop }]),
  ['profiler', { type: 'CPU', action: 'start', uid: 'chat-1' }],
  ['monitorLog', { monitorId: 'chat-1', logfile: 'con-log', number: 10 }],
];
const ALLOWED = [['__console__', { signal: 'list' }]];
const COMMANDS = { enable: false, disable: false, list: true, modules: true };

let lastId = 0;
async function answered(socket, message) {
  lastId += 1;
  const reqId = lastId;
  const answer = event(socket, 'client');
  socket.emit('client', { reqId, ...message });
  const [said] = await answer;
  assert.strictEqual(said.respId, reqId);
  return said;
}

function tell(what, route, { error }) {
  console.log(JSON.stringify({ what, route, code: error ? error.code : 'ok' }));
}

async function everyRoute(socket, moduleId, body) {
  const what = `${moduleId} ${JSON.stringify(body)}`;
  tell(what, 'request', await answered(socket, { moduleId, body }));
  tell(what, 'ack', await socket.emitWithAck('client', { moduleId, body }));
  // Not answered: the next request is answered after it was looked at, since frames keep their order.
  socket.emit('client', { moduleId, body });
}

main(async () => {
  const socket = await open();
  // What a registration says of its level counts as little as what a message says.
  const login = { id: 'level-2', type: 'client', username: 'monitor', password: 'monitor', level: 1, role: 'master' };
  const { answer } = await register(socket, login);
  assert.strictEqual(answer.code, 1, answer.msg);

  for (const [moduleId, body] of FORBIDDEN) await everyRoute(socket, moduleId, body);
  for (const [moduleId, body] of ALLOWED) await everyRoute(socket, moduleId, body);
  for (const command of Object.keys(COMMANDS)) {
    tell(`command ${command}`, 'request', await answered(socket, { command, moduleId: '__console__', body: {} }));
    tell(`command ${command}`, 'ack', await socket.emitWithAck('client', { command, moduleId: '__console__', body: {} }));
    socket.emit('client', { command, moduleId: '__console__', body: {} });
  }
  // Frames that are for monitors end a client's connection.
  const closed = event(socket, 'disconnect');
  socket.emit('monitor', { reqId: 1, moduleId: '__masterwatcher__', body: { action: 'subscribe', id: 'chat-1' } });
  await closed;
  console.log(JSON.stringify({ what: 'a frame of a monitor', route: 'event', code: 'closed' }));
});
