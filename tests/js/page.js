// Uses the web page as an operator would: node page.js PORT [SCREENSHOT]. The cluster has the servers chat-1 and chat-2; chat-2 is restarted, and the
// page tells of it. Prints what it has seen.
const assert = require("node:assert");
const { chromium } = require("playwright-core");

const [port, screenshot] = process.argv.slice(2);
const row = (id) => `#servers tr[data-id="${id}"]`;

async function logIn(page, username, password) {
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.fill("#username", username);
  await page.fill("#password", password);
  await page.click("#login-button");
}

async function main(browser) {
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  const foreign = [];
  page.on("request", (request) => {
    if (!request.url().match(new RegExp(`^(data:|(http|ws)://127\\.0\\.0\\.1:${port}/)`))) foreign.push(request.url());
  });

  await logIn(page, "admin", "wrong");
  await page.waitForFunction(() => document.getElementById("login-error").textContent.includes("wrong password"));
  assert(await page.isHidden("#cluster"));
  console.log("a wrong password is refused");

  await logIn(page, "admin", "admin");
  for (const id of ["chat-1", "chat-2", "master"]) await page.waitForSelector(row(id));
  await page.waitForSelector('#modules tr[data-id="__console__"]');
  console.log("servers and modules are shown");

  const pid = (await page.textContent(`${row("chat-2")} td:nth-child(4)`)).trim();
  await page.click(`${row("chat-2")} button:text("Restart")`);
  await page.click('#confirm button:text("Cancel")');
  await page.click(`${row("chat-2")} button:text("Restart")`);
  await page.click("#confirm-yes");
  await page.waitForFunction(
    ([selector, pid]) => ![pid, "–"].includes(document.querySelector(selector)?.textContent.trim()),
    [`${row("chat-2")} td:nth-child(4)`, pid],
  );
  const events = () => [...document.querySelectorAll("#events li")].map((line) => line.textContent);
  const restarts = (await page.waitForFunction(`(${events})().filter((text) => text.includes("runs again") && text.includes("chat-2"))`)).jsonValue();
  assert.equal((await restarts).length, 1, "what was cancelled was not done");
  console.log("a server is restarted and the event is shown");

  // What users and programs write is text, whatever it says.
  const markup = await page.waitForFunction(
    `(${events})().find((text) => text.includes("<img src=x onerror=alert(1)>"))`,
  );
  assert(await markup.jsonValue());
  assert.equal(await page.locator("#events img").count(), 0);
  console.log("markup is shown as text");

  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  assert.deepEqual([complaints, foreign], [[], []]);

  const other = await browser.newPage();
  await logIn(other, "monitor", "monitor");
  await other.waitForSelector(row("chat-1"));
  await other.waitForSelector("body.read-only");
  assert(await other.isHidden(`${row("chat-1")} button`));
  console.log("level 2 sees no buttons");
}

(async () => {
  const options = { executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-quic"] };
  const browser = await chromium.launch(options);
  try {
    await main(browser);
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
