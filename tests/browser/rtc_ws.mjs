// Signals over a WebSocket, or a data channel, as MistServer's players do, in a headless Chromium.
//
//   node rtc_ws.mjs SCENARIO URL [URL]
//
// The scenarios are the functions below that are exported to the page. Prints what they saw as one
// JSON line; exits 1 when one could not go on. The page is of another origin than the stream.

import { createServer } from 'node:http';
import { chromium, end, endAfter, sleep } from './browser.mjs';

const [, , scenario, ...urls] = process.argv;

endAfter(80_000);

// ---- what runs in the page -----------------------------------------------------------------------

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, is, ms = 15_000) {
  const began = performance.now();
  for (;;) {
    const found = await is();
    if (found) return found;
    if (performance.now() - began > ms) throw new Error(`no ${what} in ${ms} ms`);
    await wait(25);
  }
}

/** A WebSocket with all that it said. */
function dial(url) {
  const socket = new WebSocket(url.replace(/^http/, 'ws'));
  const line = {
    socket, heard: [], closed: null,
    send: (message) => socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    /** The next message of a type that came after `from`. */
    next: (type, from = 0) => until(type, () => line.heard.slice(from).find((one) => one.type === type)),
    /** Sends and waits for what is said to it. */
    ask: (message, type) => {
      const from = line.heard.length;
      line.send(message);
      return line.next(type, from);
    },
  };
  socket.onmessage = (event) => line.heard.push(JSON.parse(event.data));
  socket.onclose = (event) => { line.closed = event.code; };
  line.open = new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error(`${url} does not open`)); });
  return line;
}

async function offer(pc, line) {
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await line.ask({ type: 'offer_sdp', offer_sdp: pc.localDescription.sdp }, 'on_answer_sdp');
  if (answer.result) await pc.setRemoteDescription({ type: 'answer', sdp: answer.answer_sdp });
  return answer;
}

function viewer() {
  const pc = new RTCPeerConnection();
  const stream = new MediaStream();
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addEventListener('track', (event) => stream.addTrack(event.track));
  const video = document.querySelector('video');
  video.srcObject = stream;
  video.muted = true;
  video.play().catch(() => {});
  return pc;
}

async function inbound(pc, kind, name) {
  let sum = 0;
  (await pc.getStats()).forEach((one) => { if (one.type === 'inbound-rtp' && one.kind === kind) sum += one[name] ?? 0; });
  return sum;
}

const frames = (pc) => inbound(pc, 'video', 'framesDecoded');

/** Pictures decoded in so many milliseconds. */
async function during(pc, ms) {
  const before = await frames(pc);
  await wait(ms);
  return await frames(pc) - before;
}

const moves = (pc) => until('picture', async () => await during(pc, 300) > 3);

async function play(url) {
  const line = dial(url);
  await line.open;
  // Players ask for tracks as soon as they are connected.
  line.send({ type: 'tracks', video: 'all' });
  const pc = viewer();
  const report = { answer: (await offer(pc, line)).result };
  await moves(pc);
  report.first = await during(pc, 1500);
  report.sound = await inbound(pc, 'audio', 'packetsReceived');

  report.hold = await line.ask({ type: 'hold' }, 'pause');
  report.hold_time = await line.next('on_time', line.heard.length - 1);
  await wait(700);
  report.held = await during(pc, 1500);
  const lost = await inbound(pc, 'video', 'packetsLost');
  report.play = await line.ask({ type: 'play' }, 'pause');
  await moves(pc);
  report.resumed = await during(pc, 1500);
  report.lost = await inbound(pc, 'video', 'packetsLost') - lost;

  await line.ask({ type: 'hold' }, 'pause');
  report.seek = await line.ask({ type: 'seek', seek_time: 'live' }, 'on_seek');
  await moves(pc);

  report.none = await line.ask({ type: 'tracks', video: 'none' }, 'on_time');
  await wait(700);
  report.without = await during(pc, 1000);
  report.all = await line.ask({ type: 'tracks', video: 'all' }, 'on_time');
  await moves(pc);
  report.same = await line.ask({ type: 'tracks', video: report.all.tracks[0] }, 'on_time');

  report.errors = {};
  for (const [name, message] of Object.entries({
    track: { type: 'tracks', video: '99' }, selector: { type: 'tracks', audio: '<800kbps' }, past: { type: 'seek', seek_time: 5000 },
    fast: { type: 'set_speed', play_rate: 2 }, rtp: { type: 'rtp_props', nack: 5 }, codec: { type: 'request_codec_data' },
    bitrate: { type: 'video_bitrate', video_bitrate: 600000 }, keyframes: { type: 'keyframe_interval', keyframe_interval_millis: 1000 },
    dance: { type: 'dance' }, text: 'hello', second: { type: 'offer_sdp', offer_sdp: pc.localDescription.sdp },
  })) {
    report.errors[name] = await line.ask(message, 'on_error');
    await wait(110);
  }
  report.speed = await line.ask({ type: 'set_speed', play_rate: 'auto' }, 'on_speed');
  const from = line.heard.length;
  await wait(3200);
  report.times = line.heard.slice(from).filter((one) => one.type === 'on_time');
  report.playing = await during(pc, 500);

  line.send({ type: 'stop' });
  report.stop = await line.next('on_stop');
  report.closed = await until('close', () => line.closed);
  await until('end of the session', () => pc.connectionState !== 'connected');
  return report;
}

/** Nobody says goodbye: the WebSocket just closes. */
async function leave(url) {
  const line = dial(url);
  await line.open;
  const pc = viewer();
  await offer(pc, line);
  await moves(pc);
  line.socket.close();
  await until('end of the session', () => pc.connectionState !== 'connected', 8000);
  const none = dial(url.replace(/[^/]*$/, 'nothing'));
  await none.open;
  const refused = await offer(viewer(), none);
  return { state: pc.connectionState, refused, error: await none.next('on_error'), closed: none.closed };
}

async function channel(url) {
  const line = dial(url);
  await line.open;
  const pc = viewer();
  const said = [];
  const control = pc.createDataChannel('MistControl');
  const other = pc.createDataChannel('*', { protocol: 'JSON' });
  const noise = [];
  other.onmessage = (event) => noise.push(event.data);
  control.onmessage = (event) => said.push(JSON.parse(event.data));
  const ask = async (message, type) => {
    const from = said.length;
    control.send(JSON.stringify(message));
    return until(type, () => said.slice(from).find((one) => one.type === type));
  };
  await offer(pc, line);
  await until('control channel', () => control.readyState === 'open' && other.readyState === 'open');
  other.send('{"type":"stop"}');
  await moves(pc);
  const report = { hold: await ask({ type: 'hold' }, 'pause') };
  await wait(700);
  report.held = await during(pc, 1000);
  report.play = await ask({ type: 'play' }, 'pause');
  await moves(pc);
  report.seek = await ask({ type: 'seek', seek_time: 'live' }, 'seek');
  report.speed = await ask({ type: 'set_speed', play_rate: 'auto' }, 'set_speed');
  report.dance = await ask({ type: 'dance' }, 'on_error');
  report.time = await ask({ type: 'tracks' }, 'on_time');
  report.noise = noise;
  control.send('{"type":"stop"}');
  report.stop = await line.next('on_stop');
  return report;
}

/** Publishes over one WebSocket and plays over another. */
async function publish(url, play) {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 30 }, audio: true });
  const camera = () => {
    const pc = new RTCPeerConnection();
    for (const track of media.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
    return pc;
  };
  const report = {};
  const stranger = dial(url.replace(/\?.*/, ''));
  await stranger.open;
  report.refused = await offer(camera(), stranger);
  report.reason = await stranger.next('on_error');
  const line = dial(url);
  await line.open;
  const pc = camera();
  report.answer = (await offer(pc, line)).result;
  await until('connection', () => pc.connectionState === 'connected');
  report.media = await until('report of tracks', () => line.heard.find((one) => one.type === 'on_media_receive' && one.tracks.length === 2));
  report.bitrate = await line.ask({ type: 'video_bitrate', video_bitrate: 300000 }, 'on_video_bitrate');
  report.interval = await line.ask({ type: 'keyframe_interval', keyframe_interval_millis: 1000 }, 'on_keyframe_interval');
  report.hold = await line.ask({ type: 'hold' }, 'on_error');
  const sent = async (name) => {
    let value = 0;
    (await pc.getStats()).forEach((one) => { if (one.type === 'outbound-rtp' && one.kind === 'video') value += one[name] ?? 0; });
    return value;
  };
  const seen = dial(play);
  await seen.open;
  const view = viewer();
  await offer(view, seen);
  await moves(view);
  const keyframes = await sent('keyFramesEncoded');
  await wait(4000);
  report.keyframes = await sent('keyFramesEncoded') - keyframes;
  const bytes = await sent('bytesSent');
  await wait(2000);
  report.bits_per_s = (await sent('bytesSent') - bytes) * 4;
  line.socket.close();
  report.stop = await seen.next('on_stop');
  report.closed = await until('close', () => seen.closed);
  return report;
}

// ---- what drives it ------------------------------------------------------------------------------

const page = '<!doctype html><meta charset="utf-8"><title>rtc</title><video playsinline></video>';

try {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${server.address().port}/`;
  const browser = await chromium({ devices: true });
  await browser.open(address);
  for (let n = 0; n < 100; n++) {
    if (await browser.evaluate(`!!document.querySelector('video')`).catch(() => false)) break;
    await sleep(50);
  }
  const scenarios = { play, leave, channel, publish };
  const helpers = [until, dial, offer, viewer, inbound, during].map(String).join('\n');
  const short = `const wait = ${wait}; const frames = ${frames}; const moves = ${moves};`;
  const run = `(async () => { ${short}\n${helpers}\n return (${scenarios[scenario]})(...${JSON.stringify(urls)}); })()`;
  console.log(JSON.stringify(await browser.evaluate(run)));
  end(0);
} catch (error) {
  console.error(String(error?.stack ?? error));
  end(1);
}
