// The reference server against the Rust client. Prints its port, then a line for each thing that happens; takes commands as lines.
const http = require('node:http');
const readline = require('node:readline');
const { Server } = require('socket.io');

const server = http.createServer();
const io = new Server(server, {
  pingInterval: Number(process.env.PING_INTERVAL || 25000),
  pingTimeout: Number(process.env.PING_TIMEOUT || 20000),
});
const say = (...words) => console.log(words.join(' '));

if (process.env.REFUSE) io.use((_, next) => next(new Error(process.env.REFUSE)));

io.on('connection', (socket) => {
  say('connected');
  socket.on('client', (payload, ack) => (ack ? ack(payload) : socket.emit('client', payload)));
  socket.on('monitor', async (payload) => {
    say('asked');
    say('answered', JSON.stringify(await socket.timeout(20000).emitWithAck('monitor', payload)));
  });
  socket.conn.on('packet', ({ type }) => { if (type === 'pong') say('pong'); });
  socket.on('disconnect', (reason) => say('disconnected', reason));
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'disconnect') socket.disconnect(true);
    if (line === 'binary') socket.emit('client', Buffer.from('x'));
  });
});
server.listen(0, '127.0.0.1', () => say(server.address().port));
