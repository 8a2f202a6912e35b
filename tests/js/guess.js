// npm's socket.io-client as somebody who guesses. Usage: node guess.js PORT USER PASSWORD TOKEN, the right ones
// Prints a line for each thing that holds.
const assert = require('node:assert');
const { open, register, main } = require('./peer');

const [user, right, token] = process.argv.slice(3);

async function login(payload) {
  const socket = await open();
  const begun = performance.now();
  const { answer } = await register(socket, payload);
  const waited = performance.now() - begun;
  socket.disconnect();
  return { ...answer, waited };
}

let clients = 0;
const client = (password, username = user) => {
  clients += 1;
  return login({ id: `guess-${clients}`, type: 'client', username, password });
};
const monitor = (shown) => login({ id: 'chat-7', type: 'monitor', serverType: 'chat', token: shown, down: true });

main(async () => {
  assert.strictEqual((await client(right)).code, 1);
  // Several at a time, and the right one among them: the time until the answer tells nothing.
  const answers = await Promise.all(['a', 'b', 'c'].map((password) => client(password)));
  assert.ok(answers.every(({ code }) => code === -1));
  const waits = answers.map(({ waited }) => waited).sort((a, b) => a - b);
  assert.ok(waits[0] >= 249 && waits[2] >= 1700, `${waits}`);
  const again = await Promise.all([client(right), client('d'), client(right)]);
  assert.deepStrictEqual(again.map(({ code }) => code), [1, -1, 1]);
  assert.ok(again.every(({ waited }) => waited >= 1900), JSON.stringify(again));
  console.log('guesses of a password are slowed down, right ones too');

  // More than may wait are refused at once, the right password too: it is not even looked at.
  const many = await Promise.all(Array.from({ length: 12 }, () => client(right)));
  const busy = many.filter(({ code, msg }) => code === -1 && /too many wrong logins/.test(msg));
  assert.strictEqual(busy.length, 8, JSON.stringify(many));
  assert.ok(busy.every(({ waited }) => waited < 1900), JSON.stringify(busy));
  console.log('only so many wait');

  assert.strictEqual((await monitor('wrong')).code, -1);
  const second = await monitor('wrong');
  assert.ok(second.code === -1 && second.waited >= 499, JSON.stringify(second));
  assert.ok(/the token is not that of servers of type `chat`/.test(second.msg), second.msg);
  // The right token is none that is guessed: it does not wait, not even while as many wrong ones wait as may.
  const wrong = Array.from({ length: 8 }, () => monitor('wrong'));
  // One is refused at once, since as many wait as may.
  await Promise.race(wrong);
  const prompt = await monitor(token);
  assert.ok(prompt.code === 1 && prompt.waited < 900, JSON.stringify(prompt));
  const refused = (await Promise.all(wrong)).filter(({ code }) => code === -1);
  assert.ok(refused.length === 8 && refused.some(({ waited }) => waited >= 999), JSON.stringify(refused));
  console.log('guesses of a token are slowed down, the right one is not');
});
