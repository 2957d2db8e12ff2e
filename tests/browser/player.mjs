// Opens a page in a headless browser and says what a person would see and hear.
//
//   node player.mjs chromium|firefox URL SCREENSHOT.png
//
// Prints one JSON line: pictures decoded, sound level, time to the first picture, distance from the
// live edge, errors. Exits 1 when no picture or no sound came in time.

import { writeFileSync } from 'node:fs';
import { chromium, end, endAfter, firefox, sleep, sound } from './browser.mjs';

const [, , browserName, url, screenshot] = process.argv;
const PLAY_MS = Number(process.env.RINGSIDE_PLAY_MS ?? 6_000);

endAfter(34_000 + PLAY_MS);

// Runs in the page. The time of the first picture is taken by whoever comes first: a frame callback,
// or, when the picture was there before this script, the poll below.
const state = `(() => {
  const video = document.querySelector('video');
  if (!video) return { video: false, now: performance.now(), text: document.body?.innerText.slice(0, 300) };
  const w = window;
  if (!w.__watched) {
    w.__watched = true;
    w.__errors = [];
    video.addEventListener('error', () => w.__errors.push(video.error?.message ?? 'error'));
    if (video.requestVideoFrameCallback && video.readyState < 2)
      video.requestVideoFrameCallback((now) => { w.__first ??= now; });
  }
  const quality = video.getVideoPlaybackQuality();
  const frames = w.ringside?.frames?.total ?? quality.totalVideoFrames;
  if (frames > 0) w.__first ??= performance.now();
  const buffered = video.buffered;
  return {
    video: true, now: performance.now(), first: w.__first ?? null, time: video.currentTime, paused: video.paused,
    frames, dropped: quality.droppedVideoFrames, muted: video.muted,
    width: video.videoWidth, height: video.videoHeight, ready: video.readyState,
    ahead: buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : w.ringside?.latency ?? null,
    player: w.ringside?.player, notes: w.ringside?.notes, state: w.ringside?.state, connections: w.ringside?.connections,
    protocol: performance.getEntriesByType('navigation')[0]?.nextHopProtocol,
    errors: w.__errors, text: document.body.innerText.slice(0, 600),
  };
})()`;

// What came by WebRTC, if that is how the page plays.
const inbound = `(async () => {
  const peer = window.ringside?.peer;
  if (!peer) return null;
  const found = [];
  (await peer.getStats()).forEach((one) => { if (one.type === 'inbound-rtp') found.push(one); });
  return found.map((one) => ({
    kind: one.kind, packets: one.packetsReceived, decoded: one.framesDecoded, freezes: one.freezeCount, energy: one.totalAudioEnergy,
  }));
})()`;

try {
  const page = await { chromium, firefox }[browserName]();
  await page.open(url);
  let seen;
  const opened = Date.now();
  do {
    await sleep(25);
    try {
      seen = await page.evaluate(state);
    } catch (error) {
      seen = { error: String(error) }; // The page is still being replaced.
    }
  } while (!(seen.frames > 0) && Date.now() - opened < 15_000);
  const { first } = seen;
  await sleep(PLAY_MS);
  const before = await page.evaluate(state);
  const heard = before.video ? await page.evaluate(sound) : { tracks: 0, peak: 0 };
  await sleep(1000);
  const after = await page.evaluate(state);
  after.inbound = await page.evaluate(inbound);
  if (process.env.RINGSIDE_SHOW_PANEL) await page.evaluate(`(document.getElementById('info').click(), 0)`);
  writeFileSync(screenshot, Buffer.from(await page.picture(), 'base64'));
  const report = { browser: browserName, first_picture_ms: first, ...after, advanced: after.time - before.time, sound: heard };
  console.log(JSON.stringify(report));
  end(after.frames > 30 && report.advanced > 0.5 && heard.peak > 0.01 ? 0 : 1);
} catch (error) {
  console.error(error);
  end(1);
}
