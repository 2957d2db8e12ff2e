// Publishes by WHIP and plays by WHEP in a headless browser, and says what its statistics say.
//
//   node rtc.mjs chromium|firefox PLAN.json SCREENSHOT.png
//
// The plan: `publish` (one publication) and `play` (a list of viewers), each with a `url`; `seconds`
// to watch. With `publish` and no `play` it goes on until it is told to end by SIGTERM, having
// printed `publishing`. The page is of another origin than the stream, as in life. Prints one JSON
// line; exits 1 when a request was refused or nothing came.

import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import * as browsers from './browser.mjs';

const { end, endAfter, sleep, sound } = browsers;
const [, , browserName, planPath, screenshot] = process.argv;
const plan = JSON.parse(readFileSync(planPath, 'utf8'));
const START_MAX_MS = 20_000;
const views = plan.play ?? [];
const seconds = plan.seconds ?? 8;

endAfter(3 * START_MAX_MS + (seconds + 20) * 1000 * (plan.each ? views.length : 1) + (views.length ? 0 : 120_000));

// ---- what runs in the page -----------------------------------------------------------------------

/** Posts the offer, and leaves the connection in `window.__peers`. */
async function offer(pc, plan) {
  const w = window;
  const created = await pc.createOffer();
  const edited = plan.strip ? created.sdp.split('\r\n').filter((line) => !line.includes(plan.strip)).join('\r\n') : created.sdp;
  await pc.setLocalDescription({ type: 'offer', sdp: edited });
  const began = performance.now();
  const headers = { 'content-type': 'application/sdp' };
  if (plan.token) headers.authorization = `Bearer ${plan.token}`;
  const response = await fetch(plan.url, { method: 'POST', headers, body: pc.localDescription.sdp });
  let answer = await response.text();
  if (response.status !== 201) throw new Error(`${plan.url}: ${response.status} ${answer}`);
  // One transport can be left out by a network; here the page does.
  if (plan.only)
    answer = answer.split('\r\n').filter((line) => !line.startsWith('a=candidate') || line.toLowerCase().includes(` ${plan.only} `)).join('\r\n');
  // A relay stands between the page and the server.
  if (plan.via)
    answer = answer.split('\r\n').filter((line) => !/^a=candidate.* tcp /i.test(line))
      .map((line) => line.replace(/^(a=candidate:\S+ \d+ udp \d+ \S+ )\d+/i, (_, head) => head + plan.via)).join('\r\n');
  const location = response.headers.get('location');
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  const peer = {
    pc, began, answer, offer: pc.localDescription.sdp, etag: response.headers.get('etag'), states: [],
    location: location && new URL(location, plan.url).href, answered: performance.now(), first: null,
  };
  pc.addEventListener('connectionstatechange', () => peer.states.push(pc.connectionState));
  (w.__peers ??= []).push(peer);
  return peer;
}

async function publish(plan) {
  const size = plan.size ?? [640, 360];
  const media = await navigator.mediaDevices.getUserMedia({
    video: plan.video ? { width: size[0], height: size[1], frameRate: 30 } : false, audio: plan.audio ?? true,
  });
  const pc = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const init = { direction: 'sendonly', streams: [media] };
    if (track.kind === 'video' && plan.rids)
      init.sendEncodings = plan.rids.map((rid, n) => ({ rid, scaleResolutionDownBy: 2 ** (plan.rids.length - 1 - n) }));
    const transceiver = pc.addTransceiver(track, init);
    const codec = track.kind === 'video' ? plan.video : plan.sound;
    if (codec) {
      const all = RTCRtpSender.getCapabilities(track.kind).codecs;
      const wanted = all.filter((one) => one.mimeType.toLowerCase() === `${track.kind}/${codec}`.toLowerCase());
      if (!wanted.length) throw new Error(`no encoder for ${codec}: ${[...new Set(all.map((one) => one.mimeType))]}`);
      const rest = all.filter((one) => /\/(rtx|red|ulpfec)$/i.test(one.mimeType));
      transceiver.setCodecPreferences([...wanted, ...rest]);
    }
  }
  if (plan.red) preferRed(pc, RTCRtpSender);
  const video = document.querySelector('video');
  video.srcObject = media;
  video.muted = true;
  await video.play();
  const peer = await offer(pc, plan);
  return { location: peer.location, etag: peer.etag };
}

/** Sound with older sound in front (RFC 2198), rather than plain. */
function preferRed(pc, side) {
  const all = side.getCapabilities('audio').codecs;
  const isRed = (one) => one.mimeType === 'audio/red';
  const audio = pc.getTransceivers().find((one) => (one.sender.track ?? one.receiver.track).kind === 'audio');
  audio.setCodecPreferences([...all.filter(isRed), ...all.filter((one) => !isRed(one))]);
}

async function play(plan) {
  const pc = new RTCPeerConnection();
  const stream = new MediaStream();
  if (plan.video !== false) pc.addTransceiver('video', { direction: 'recvonly' });
  if (plan.audio !== false) pc.addTransceiver('audio', { direction: 'recvonly' });
  if (plan.red) preferRed(pc, RTCRtpReceiver);
  const video = document.querySelector('video');
  pc.addEventListener('track', (event) => stream.addTrack(event.track));
  video.srcObject = stream;
  const peer = await offer(pc, plan);
  video.requestVideoFrameCallback?.((now) => { peer.first = now; });
  video.play().catch(() => {});
  return { location: peer.location, etag: peer.etag };
}

/** Ends a session as a page does that says goodbye. */
async function leave(index) {
  const [peer] = window.__peers.splice(index, 1);
  const response = await fetch(peer.location, { method: 'DELETE' });
  peer.pc.close();
  return response.status;
}

async function statistics() {
  const reports = [];
  for (const peer of window.__peers ?? []) {
    const all = new Map();
    (await peer.pc.getStats()).forEach((one) => all.set(one.id, one));
    const list = [...all.values()];
    const codec = (one) => all.get(one.codecId)?.mimeType ?? null;
    const pick = (one, names) => Object.fromEntries(names.map((name) => [name, one[name] ?? null]));
    const pair = list.find((one) => one.type === 'candidate-pair' && (one.selected || (one.nominated && one.state === 'succeeded')));
    reports.push({
      now: performance.now(), state: peer.pc.connectionState, ice: peer.pc.iceConnectionState, states: peer.states,
      first_ms: peer.first === null ? null : peer.first - peer.began, location: peer.location, etag: peer.etag,
      protocol: (pair && all.get(pair.remoteCandidateId)?.protocol) ?? null,
      remote: (pair && all.get(pair.remoteCandidateId)?.address) ?? null,
      dtls: list.find((one) => one.type === 'transport')?.tlsVersion ?? null,
      srtp: list.find((one) => one.type === 'transport')?.srtpCipher ?? null,
      inbound: list.filter((one) => one.type === 'inbound-rtp').map((one) => ({
        kind: one.kind, codec: codec(one),
        ...pick(one, ['packetsReceived', 'bytesReceived', 'packetsLost', 'packetsDiscarded', 'nackCount', 'pliCount', 'firCount', 'jitter',
          'framesReceived', 'framesDecoded', 'framesDropped', 'keyFramesDecoded', 'freezeCount', 'totalFreezesDuration',
          'frameWidth', 'frameHeight', 'framesPerSecond', 'totalAudioEnergy', 'totalSamplesReceived', 'concealedSamples',
          'silentConcealedSamples', 'concealmentEvents', 'retransmittedPacketsReceived', 'jitterBufferDelay', 'jitterBufferEmittedCount', 'decoderImplementation']),
      })),
      outbound: list.filter((one) => one.type === 'outbound-rtp').map((one) => ({
        kind: one.kind, codec: codec(one),
        ...pick(one, ['rid', 'packetsSent', 'bytesSent', 'framesEncoded', 'keyFramesEncoded', 'nackCount', 'pliCount', 'firCount', 'frameWidth',
          'frameHeight', 'qualityLimitationReason', 'retransmittedPacketsSent', 'encoderImplementation', 'targetBitrate', 'active']),
      })),
    });
  }
  return reports;
}

// ---- what drives it ------------------------------------------------------------------------------

const page = `<!doctype html><meta charset="utf-8"><title>rtc</title>
<body style="margin:0;background:#222;color:#eee;font:12px sans-serif"><video playsinline style="width:640px;height:360px"></video><pre></pre>`;

const call = (browser, f, ...args) => {
  const body = [offer, publish, preferRed, play, leave, statistics].map(String).join('\n');
  return browser.evaluate(`(() => { ${body}\n return ${f.name}(...${JSON.stringify(args)}); })()`);
};

async function open(browser, address) {
  await browser.open(address);
  for (let n = 0; n < 100; n++) {
    const isThere = await browser.evaluate(`location.href === ${JSON.stringify(address)} && !!document.querySelector('video')`).catch(() => false);
    if (isThere) return;
    await sleep(50);
  }
  throw new Error(`${address} does not open`);
}

/** Statistics of the newest peer of a page, once `is` holds of them. */
async function until(browser, what, is) {
  const began = Date.now();
  for (;;) {
    const report = (await call(browser, statistics)).at(-1);
    if (is(report)) return report;
    if (Date.now() - began > START_MAX_MS) throw new Error(`no ${what} in time: ${JSON.stringify(report)}`);
    await sleep(100);
  }
}

const total = (list, kind, name) => list.filter((one) => one.kind === kind).reduce((sum, one) => sum + (one[name] ?? 0), 0);

/** What a viewer sees between two looks. */
function since(before, after) {
  const get = (kind, name) => total(after.inbound, kind, name) - total(before.inbound, kind, name);
  return {
    seconds: (after.now - before.now) / 1000, decoded: get('video', 'framesDecoded'), freezes: get('video', 'freezeCount'),
    frozen: get('video', 'totalFreezesDuration'), energy: get('audio', 'totalAudioEnergy'), samples: get('audio', 'totalSamplesReceived'),
    concealed: get('audio', 'concealedSamples') - get('audio', 'silentConcealedSamples'), lost: get('video', 'packetsLost') + get('audio', 'packetsLost'),
  };
}

async function watch(viewer, view) {
  await call(viewer, play, view);
  const wantsVideo = view.video !== false && !view.silent_video;
  const first = await until(viewer, 'media', (one) =>
    one && (wantsVideo ? total(one.inbound, 'video', 'framesDecoded') > 0 : total(one.inbound, 'audio', 'packetsReceived') > 20));
  // The sender's first second settles its bitrate, and a join may take a keyframe's time.
  await sleep(1500);
  const before = (await call(viewer, statistics)).at(-1);
  if (view.then) await sleep(seconds * 500);
  const extra = view.then ? await later(viewer, view.then, before) : {};
  await sleep(view.then ? seconds * 500 : seconds * 1000);
  const after = (await call(viewer, statistics)).at(-1);
  const heard = view.audio === false || view.no_sound ? null : await viewer.evaluate(sound).catch((error) => ({ error: String(error), peak: 0 }));
  return { ...after, first_ms: first.first_ms ?? after.first_ms, during: since(before, after), sound: heard, ...extra };
}

/** Sends a PATCH or the like while a viewer plays. */
async function later(viewer, then, before) {
  const answer = await viewer.evaluate(`(async () => {
    const peer = window.__peers.at(-1);
    const address = peer.location + ${JSON.stringify(then.path ?? '')};
    const response = await fetch(address, ${JSON.stringify(then.request)});
    return { status: response.status, text: await response.text() };
  })()`);
  return { then: answer, before };
}

try {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(request.url === '/favicon.ico' ? '' : page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${server.address().port}/`;
  let browser = await browsers[browserName]({ devices: true });
  await open(browser, address);
  const report = { browser: browserName };
  const publisher = plan.publish && browser;
  if (plan.publish) {
    report.created = await call(browser, publish, plan.publish);
    await until(browser, 'packets sent', (one) => one.outbound.some((out) => out.packetsSent > 10));
    console.error('publishing');
    if (plan.settle) await sleep(plan.settle * 1000);
  }
  if (!views.length) {
    for (;;) {
      await sleep(1000);
      writeFileSync(screenshot.replace(/png$/, 'stats.json'), JSON.stringify(await call(browser, statistics)));
    }
  }
  if (plan.publish) {
    browser = await browser.another();
    await open(browser, address);
  }
  report.views = [];
  for (const view of views) {
    report.views.push(await watch(browser, view));
    writeFileSync(screenshot, Buffer.from(await browser.picture(), 'base64'));
    const index = (await call(browser, statistics)).length - 1;
    report.views.at(-1).left = await call(browser, leave, index);
  }
  if (publisher) {
    [report.publisher] = await call(publisher, statistics);
    report.publisher.left = await call(publisher, leave, 0);
  }
  console.log(JSON.stringify(report));
  end(0);
} catch (error) {
  console.error(String(error?.stack ?? error));
  end(1);
}
