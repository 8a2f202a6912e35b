// npm's socket.io-client as an admin client of a running cluster with the servers `chat-1` and `master`. Usage: node admin.js PORT
// Prints a line for each thing that holds.
const assert = require('node:assert');
const { event, open, register, main } = require('./peer');

const LIST = { moduleId: '__console__', body: { signal: 'list' } };

async function client(id, username, password) {
  const socket = await open();
  const { answer } = await register(socket, { id, type: 'client', username, password });
  assert.strictEqual(answer.code, 1, answer.msg);
  return socket;
}

let lastId = 0;
async function request(socket, moduleId, body) {
  lastId += 1;
  const reqId = lastId;
  const answered = event(socket, 'client');
  socket.emit('client', { reqId, moduleId, body });
  const [answer] = await answered;
  assert.strictEqual(answer.respId, reqId);
  return answer;
}

async function listing(admin) {
  const { error, body } = await request(admin, '__console__', { signal: 'list' });
  assert.ok(!error);
  assert.deepStrictEqual(Object.keys(body.msg).sort(), ['chat-1', 'master']);
  assert.strictEqual(typeof body.msg['chat-1'].pid, 'number');
  console.log('listed by event');
  const acked = await admin.emitWithAck('client', LIST);
  assert.deepStrictEqual(Object.keys(acked.body.msg).sort(), ['chat-1', 'master']);
  console.log('listed by acknowledgement');
}

async function levels() {
  const guest = await client('guest', 'monitor', 'monitor');
  const list = await request(guest, '__console__', { signal: 'list' });
  assert.ok(list.body.msg['chat-1']);
  // Whatever it says of itself in the body.
  const body = { signal: 'stop', ids: ['chat-1'], username: 'admin', clientId: 'admin-1', level: 1 };
  const stop = await request(guest, '__console__', body);
  assert.strictEqual(stop.error.code, 'forbidden');
  const acked = await guest.emitWithAck('client', { moduleId: '__console__', body });
  assert.strictEqual(acked.error.code, 'forbidden');
  guest.disconnect();
  console.log('level 2 lists and does not stop');
}

async function refused(payload, why) {
  const socket = await open();
  const { answer, closed } = await register(socket, payload);
  assert.strictEqual(answer.code, -1);
  assert.match(answer.msg, why);
  await closed;
}

async function unregistered(topic, payload) {
  const socket = await open();
  const closed = event(socket, 'disconnect');
  const answer = event(socket, 'client').then(([{ body }]) => body);
  socket.emit(topic, payload);
  await closed;
  assert.ok(!(await Promise.race([answer, Promise.resolve()])), 'nothing is told to strangers');
}

// Whatever comes of it, the master is still there afterwards.
async function survives(admin, topic, payload) {
  const socket = await open();
  socket.emit(topic, payload);
  await Promise.race([event(socket, 'disconnect'), event(socket, topic)]);
  socket.disconnect();
  assert.ok((await request(admin, '__console__', { signal: 'list' })).body);
}

main(async () => {
  const admin = await client('admin-1', 'admin', 'admin');
  await listing(admin);
  await levels();

  const login = { type: 'client', username: 'admin', password: 'secret-password' };
  await refused({ ...login, id: 'wrong' }, /./);
  await refused({ ...login, id: 'wrong', md5: true }, /./);
  await refused({ ...login, id: 'wrong', username: 'nobody' }, /./);
  console.log('wrong passwords refused');

  await unregistered('client', { reqId: 1, ...LIST });
  await unregistered('client', { reqId: 1, command: 'list' });
  await unregistered('monitor', { reqId: 1, moduleId: '__masterwatcher__', body: { action: 'subscribe', id: 'x' } });
  console.log('nothing before registration');

  const right = { ...login, password: 'admin' };
  await refused({ ...right, id: 'admin-1' }, /connected already/);
  const other = await client('admin-2', 'admin', 'admin');
  other.disconnect();
  console.log('one client of an id');

  const idle = await open();
  await event(idle, 'disconnect');
  console.log('unregistered are closed');

  await refused({ ...right, id: '__proto__' }, /cannot be an id/);
  await refused({ ...right, id: '' }, /cannot be an id/);
  await refused({ id: 'chat-9', type: 'monitor' }, /serverType/);
  for (const payload of [null, 7, 'text', [], {}, { id: 'x' }, { id: null, type: 'client' }, { id: 'x', type: 'other' }]) {
    await survives(admin, 'register', payload);
  }
  await survives(admin, 'reconnect', null);
  for (const body of [null, undefined, 7, [], 'text', {}, { signal: null }, { signal: 'nothing' }, { signal: 'stop', ids: [null] },
    { signal: 'list', ids: null }, { signal: 'restart', type: 7 }, { signal: 'add', args: ['bad'] }]) {
    const answer = await request(admin, '__console__', body);
    assert.ok(answer.error || answer.body, JSON.stringify(body));
  }
  assert.ok((await request(admin, 'nothing', null)).error.message.includes('unknown module'));
  assert.ok((await request(admin, '__proto__', null)).error);
  const strange = await client('strange', 'admin', 'admin');
  const ended = event(strange, 'disconnect');
  strange.emit('client', null);
  await ended;
  assert.ok((await request(admin, '__console__', { signal: 'list' })).body.msg.master);
  console.log('malformed is harmless');
});
