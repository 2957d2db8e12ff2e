// Starts a headless browser and drives it: Chromium by its DevTools protocol, Firefox by WebDriver
// BiDi; both are JSON over one WebSocket.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';

const profile = mkdtempSync(join(tmpdir(), 'ringside-browser-'));
let browser;

/** Ends the browser, then this process. */
export function end(code) {
  try {
    if (browser?.exitCode === null) browser.kill('SIGKILL');
  } finally {
    // A browser that has just been killed may still be writing.
    setTimeout(() => {
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
      process.exit(code);
    }, 300);
  }
}

/** Ends with a failure when the time is over. */
export function endAfter(ms) {
  setTimeout(() => {
    console.error(`not done after ${ms} ms`);
    end(1);
  }, ms).unref();
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Whoever waits for this process may stop it at any time.
process.on('SIGTERM', () => end(0));

/** Starts a program, which dies with this one, and gives the first match of `pattern` in what it says. */
function start(program, args, pattern, environment = {}) {
  return new Promise((resolve, reject) => {
    browser = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...environment } });
    let said = '';
    browser.stderr.on('data', (data) => {
      said += data;
      const match = said.match(pattern);
      if (match) resolve(match[1]);
    });
    browser.on('error', reject);
    browser.on('exit', (code) => reject(new Error(`${program} ended with ${code}: ${said.slice(-2000)}`)));
  });
}

/** A connection that matches answers to requests by their id. */
async function dial(address) {
  const socket = new WebSocket(address, { perMessageDeflate: false, maxPayload: 64 << 20 });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const waiting = new Map();
  let last = 0;
  socket.on('message', (text) => {
    const message = JSON.parse(text);
    const request = waiting.get(message.id);
    if (!request) return;
    waiting.delete(message.id);
    if (message.error) request.reject(new Error(JSON.stringify(message)));
    else request.resolve(message.result);
  });
  return (method, params = {}, extra = {}) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      socket.send(JSON.stringify({ id, method, params, ...extra }));
    });
}

// A camera with a moving picture, and a microphone that beeps every second.
const fakeDevices = [
  '--use-fake-device-for-media-stream=fps=30', '--use-fake-ui-for-media-stream',
  // Pages that share one machine with an encoder are not to be slowed down when nobody looks.
  '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
];

/** What the tests need of a browser: run a script in the page, and a picture of it. */
export async function chromium({ devices = false } = {}) {
  const address = await start(
    'chromium',
    [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--disable-dev-shm-usage', '--mute-audio', '--autoplay-policy=no-user-gesture-required',
      '--window-size=1000,700', '--remote-debugging-port=0', `--user-data-dir=${profile}`,
      // The tests' own certificates are nobody's.
      ...(process.env.RINGSIDE_ANY_CERTIFICATE ? ['--ignore-certificate-errors'] : []),
      ...(devices ? fakeDevices : []),
      'about:blank',
    ],
    /DevTools listening on (ws:\S+)/,
  );
  const call = await dial(address);
  const { targetInfos } = await call('Target.getTargets');
  const { targetId } = targetInfos.find((target) => target.type === 'page');
  return inChromium(call, targetId);
}

async function inChromium(call, targetId) {
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  const inPage = (method, params) => call(method, params, { sessionId });
  await inPage('Page.enable');
  await inPage('Runtime.enable');
  return {
    another: async () =>
      inChromium(call, (await call('Target.createTarget', { url: 'about:blank', newWindow: true })).targetId),
    open: (address) => inPage('Page.navigate', { url: address }),
    async evaluate(script) {
      const answer = await inPage('Runtime.evaluate', {
        expression: script, awaitPromise: true, returnByValue: true, userGesture: true,
      });
      if (answer.exceptionDetails) throw new Error(JSON.stringify(answer.exceptionDetails));
      return answer.result.value;
    },
    picture: async () => (await inPage('Page.captureScreenshot', { format: 'png' })).data,
    /** Holds a key, by its place on the keyboard. */
    async press(code, ms = 50) {
      const { bidi, ...key } = { code, ...keys[code] };
      await inPage('Input.dispatchKeyEvent', { type: key.text ? 'keyDown' : 'rawKeyDown', ...key });
      await sleep(ms);
      await inPage('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
    },
    /** Types text into what has the focus. */
    async type(text) {
      for (const letter of text) {
        const key = { key: letter, code: `Key${letter.toUpperCase()}` };
        await inPage('Input.dispatchKeyEvent', { type: 'keyDown', text: letter, ...key });
        await inPage('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
      }
    },
    /** Touches a point, and holds it. */
    async touch(x, y, ms) {
      await inPage('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x, y }] });
      await sleep(ms);
      await inPage('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    },
    /** Looks like another screen. */
    async screen({ width = 1000, height = 700, ratio = 1, scheme = 'light' }) {
      await inPage('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: ratio, mobile: width < 500 });
      await inPage('Emulation.setTouchEmulationEnabled', { enabled: width < 500 });
      await inPage('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    },
  };
}

// What the two protocols call the keys that the tests press.
const keys = {
  ArrowLeft: { key: 'ArrowLeft', windowsVirtualKeyCode: 37, bidi: '\uE012' },
  ArrowUp: { key: 'ArrowUp', windowsVirtualKeyCode: 38, bidi: '\uE013' },
  ArrowRight: { key: 'ArrowRight', windowsVirtualKeyCode: 39, bidi: '\uE014' },
  ArrowDown: { key: 'ArrowDown', windowsVirtualKeyCode: 40, bidi: '\uE015' },
  KeyS: { key: 's', windowsVirtualKeyCode: 83, bidi: 's' },
  Enter: { key: 'Enter', windowsVirtualKeyCode: 13, text: '\r', bidi: '\uE007' },
  Escape: { key: 'Escape', windowsVirtualKeyCode: 27, bidi: '\uE00C' },
};

// A camera and a microphone, and no question to a person.
const fakeDevicePreferences = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.getusermedia.insecure.enabled': true,
};

export async function firefox({ devices = false } = {}) {
  const preferences = {
    'media.autoplay.default': 0,
    'media.autoplay.blocking_policy': 0,
    'browser.shell.checkDefaultBrowser': false,
    'datareporting.policy.dataSubmissionEnabled': false,
    'toolkit.telemetry.enabled': false,
    'app.update.enabled': false,
    'app.normandy.enabled': false,
    'browser.safebrowsing.malware.enabled': false,
    'browser.safebrowsing.phishing.enabled': false,
    'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false,
    'extensions.systemAddon.update.enabled': false,
    'services.settings.server': 'data:,',
    'browser.topsites.contile.enabled': false,
    'browser.newtabpage.enabled': false,
    'browser.startup.homepage': 'about:blank',
    'media.gmp-manager.updateEnabled': false,
    ...(devices ? fakeDevicePreferences : {}),
  };
  writeFileSync(
    join(profile, 'user.js'),
    Object.entries(preferences).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(''),
  );
  const address = await start(
    'firefox-esr',
    ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0', 'about:blank'],
    /WebDriver BiDi listening on (ws:\S+)/,
    { HOME: profile, MOZ_CRASHREPORTER_DISABLE: '1', MOZ_DISABLE_CONTENT_SANDBOX: '1' },
  );
  const call = await dial(`${address}/session`);
  await call('session.new', { capabilities: {} });
  const { contexts } = await call('browsingContext.getTree');
  const { context } = contexts[0];
  return inFirefox(call, context);
}

async function inFirefox(call, context) {
  await call('browsingContext.setViewport', { context, viewport: { width: 1000, height: 700 } });
  return {
    another: async () => inFirefox(call, (await call('browsingContext.create', { type: 'window' })).context),
    open: (address) => call('browsingContext.navigate', { context, url: address, wait: 'none' }),
    async evaluate(script) {
      // A result travels as text: BiDi has a notation of its own for objects.
      const answer = await call('script.evaluate', {
        expression: `Promise.resolve(${script}).then(JSON.stringify)`,
        target: { context }, awaitPromise: true, userActivation: true,
      });
      if (answer.type === 'exception') throw new Error(answer.exceptionDetails.text);
      return answer.result.value === undefined ? undefined : JSON.parse(answer.result.value);
    },
    picture: async () => (await call('browsingContext.captureScreenshot', { context })).data,
    async press(code, ms = 50) {
      const value = keys[code].bidi;
      const actions = [{ type: 'keyDown', value }, { type: 'pause', duration: ms }, { type: 'keyUp', value }];
      await call('input.performActions', { context, actions: [{ type: 'key', id: 'keyboard', actions }] });
    },
    async type(text) {
      const actions = [...text].flatMap((value) => [{ type: 'keyDown', value }, { type: 'keyUp', value }]);
      await call('input.performActions', { context, actions: [{ type: 'key', id: 'keyboard', actions }] });
    },
  };
}

// The loudest sample in a second of the video's own sound. Recorded from the element and decoded
// again, because an AudioContext does not run in every browser on a machine without a loudspeaker.
export const sound = `(async () => {
  const video = document.querySelector('video');
  video.muted = false;
  if (video.paused) await video.play();
  const stream = video.captureStream ? video.captureStream() : video.mozCaptureStream();
  const tracks = stream.getAudioTracks();
  if (tracks.length === 0) return { tracks: 0, peak: 0 };
  const recorder = new MediaRecorder(new MediaStream(tracks));
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 1200));
  recorder.stop();
  await stopped;
  const bytes = await new Blob(parts).arrayBuffer();
  const decoded = await new OfflineAudioContext(2, 48000, 48000).decodeAudioData(bytes);
  let peak = 0;
  for (let channel = 0; channel < decoded.numberOfChannels; channel++)
    for (const sample of decoded.getChannelData(channel)) peak = Math.max(peak, Math.abs(sample));
  return { tracks: tracks.length, peak, seconds: decoded.duration };
})()`;
