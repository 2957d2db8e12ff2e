// Plays a live HLS or DASH stream with hls.js or dash.js in headless Chromium.
//
//   node segments.mjs hls|dash MANIFEST_URL SECONDS SCREENSHOT.png
//
// The page is of another origin than the stream, as in life. Prints one JSON line: pictures, stalls,
// the latency by the stream's own dates (EXT-X-PROGRAM-DATE-TIME, availabilityStartTime), sound,
// errors. Exits 1 when it does not play.

import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { chromium, end, endAfter, sleep, sound } from './browser.mjs';

const [, , kind, manifest, seconds, screenshot] = process.argv;
const START_MAX_MS = 20_000;

endAfter(START_MAX_MS + Number(seconds) * 1000 + 25_000);

const scripts = {
  hls: new URL('node_modules/hls.js/dist/hls.min.js', import.meta.url),
  dash: new URL('node_modules/dashjs/dist/modern/umd/dash.all.min.js', import.meta.url),
};

// What both players have in common; `w.__latency` and `w.__errors` are the player's own.
const watch = `
  const w = window, video = document.querySelector('video');
  Object.assign(w, { __errors: [], __stalls: 0, __waits: [], __seeks: 0, __samples: [], __first: null });
  video.addEventListener('playing', () => { w.__first ??= performance.now(); });
  video.addEventListener('waiting', () => {
    if (w.__first === null || performance.now() - w.__first < 3000) return;
    w.__stalls++;
    w.__waits.push([Math.round(performance.now()), video.currentTime]);
  });
  video.addEventListener('seeking', () => { if (w.__first !== null) w.__seeks++; });
  video.addEventListener('error', () => w.__errors.push(video.error?.message ?? 'error'));
  setInterval(() => {
    const latency = w.__latency();
    if (w.__first !== null && Number.isFinite(latency)) w.__samples.push([performance.now() - w.__first, latency]);
  }, 100);
`;

const players = {
  hls: `
    const hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.1, debug: false });
    w.__hls = hls;
    w.__latency = () => hls.playingDate ? (Date.now() - hls.playingDate.getTime()) / 1000 : NaN;
    w.__details = () => ({
      target: hls.targetLatency, own: hls.latency, low: !!hls.latestLevelDetails?.partList?.length,
      levels: hls.levels.map((l) => ({ codecs: [l.videoCodec, l.audioCodec], width: l.width, rate: l.frameRate, bitrate: l.bitrate })),
    });
    hls.on(Hls.Events.ERROR, (_, data) =>
      w.__errors.push([data.type, data.details, data.fatal, data.url ?? data.frag?.url ?? '', String(data.error ?? ''), data.response?.code ?? 0].join(' ')));
    hls.on(Hls.Events.MANIFEST_PARSED, () => video.play());
    hls.loadSource(w.__manifest);
    hls.attachMedia(video);`,
  dash: `
    const player = dashjs.MediaPlayer().create();
    w.__dash = player;
    player.updateSettings({ debug: { logLevel: dashjs.Debug.LOG_LEVEL_ERROR }, streaming: { liveCatchup: { enabled: true } } });
    w.__latency = () => player.getCurrentLiveLatency();
    w.__details = () => ({ target: player.getTargetLiveDelay() });
    for (const name of ['ERROR', 'PLAYBACK_ERROR'])
      player.on(dashjs.MediaPlayer.events[name], (event) => w.__errors.push(JSON.stringify(event.error ?? event).slice(0, 400)));
    player.initialize(video, w.__manifest, true);`,
};

const page = `<!doctype html><meta charset="utf-8"><title>${kind}</title>
<body style="margin:0;background:#222;color:#eee;font:14px sans-serif"><video muted autoplay playsinline style="width:960px;height:540px"></video><pre></pre>
<script src="/player.js"></script><script>window.__manifest = ${JSON.stringify(manifest)};${watch}${players[kind]}</script>`;

// The picture's own clock is of no use here; the page says what it measures, for the screenshot.
const state = `(() => {
  const w = window, video = document.querySelector('video');
  const quality = video.getVideoPlaybackQuality();
  const late = w.__samples.filter(([at]) => at > 3000).map(([, latency]) => latency).sort((a, b) => a - b);
  const at = (share) => late.length ? late[Math.min(late.length - 1, Math.floor(late.length * share))] : null;
  const buffered = video.buffered;
  const state = {
    now: performance.now(), first_ms: w.__first, time: video.currentTime, paused: video.paused,
    frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
    width: video.videoWidth, height: video.videoHeight, rate: video.playbackRate,
    ahead: buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : null,
    latency: { first: w.__samples[0]?.[1] ?? null, p50: at(0.5), p99: at(0.99), max: at(1), last: late.length ? w.__samples.at(-1)[1] : null, count: late.length },
    stalls: w.__stalls, waits: w.__waits, seeks: w.__seeks, errors: w.__errors, details: w.__details(),
  };
  document.querySelector('pre').textContent = JSON.stringify(state, null, 1);
  return state;
})()`;

try {
  const server = createServer((request, response) => {
    const script = request.url === '/player.js';
    response.setHeader('content-type', script ? 'text/javascript' : 'text/html; charset=utf-8');
    response.end(request.url === '/favicon.ico' ? '' : script ? readFileSync(scripts[kind]) : page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await chromium();
  await browser.open(`http://127.0.0.1:${server.address().port}/`);
  const opened = Date.now();
  let seen;
  do {
    await sleep(100);
    try {
      seen = await browser.evaluate(state);
    } catch (error) {
      seen = { error: String(error) }; // The page is still being replaced.
    }
  } while (seen.first_ms == null && Date.now() - opened < START_MAX_MS);
  const before = seen;
  await sleep(Number(seconds) * 1000);
  const after = seen.first_ms == null ? seen : await browser.evaluate(state);
  const heard = seen.first_ms == null ? null : await browser.evaluate(sound).catch((error) => ({ error: String(error), peak: 0 }));
  writeFileSync(screenshot, Buffer.from(await browser.picture(), 'base64'));
  const report = { kind, seconds: (after.now - before.now) / 1000, advanced: after.time - before.time, ...after, sound: heard };
  console.log(JSON.stringify(report));
  end(seen.first_ms != null && report.advanced > 0.5 * report.seconds ? 0 : 1);
} catch (error) {
  console.error(error);
  end(1);
}
