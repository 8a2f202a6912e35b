// A player of the chat application over pomelo's own protocol: asks the gate for a connector, enters, says something, and prints what it
// and another player hear. Arguments: the gate's port, a chat server's id.
"use strict";

const WebSocket = require("ws");
const { Message, Package, strdecode, strencode } = require("pomelo-protocol");

const [, , gatePort, chat] = process.argv;

class Connection {
  constructor(port) {
    this.answers = new Map();
    this.last = 0;
    this.pushed = () => {};
    this.socket = new WebSocket(`ws://127.0.0.1:${port}`);
    this.ready = new Promise((resolve, reject) => {
      this.socket.on("error", reject);
      this.socket.on("close", () => reject(new Error("closed")));
      this.socket.on("open", () => this.put(Package.TYPE_HANDSHAKE, { sys: { type: "test", version: "1" } }));
      this.socket.on("message", (data) => [].concat(Package.decode(data)).forEach((p) => this.take(p, resolve)));
    });
  }

  put(type, body) {
    this.socket.send(Package.encode(type, body && strencode(JSON.stringify(body))));
  }

  take({ type, body }, ready) {
    if (type === Package.TYPE_HANDSHAKE) {
      this.put(Package.TYPE_HANDSHAKE_ACK);
      ready();
    } else if (type === Package.TYPE_DATA) {
      const message = Message.decode(body);
      const said = JSON.parse(strdecode(message.body));
      if (message.id) this.answers.get(message.id)(said);
      else this.pushed(message.route, said);
    }
  }

  async request(route, body) {
    await this.ready;
    const id = ++this.last;
    const text = Message.encode(id, Message.TYPE_REQUEST, 0, route, strencode(JSON.stringify(body)));
    return new Promise((resolve) => {
      this.answers.set(id, resolve);
      this.socket.send(Package.encode(Package.TYPE_DATA, text));
    });
  }
}

async function player(user, nth) {
  const gate = new Connection(gatePort);
  const entry = await gate.request("gate.gateHandler.queryEntry", { nth });
  gate.socket.close();
  const connection = new Connection(entry.port);
  const entered = await connection.request("connector.entryHandler.enter", { user, chat });
  console.log(JSON.stringify({ user, connector: entry.id, entered }));
  return connection;
}

(async () => {
  const suffix = process.pid;
  const anna = await player(`anna-${suffix}`, 0);
  const bert = await player(`bert-${suffix}`, 1);
  const heard = new Promise((resolve) => (bert.pushed = (route, said) => resolve({ route, said })));
  const sent = await anna.request("chat.chatHandler.send", { text: "hello" });
  console.log(JSON.stringify({ sent, heard: await heard }));
  process.exit(0);
})().catch((error) => {
  console.log(JSON.stringify({ error: String(error) }));
  process.exit(1);
});
