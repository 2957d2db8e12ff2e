// What `src/streams/page/space/wire.js` makes of the golden messages and locations of generation 4.
//
//   node wire.mjs
//
// Prints how many of each were compared; exits 1 at the first that is otherwise.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
// Its name does not tell Node that it is a module.
const wire = await import(`data:text/javascript,${encodeURIComponent(read('src/streams/page/space/wire.js'))}`);
const { Request, Response, decode, encode, readLocation, writeLocation } = wire;

const numbers = { CONSUMER: 0, PRODUCER: 1, AUTO: 0, CLIENT: 1, SERVER: 2, AUDIO: 0, VIDEO: 1, UDP: 0, TCP: 1 };

/** A decoded message says what the golden JSON says, in all that this client knows of. */
function compare(found, json, where) {
  if (Array.isArray(found)) {
    const list = Array.isArray(json) ? json : Object.entries(json ?? {}).map(([key, value]) => ({ key, value }));
    // A map's order is no one's.
    const sorted = (all) => (found[0]?.key === undefined ? all : [...all].sort((a, b) => (a.key < b.key ? -1 : 1)));
    assert.equal(found.length, list.length, where);
    sorted(found).forEach((one, at) => compare(one, sorted(list)[at], `${where}[${at}]`));
  } else if (found instanceof Uint8Array) {
    assert.equal(Buffer.from(found).toString('base64'), json ?? '', where);
  } else if (typeof found === 'object') {
    for (const [name, value] of Object.entries(found)) compare(value, json?.[name], `${where}.${name}`);
  } else if (typeof found === 'number') {
    assert.equal(found, typeof json === 'string' ? numbers[json] : json ?? 0, where);
  } else {
    assert.equal(found, json ?? (typeof found === 'boolean' ? false : ''), where);
  }
}

let messages = 0;
for (const { name, type, hex, json } of JSON.parse(read('tests/data/unavi/gen4_protobuf_vectors.json'))) {
  const schema = { Request, Response }[type];
  const [what] = Object.keys(json);
  // It never asks what the server can: that is said with each voice.
  if (!(what in schema)) {
    assert.ok(['getRouterRtpCapabilities', 'routerRtpCapabilities'].includes(what), what);
    continue;
  }
  const found = decode(schema, Uint8Array.from(Buffer.from(hex, 'hex')));
  assert.deepEqual(Object.keys(found).filter((one) => found[one] !== undefined), [what], name);
  compare(found, json, name);
  assert.deepEqual(decode(schema, encode(schema, found)), found, name);
  messages += 1;
}

let locations = 0;
for (const { id, pos: [x, y, z], rot, big_endian_gen4: hex } of JSON.parse(read('tests/data/unavi/location_vectors.json'))) {
  const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
  const found = readLocation(bytes.buffer);
  assert.equal(found.player, id);
  [['x', x], ['y', y], ['z', z]].forEach(([axis, metres]) => assert.ok(Math.abs(found[axis] - metres) < 0.0001, `${axis} of ${hex}`));
  // Heads that are upright keep all that they have.
  if (rot[0] === 0 && rot[2] === 0) {
    const written = Buffer.from(writeLocation(id, { ...found })).toString('hex');
    const again = readLocation(Uint8Array.from(Buffer.from(written, 'hex')).buffer);
    assert.ok(Math.abs(again.heading - 2 * Math.atan2(rot[1], rot[3])) < 0.001, written);
    assert.equal(written.slice(0, 26), hex.slice(0, 26));
  }
  locations += 1;
}

assert.equal(readLocation(new ArrayBuffer(20)), null);
for (const short of [[0x42, 0xff], [0x42, 5, 0x12], [0x42, 2, 0x0a, 7]]) {
  assert.throws(() => decode(Response, Uint8Array.from(short)), /too early/);
}
// What it does not know, in all forms that a field has, is passed over.
const unknown = [0xa0, 0x3e, 1, 0xa1, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0xa2, 0x3e, 1, 7, 0xa5, 0x3e, 0, 0, 0, 0, 0x52, 2, 0x08, 9];
assert.equal(decode(Response, Uint8Array.from(unknown)).playerLeft.playerId, 9);
console.log(JSON.stringify({ messages, locations }));
