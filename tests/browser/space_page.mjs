// The page of spaces, `/space.html`, in headless Chromium or Firefox.
//
//   node space_page.mjs SCENARIO chromium|firefox URL PICTURES
//
// URL is the page's, PICTURES the beginning of the names of screenshots. Prints one JSON line with what
// was seen; exits 1 when something is missing in time. Scenarios: `pair`, two persons; `alone`, one,
// with `RINGSIDE_NO_MICROPHONE` without a microphone, among others who come from elsewhere; `broken`,
// a connection that breaks; `restarted`, a server that ends and comes back; `cut`, media without a way;
// `crowd`, many who come and go; `solo`, one who talks to nobody; `refused`, one who may not enter.

import { connect, createServer } from 'node:net';
import { writeFileSync } from 'node:fs';
import * as browsers from './browser.mjs';

const { end, endAfter, sleep } = browsers;
const [, , scenario, browserName, url, pictures] = process.argv;
endAfter(80000);

/** Waits for an expression of the page to become true. */
async function until(page, what, expression, ms = 12000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(60)) {
    const value = await page.evaluate(expression).catch(() => null);
    if (value) return value;
  }
  const text = await page.evaluate('document.body.innerText + JSON.stringify(window.failures)').catch(String);
  throw new Error(`never: ${what}\n${text}`);
}

async function open(page, address) {
  await page.open(address);
  await until(page, 'the page', `document.readyState === 'complete' && location.href !== 'about:blank'`);
  await sleep(150);
  await page.evaluate(`(window.failures = [], addEventListener('error', (event) => failures.push(String(event.message))),
    addEventListener('unhandledrejection', (event) => failures.push(String(event.reason?.stack ?? event.reason))), true)`);
}

async function enter(page, name) {
  await page.evaluate(`(document.getElementById('name').value = ${JSON.stringify(name)}, document.querySelector('#enter button').click(), true)`);
}

const isIn = (page) => until(page, 'to be in', `window.space?.client.state === 'in'`);
const picture = async (page, name) => writeFileSync(`${pictures}-${name}.png`, Buffer.from(await page.picture(), 'base64'));
const place = (page) => page.evaluate('({ x: space.client.place.x, z: space.client.place.z })');

/** Whom the list has, and what it says of them. */
const people = (page) => page.evaluate(`[...document.querySelectorAll('#people li')].map((row) => ({
  id: Number(row.dataset.player), name: row.querySelector('b').textContent, words: row.querySelector('span').textContent }))`);
const seen = (page, id) => page.evaluate(`(({ name, place }) => ({ name, place }))(space.client.players.get(${id}) ?? {})`);
const lines = (page) => page.evaluate(`[...document.querySelectorAll('#log p')].map((line) => line.textContent)`);
const failures = (page) => page.evaluate('window.failures');

/** The energy of what is received, of all voices, in a second: before the distance, and decoded. */
const energy = (page) => page.evaluate(browserName === 'chromium' ? `(async () => {
  const samples = new Float32Array(512);
  let sum = 0;
  for (const end = performance.now() + 1200; performance.now() < end; await new Promise((done) => setTimeout(done, 10))) {
    for (const { level } of space.sound.voices.values()) {
      level.analyser.getFloatTimeDomainData(samples);
      for (const sample of samples) sum += sample * sample / samples.length;
    }
  }
  return sum;
})()` : `space.client.statistics().then((all) => [...all.values()]
  .filter((one) => one.type === 'inbound-rtp').reduce((sum, one) => sum + (one.totalAudioEnergy ?? 0), 0))`);
const packets = (page) => page.evaluate(`space.client.statistics().then((all) => [...all.values()]
  .filter((one) => one.type === 'inbound-rtp').reduce((sum, one) => sum + one.packetsReceived, 0))`);

/** How loud it is at one's ears, for a while: the peak of what goes to the loudspeaker. */
const loudness = (page) => page.evaluate(`(async () => {
  const { context, master } = space.sound;
  const analyser = new AnalyserNode(context, { fftSize: 2048 });
  master.connect(analyser);
  const samples = new Float32Array(2048);
  let peak = 0;
  for (const end = performance.now() + 2600; performance.now() < end; await new Promise((done) => setTimeout(done, 20))) {
    analyser.getFloatTimeDomainData(samples);
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  }
  master.disconnect(analyser);
  return { peak, state: context.state };
})()`);

async function pair() {
  const browser = await browsers[browserName]({ devices: true });
  const first = browser;
  await open(first, url);
  const isChromium = browserName === 'chromium';
  if (isChromium) {
    await picture(first, 'entrance');
    await first.screen({ scheme: 'dark' });
    await picture(first, 'entrance-dark');
    await first.screen({});
  }
  await enter(first, 'Alice');
  await isIn(first);
  const invitation = await until(first, 'an invitation', `!document.getElementById('invite').hidden && document.getElementById('link').value`);
  await sleep(400);
  await picture(first, 'alone');
  const second = await browser.another();
  await open(second, invitation);
  await enter(second, 'Bob');
  await isIn(second);
  const [alice, bob] = [await first.evaluate('space.client.me'), await second.evaluate('space.client.me')];
  await until(first, 'Bob and his place', `space.client.players.get(${bob})?.place && document.querySelectorAll('#people li').length === 2`);
  await until(second, 'Alice and her place', `space.client.players.get(${alice})?.place && document.querySelectorAll('#people li').length === 2`);
  const isInviting = await first.evaluate(`!document.getElementById('invite').hidden`);

  // A key walks, and the other one sees it.
  const before = await place(first);
  await first.press('ArrowRight', 700);
  await first.press('KeyS', 500);
  const after = await place(first);
  await sleep(400);
  const shown = await seen(second, alice);

  // Writing does not.
  await first.press('Enter');
  await first.type('was');
  await first.press('ArrowLeft', 300);
  const still = await place(first);
  await first.evaluate(`(document.getElementById('words').value += ' sagst du?', true)`);
  await first.press('Enter');
  await until(second, 'what Alice says', `document.getElementById('log').textContent.includes('was sagst du?')`);
  await second.evaluate(`(document.getElementById('words').value = 'Hello <b>there</b>', document.getElementById('write').requestSubmit(), true)`);
  await until(first, 'what Bob says', `document.getElementById('log').textContent.includes('Hello <b>there</b>')`);
  await first.press('Escape');

  // Voices: both are received, and both are seen to talk.
  const talks = await Promise.all([[first, bob], [second, alice], [first, alice]].map(([page, id]) =>
    until(page, `to see ${id} talk`, `document.querySelector('#people li[data-player="${id}"]')?.classList.contains('talks')`)));
  await sleep(1500);
  const heard = [await energy(first), await energy(second)];
  const received = [await packets(first), await packets(second)];
  let near;
  let far;
  if (isChromium) {
    // Alice goes to where Bob stands, and listens; then far away.
    const target = (await seen(first, bob)).place;
    await first.evaluate(`(Object.assign(space.client.place, { x: ${target.x} + 1, z: ${target.z} }), true)`);
    await first.press('ArrowLeft', 120);
    await until(first, 'Bob to talk', `document.querySelector('#people li[data-player="${bob}"]').classList.contains('talks')`);
    await picture(first, 'talking');
    await looks(first);
    near = await loudness(first);
    await first.evaluate(`(Object.assign(space.client.place, { x: ${target.x} - 14, z: ${target.z} }), true)`);
    await first.press('ArrowLeft', 120);
    await sleep(300);
    await picture(first, 'far');
    far = await loudness(first);
    // A finger walks too.
    await first.screen({ width: 390, height: 780, ratio: 2 });
    await sleep(200);
    const from = await place(first);
    await first.touch(330, 220, 700);
    near.touched = (await place(first)).x - from.x;
    await first.screen({});
  }

  // Muted at the server, nothing more comes.
  await second.evaluate(`(document.getElementById('ears').click(), true)`);
  await sleep(500);
  const deafFrom = await packets(second);
  await sleep(700);
  const deaf = (await packets(second)) - deafFrom;
  await second.evaluate(`(document.getElementById('ears').click(), true)`);

  // Whoever leaves is gone at once, and can come back.
  await first.evaluate(`(document.getElementById('leave').click(), true)`);
  await until(second, 'Alice to be gone', `document.querySelectorAll('#people li').length === 1 && !document.getElementById('invite').hidden`);
  const gone = { entrance: await first.evaluate(`!document.getElementById('entrance').hidden`), lines: await lines(second) };
  await enter(first, 'Alice again');
  await isIn(first);
  await until(second, 'Alice again', `document.getElementById('people').textContent.includes('Alice again')`);
  const again = await first.evaluate('space.client.me');
  // The section and the channel of her first visit are used again.
  await until(second, 'her place', `space.client.players.get(${again})?.place`);
  const earlier = await packets(second);
  await sleep(1500);
  return {
    invitation, isInviting, before, after, still, shown, people: [await people(first), await people(second)],
    lines: [await lines(first), await lines(second)], talks, heard, received, near, far, deaf, gone,
    heardAgain: (await packets(second)) - earlier, failures: [await failures(first), await failures(second)],
  };
}

async function looks(page) {
  await page.screen({ scheme: 'dark' });
  await sleep(200);
  await picture(page, 'dark');
  for (const scheme of ['light', 'dark']) {
    await page.screen({ width: 390, height: 780, ratio: 2, scheme });
    await sleep(200);
    await picture(page, `phone-${scheme}`);
  }
  await page.screen({});
}

/** One person who walks to where another one is and says hello, for some seconds. */
async function alone() {
  const browser = await browsers[browserName]({ devices: !process.env.RINGSIDE_NO_MICROPHONE });
  await open(browser, url);
  await enter(browser, 'Paula');
  await isIn(browser);
  const me = await browser.evaluate('space.client.me');
  const note = process.env.RINGSIDE_NO_MICROPHONE
    ? await until(browser, 'a note', `!document.getElementById('note').hidden && document.querySelector('#note span').textContent`)
    : '';
  const before = await place(browser);
  await browser.press('ArrowUp', 500);
  const after = await place(browser);
  await until(browser, 'somebody else', `[...space.client.players.values()].some((one) => one.id !== ${me} && one.place)`, 30000);
  await until(browser, 'its name', `document.getElementById('log').textContent.includes('alice comes in.')`);
  const others = await browser.evaluate(`[...space.client.players.values()].filter((one) => one.id !== ${me})`);
  await browser.evaluate(`(document.getElementById('words').value = 'hello from Paula', document.getElementById('write').requestSubmit(), true)`);
  await until(browser, 'words of another one', `document.getElementById('log').textContent.includes('hello from alice')`, 20000);
  await sleep(1500);
  await picture(browser, 'others');
  const heard = await energy(browser);
  const sound = browserName === 'chromium' ? await loudness(browser) : null;
  await until(browser, 'the other one to leave', `space.client.players.size === 1`, 30000);
  return { me, note, before, after, others, heard, sound, lines: await lines(browser), failures: await failures(browser) };
}

/** The connection goes through here, and breaks here. */
async function broken() {
  const target = new URL(process.env.RINGSIDE_SPACES);
  const sockets = new Set();
  let isOpen = true;
  const relay = createServer((near) => {
    if (!isOpen) return near.destroy();
    const far = connect(Number(target.port), target.hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => {}).on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  await new Promise((done) => relay.listen(0, '127.0.0.1', done));
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, `${url}?host=127.0.0.1:${relay.address().port}`);
  const server = await browser.evaluate(`document.getElementById('server').textContent`);
  await enter(browser, 'Carol');
  await isIn(browser);
  const first = await browser.evaluate('space.client.me');
  await sleep(1000);
  isOpen = false;
  for (const socket of sockets) socket.destroy();
  const banner = await until(browser, 'a banner', `!document.getElementById('banner').hidden && document.querySelector('#banner span').textContent.includes('Trying') && document.querySelector('#banner span').textContent`);
  await sleep(200);
  await picture(browser, 'gone');
  await sleep(2500);
  isOpen = true;
  await isIn(browser);
  const second = await browser.evaluate('space.client.me');
  const isClear = await until(browser, 'a banner that is gone', `document.getElementById('banner').hidden`);
  return { server, first, second, banner, isClear, lines: await lines(browser), failures: await failures(browser) };
}

/** One person who comes in, and hears of themselves that they talk. */
async function solo() {
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, url);
  await enter(browser, 'Frida');
  await isIn(browser);
  const me = await browser.evaluate('space.client.me');
  await until(browser, 'oneself talk', `space.client.players.get(${me}).isTalking`);
  return { address: await browser.evaluate('space.client.url'), isReachable: await browser.evaluate('space.client.isReachable'), failures: await failures(browser) };
}

/** The server ends in order and comes back, as another one. */
async function restarted() {
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, url);
  await enter(browser, 'Gina');
  await isIn(browser);
  const banner = await until(browser, 'what happens', `document.querySelector('#banner span').textContent.includes('restarted. Trying') && document.querySelector('#banner span').textContent`, 30000);
  await until(browser, 'to be in again', `space.client.state === 'in' && space.client.isReachable`, 40000);
  await until(browser, 'oneself talk', `space.client.players.get(space.client.me).isTalking`);
  return { banner, isClear: await browser.evaluate(`document.getElementById('banner').hidden`), failures: await failures(browser) };
}

/** Chat has a way to the server, and media have none. */
async function cut() {
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, url);
  await enter(browser, 'Hugo');
  await isIn(browser);
  const banner = await until(browser, 'a banner', `!document.getElementById('banner').hidden && document.querySelector('#banner span').textContent`, 50000);
  await browser.evaluate(`(document.getElementById('words').value = 'hello', document.getElementById('write').requestSubmit(), true)`);
  await until(browser, 'its own words', `document.getElementById('log').textContent.includes('hello')`);
  await picture(browser, 'cut');
  return { banner, state: await browser.evaluate('space.client.state'), failures: await failures(browser) };
}

/** Many who come and go, made of the same client by a page of another site. */
async function crowd() {
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, url);
  await browser.evaluate(`(window.peers = [], ((Peer) => (window.RTCPeerConnection = function (...all) {
    const peer = new Peer(...all);
    peers.push(peer);
    return peer;
  }))(RTCPeerConnection), true)`);
  await enter(browser, 'Ida');
  await isIn(browser);
  const other = await browser.another();
  await other.open(new URL('/time', url).href.replace('127.0.0.1', 'localhost'));
  await until(other, 'the other site', `location.hostname === 'localhost'`);
  const { port } = await (await fetch(new URL('/space.json', url))).json();
  await other.evaluate(`(async () => {
    const { SpaceClient } = await import(${JSON.stringify(new URL('/space/client.js', url).href)});
    const context = new AudioContext();
    window.others = [];
    window.come = (name, x) => {
      const client = new SpaceClient({ url: 'ws://127.0.0.1:${port}/', world: 'lobby', name });
      Object.assign(client.place, { x, z: 1 });
      const tone = new OscillatorNode(context, { frequency: 300 + 50 * x });
      const target = context.createMediaStreamDestination();
      tone.connect(target);
      tone.start();
      client.speak(target.stream.getAudioTracks()[0]);
      client.connect();
      others.push(client);
    };
    return true;
  })()`);
  const come = (from, count) => other.evaluate(`(Array.from({ length: ${count} }, (_, at) => come('bot ' + (${from} + at), at)), true)`);
  const go = (count) => other.evaluate(`(others.splice(0, ${count}).forEach((client) => client.leave()), true)`);
  const sections = `peers.map((peer) => (peer.localDescription?.sdp.match(/^m=/gm) ?? []).length)`;
  const reports = [];
  for (const [leaving, coming] of [[0, 6], [4, 4], [5, 5], [6, 6]]) {
    await go(leaving);
    await sleep(leaving ? 600 : 0);
    await come(reports.length * 10, coming);
    await until(browser, 'all of them', `space.client.players.size === 7 && [...space.client.players.values()].every((one) => one.place) && space.sound.voices.size === 6`, 20000);
    const ids = await browser.evaluate(`[...space.sound.voices.keys()]`);
    for (const id of ids) await until(browser, `to hear ${id}`, `space.sound.level(${id}) > 0.1`, 8000);
    reports.push({ names: (await people(browser)).map((one) => one.name).sort(), sections: Math.max(...(await browser.evaluate(sections))) });
  }
  await picture(browser, 'crowd');
  await browser.screen({ width: 390, height: 780, ratio: 2, scheme: 'dark' });
  await sleep(300);
  await picture(browser, 'crowd-phone');
  const isWide = await browser.evaluate('document.documentElement.scrollWidth > innerWidth');
  const isAtEnd = await browser.evaluate(`(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 10)(document.getElementById('log'))`);
  await go(6);
  await until(browser, 'nobody', `space.client.players.size === 1 && space.sound.voices.size === 0`);
  return { reports, isWide, isAtEnd, failures: await failures(browser) };
}

async function refused() {
  const browser = await browsers[browserName]({ devices: true });
  await open(browser, url);
  await enter(browser, 'Dora');
  if (process.env.RINGSIDE_FULL) {
    await isIn(browser);
    const second = await browser.another();
    await open(second, url);
    await enter(second, 'Emil');
    return { words: await until(second, 'a refusal', `!document.getElementById('refusal').hidden && document.getElementById('refusal').textContent`) };
  }
  const words = await until(browser, 'a refusal', `!document.getElementById('refusal').hidden && document.getElementById('refusal').textContent`);
  await picture(browser, 'refused');
  return { words };
}

try {
  console.log(JSON.stringify(await { pair, alone, solo, broken, restarted, cut, crowd, refused }[scenario]()));
  end(0);
} catch (error) {
  console.error(String(error?.stack ?? error));
  end(1);
}
