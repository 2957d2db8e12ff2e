// The page at `/space.html`: `client.js` is in the space, and this is what a person sees of it.
//
// Parameters: `space` names the space, `name` the player; `token` is a join token; `host` is another
// server than this one, as `example.com:4000` or with `ws://` or `wss://` before it.

import { SpaceClient } from './client.js';
import { GroundMap, hue } from './map.js';
import { Sound } from './sound.js';

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const map = new GroundMap(document.querySelector('canvas'));
let sound = null;
let client = null;
let microphone = null;
let hasWalked = false;
let isEntering = false;
const isLocal = /^(localhost|127\.|\[::1\])/.test(location.hostname);

const refusals = {
  full: 'This space is full. Try again when somebody has left.',
  token: 'Entering this space takes an invitation, and the one in this link is missing, has expired or is for another space.',
  banned: 'You have been put out of this space for a while.',
  limit: 'The server takes no more spaces, or this name is too long for one.',
  insecure: 'This page came by HTTPS, but the server of spaces has no certificate (spaces.cert and spaces.key), so the browser may not connect to it.',
};

/** Text that is there, or an element that is not. */
function note(element, words) {
  element.hidden = !words;
  (element.querySelector('span') ?? element).textContent = words;
}

// ---- coming and going ------------------------------------------------------------------------------

const remembered = (key) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // Some browsers keep nothing for a page.
  }
};
const remember = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch { /* As above. */ }
};

$('name').value = parameters.get('name') ?? remembered('space-name') ?? '';
$('world').value = parameters.get('space') ?? 'lobby';
// Whoever follows a link should see where it leads before a microphone is switched on.
const host = parameters.get('host');
note($('server'), host ? `On another server: ${host}` : '');
$(parameters.has('space') || $('name').value === '' ? 'name' : 'world').focus();

/** Where the server says that its spaces are, or where the link says. */
async function address() {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  if (host) return /^wss?:\/\//.test(host) ? host : `${scheme}//${host}`;
  const response = await fetch('space.json', { cache: 'no-store' });
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  const { url, port, tls } = await response.json();
  // Behind a proxy it may be a path at the page's own host.
  if (url) return url.startsWith('/') ? `${scheme}//${location.host}${url}` : url;
  return `${tls ? 'wss' : 'ws'}://${location.hostname}:${port}/`;
}

$('enter').addEventListener('submit', async (event) => {
  event.preventDefault();
  const [name, world] = [$('name').value.trim(), $('world').value.trim()];
  if (!name || !world || client || isEntering) return;
  remember('space-name', name);
  note($('refusal'), '');
  // Made here, in what the person does: else the browser keeps it silent.
  sound ??= new Sound();
  sound.wake();
  isEntering = true;
  try {
    client = new SpaceClient({ url: await address(), world, name, token: parameters.get('token') });
  } catch (error) {
    return note($('refusal'), `The server cannot be reached. ${error.message}`);
  } finally {
    isEntering = false;
  }
  for (const [type, handle] of Object.entries(events)) client.addEventListener(type, handle);
  // Not all on one spot.
  const angle = Math.random() * 2 * Math.PI;
  Object.assign(client.place, { x: 2.5 * Math.sin(angle), z: 2.5 * Math.cos(angle), heading: angle });
  globalThis.space = { client, sound, map }; // For the curious, at the console.
  hasWalked = false;
  $('hint').classList.remove('done');
  $('where').textContent = world;
  document.title = `${world} · spaces`;
  history.replaceState(null, '', link());
  $('log').replaceChildren();
  $('entrance').hidden = true;
  $('room').hidden = false;
  map.canvas.focus();
  client.listen($('ears').getAttribute('aria-pressed') === 'true');
  client.connect();
  listenToMe();
});

function out(words) {
  client = null;
  silence();
  stand();
  for (const row of rows.values()) row.remove();
  rows.clear();
  known.clear();
  $('room').hidden = true;
  $('entrance').hidden = false;
  note($('refusal'), words);
  $('name').focus();
  document.title = 'spaces';
}

$('leave').addEventListener('click', () => client?.leave());
// The others need not wait until the server has noticed.
addEventListener('pagehide', () => client?.leave());
addEventListener('online', () => client?.state === 'waiting' && client.connect());
$('again').addEventListener('click', () => client?.connect());

// ---- what happens in the space ---------------------------------------------------------------------

const events = {
  state() {
    const { state, reason, words } = client;
    if (state === 'out') return out(reason === 'kicked' ? `You have been put out of the space. ${words}` : refusals[reason] ?? reason);
    $('again').hidden = state !== 'waiting';
    if (state === 'in') note($('banner'), reason === 'draining' ? 'The server is about to be restarted.' : '');
    if (state === 'connecting') note($('banner'), reason ? 'Connecting again…' : 'Connecting…');
    if (state === 'waiting') countdown();
    people();
  },
  player({ detail: id }) {
    const player = client.players.get(id);
    // What there is to tell is told when nobody is just being counted again.
    const before = known.get(id);
    if (client.state === 'in') {
      if (player && !before) setTimeout(greet, 400, client, id);
      if (!player && before) news(`${before} leaves.`);
    }
    if (player) known.set(id, player.name);
    else known.delete(id);
    people();
  },
  media() {
    if (client.isReachable) note($('banner'), '');
    else countdown();
  },
  place({ detail: id }) {
    sound.place(id, client.place, client.players.get(id)?.place);
  },
  voice({ detail: { player, track } }) {
    if (!track) return sound.remove(player);
    sound.add(player, track);
    sound.place(player, client.place, client.players.get(player)?.place);
  },
  chat({ detail: { player, message } }) {
    map.say(player, message);
    const name = document.createElement('b');
    name.style.setProperty('--hue', hue(player));
    name.textContent = client.players.get(player)?.name ?? '?';
    log(name, message);
  },
};

const known = new Map();

/** Some say their name only when they are in. */
function greet(asked, id) {
  const player = client === asked && client.players.get(id);
  if (player) news(`${player.name} comes in.`);
}

let counting = 0;

function countdown() {
  clearTimeout(counting);
  const isCut = client?.state === 'in' && !client.isReachable;
  if (client?.state !== 'waiting' && !isCut) return;
  const seconds = Math.max(1, Math.ceil((client.retryAt - Date.now()) / 1000));
  const why = isCut ? unreachable() : client.reason === 'draining' ? 'The server is being restarted.' : 'The server is gone.';
  note($('banner'), `${why} Trying again in ${seconds} s.`);
  counting = setTimeout(countdown, 500);
}

function unreachable() {
  // It looks for ways through the machine's network only, unless it is told otherwise.
  const isHome = ({ ip }) => /^(127\.|::1$)/.test(ip);
  const isFirefoxAtHome = client.candidates.every(isHome) && /Firefox\//.test(navigator.userAgent);
  return isFirefoxAtHome
    ? 'Firefox has no voices and places of a server at 127.0.0.1 unless media.peerconnection.ice.loopback is true in about:config. Chat works.'
    : `Chat works, but voices and places find no way to the server: its port ${client.candidates[0]?.port} (UDP or TCP) cannot be reached.`;
}

// ---- people and chat -------------------------------------------------------------------------------

const rows = new Map();

/** The list says in words what the map shows. */
function people() {
  if (!client) return;
  const { players, me } = client;
  for (const [id, row] of rows) {
    if (players.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const { id, name, place, isTalking } of players.values()) {
    let row = rows.get(id);
    if (!row) {
      row = document.createElement('li');
      row.dataset.player = id;
      row.style.setProperty('--hue', hue(id));
      row.append(document.createElement('i'), document.createElement('b'), document.createElement('span'));
      rows.set(id, row);
      if (id === me) $('people').prepend(row);
      else $('people').append(row);
    }
    row.classList.toggle('talks', isTalking);
    const metres = place ? `${Math.round(Math.hypot(place.x - client.place.x, place.z - client.place.z))} m` : 'somewhere';
    set(row.querySelector('b'), id === me ? `${name} (you)` : name);
    set(row.querySelector('span'), [isTalking && 'talks', id !== me && metres].filter(Boolean).join(' · '));
  }
  const count = players.size;
  set($('count'), client.state !== 'in' ? '' : count === 1 ? '1 person' : `${count} people`);
  const isAlone = client.state === 'in' && count === 1;
  if (isAlone && $('invite').hidden) invite();
  $('invite').hidden = !isAlone;
}

/** Changes text only where it is another, so that screen readers are not told again. */
function set(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

setInterval(people, 250);

const LINES_MAX = 200;

/** The newest line is shown unless somebody reads older ones. */
let isFollowing = true;
const follow = () => isFollowing && ($('log').scrollTop = $('log').scrollHeight);
let lastTop = 0;
$('log').addEventListener('scroll', () => {
  const { scrollHeight, scrollTop, clientHeight } = $('log');
  // The end can also go away beneath it: only a person moves it up.
  if (scrollHeight - scrollTop - clientHeight < 40) isFollowing = true;
  else if (scrollTop < lastTop) isFollowing = false;
  lastTop = scrollTop;
});
new ResizeObserver(follow).observe($('log'));

function log(...parts) {
  const line = document.createElement('p');
  line.append(...parts);
  const list = $('log');
  list.append(line);
  while (list.childElementCount > LINES_MAX) list.firstElementChild.remove();
  follow();
  return line;
}

function news(words) {
  log(words).className = 'news';
}

$('write').addEventListener('submit', (event) => {
  event.preventDefault();
  const words = $('words').value.trim();
  if (!words || client?.state !== 'in') return;
  client.chat(words);
  $('words').value = '';
});

// ---- an invitation ---------------------------------------------------------------------------------

/** This page in this space, for somebody else: without one's own name. */
function link() {
  const own = new URLSearchParams({ space: client.world });
  for (const key of ['host', 'token']) if (parameters.has(key)) own.set(key, parameters.get(key));
  return `${location.origin}${location.pathname}?${own}`;
}

function invite() {
  set($('invite-text'), isLocal
    ? 'This address works on this machine only: open it in a second window, or ask somebody else who sits here.'
    : 'Send this link to somebody, and meet here.');
  $('link').value = link();
  set($('copy'), 'Copy link');
}

$('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText($('link').value);
  } catch {
    // Pages that came by HTTP have no clipboard.
    $('link').select();
    document.execCommand('copy');
  }
  set($('copy'), 'Copied');
});

// ---- microphone and loudspeaker --------------------------------------------------------------------

async function listenToMe() {
  const asked = client;
  let problem = '';
  try {
    if (!navigator.mediaDevices) throw new DOMException('', 'InsecureError');
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
    microphone = stream.getAudioTracks()[0];
    if (client !== asked || !client) return silence();
    microphone.addEventListener('ended', () => {
      silence();
      noMicrophone('The microphone is gone.');
    });
    sound.setOwn(microphone);
    await client.speak(microphone);
  } catch (error) {
    if (client !== asked) return;
    problem = {
      NotAllowedError: 'The microphone is not allowed for this page.',
      NotFoundError: 'There is no microphone.',
      NotReadableError: 'Another program has the microphone.',
      InsecureError: 'Browsers give a microphone only to pages by HTTPS, or of this machine.',
    }[error.name] ?? `No microphone: ${error.message}`;
  }
  noMicrophone(problem);
}

function noMicrophone(problem) {
  note($('note'), problem && `${problem} The others do not hear you, but you can walk, listen and write.`);
  showMicrophone();
}

function silence() {
  microphone?.stop();
  microphone = null;
  sound?.setOwn(null);
  client?.speak(null);
  note($('note'), '');
  showMicrophone();
}

function showMicrophone() {
  const isOn = Boolean(microphone?.enabled);
  $('mic').setAttribute('aria-pressed', isOn);
  $('mic').title = isOn ? 'You are heard. Click to mute.' : 'You are not heard.';
}

$('mic').addEventListener('click', () => {
  if (!microphone) return listenToMe();
  microphone.enabled = !microphone.enabled;
  showMicrophone();
});
$('retry-mic').addEventListener('click', listenToMe);
$('close-note').addEventListener('click', () => note($('note'), ''));
$('ears').addEventListener('click', () => {
  const isOn = $('ears').getAttribute('aria-pressed') !== 'true';
  $('ears').setAttribute('aria-pressed', isOn);
  // The server holds the voices back, which is less work for all.
  client?.listen(isOn);
  sound.isOn = isOn;
});

// ---- walking ---------------------------------------------------------------------------------------

const WALK = 2.6;
const RUN = 6;
const FAR = 1000;
// By place on the keyboard, so that it is the same four keys on every layout.
const ways = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
  KeyW: [0, -1], KeyS: [0, 1], KeyA: [-1, 0], KeyD: [1, 0],
};
const pressed = new Set();
let isRunning = false;
let pointer = null;

const isWriting = (target) => target instanceof HTMLElement && Boolean(target.closest('input, textarea, [role="log"], [contenteditable]'));

addEventListener('keydown', (event) => {
  isRunning = event.shiftKey;
  if (!client || isWriting(event.target) || event.ctrlKey || event.metaKey || event.altKey) {
    if (client && event.key === 'Escape' && isWriting(event.target)) map.canvas.focus();
    return;
  }
  if (ways[event.code]) {
    pressed.add(event.code);
    event.preventDefault();
  } else if (event.key === 'Enter' && !event.target.closest?.('button')) {
    $('words').focus();
    event.preventDefault();
  }
});
addEventListener('keyup', (event) => {
  isRunning = event.shiftKey;
  pressed.delete(event.code);
});
const stand = () => {
  pressed.clear();
  pointer = null;
};
addEventListener('blur', stand);
document.addEventListener('visibilitychange', stand);
document.addEventListener('focusin', (event) => isWriting(event.target) && pressed.clear());

map.canvas.addEventListener('pointerdown', (event) => {
  map.canvas.setPointerCapture(event.pointerId);
  pointer = event;
});
map.canvas.addEventListener('pointermove', (event) => pointer && (pointer = event));
for (const type of ['pointerup', 'pointercancel']) map.canvas.addEventListener(type, () => (pointer = null));

/** The way that keys or the pointer ask for, and the share of full speed. */
function wanted() {
  let [x, z] = [0, 0];
  for (const code of pressed) [x, z] = [x + ways[code][0], z + ways[code][1]];
  if (!x && !z && pointer) {
    [x, z] = map.toMetres(pointer.clientX, pointer.clientY);
    const metres = Math.hypot(x, z);
    if (metres < 0.3) return null;
    return [x / metres, z / metres, metres > 4 ? RUN : WALK];
  }
  const length = Math.hypot(x, z);
  return length ? [x / length, z / length, isRunning ? RUN : WALK] : null;
}

const clamp = (value) => Math.max(-FAR, Math.min(FAR, value));

let last = performance.now();
function frame(now) {
  const passed = Math.min(100, now - last);
  last = now;
  if (client) {
    const way = client.state === 'in' && wanted();
    if (way) {
      const [x, z, speed] = way;
      const { place } = client;
      place.x = clamp(place.x + (x * speed * passed) / 1000);
      place.z = clamp(place.z + (z * speed * passed) / 1000);
      place.heading = Math.atan2(-x, -z);
      for (const { id, place: other } of client.players.values()) if (id !== client.me) sound.place(id, place, other);
      if (!hasWalked) $('hint').classList.add('done');
      hasWalked = true;
    }
    map.draw(client.players, client.me, passed, (id, isMe) => sound.level(id, isMe));
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
