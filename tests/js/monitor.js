// A foreign monitor, honest and not, at a master that wants tokens. Usage: node monitor.js PORT TOKEN
const assert = require('node:assert');
const { event, open, register, main } = require('./peer');

const token = process.argv[3];

main(async () => {
  const chat = { id: 'chat-1', type: 'monitor', serverType: 'chat', pid: 1, info: { id: 'chat-1', host: '127.0.0.1' } };
  for (const forged of [chat, { ...chat, token: 'wrong' }, { ...chat, serverType: 'master' }, { ...chat, id: 'new' }]) {
    // A server of pomelo 2.x, which states no version, would never try again if it were told no: its connection ends without a word.
    const socket = await open();
    const closed = event(socket, 'disconnect');
    const answers = [];
    socket.on('reconnect_ok', (answer) => answers.push(answer));
    socket.emit('reconnect', forged);
    await closed;
    assert.deepStrictEqual(answers, []);
  }
  const { answer: told, closed } = await register(await open(), { ...chat, version: '1.0.0' }, 'reconnect');
  assert.strictEqual(told.code, -1);
  await closed;
  console.log('forged reconnects are refused');

  const socket = await open();
  const info = { id: 'master', serverType: 'master', pid: 1, kept: 'kept' };
  const { answer } = await register(socket, { id: 'honest', type: 'monitor', serverType: 'chat', pid: 4711, info, token });
  assert.strictEqual(answer.code, 1, answer.msg);
  const answered = event(socket, 'monitor');
  socket.emit('monitor', { reqId: 1, moduleId: '__masterwatcher__', body: { action: 'subscribe', id: 'master' } });
  const [{ body }] = await answered;
  const { id, serverType, pid, kept } = body.honest;
  assert.strictEqual(pid, 4711);
  console.log('told of itself:', id, serverType, kept);
  // As with pomelo's own master: a listener that keeps no revision is not told of the master itself.
  assert.strictEqual(body.master, undefined);
});
