// What goes over the wire of a space: messages and locations. `client.js` has the order of things.
//
// Every frame of the WebSocket, in both directions, is binary and holds one message of protocol
// buffers (proto3). What a client says is a `Request`, what it is told a `Response`; each has one
// field set, and its number says which. Fields that one does not know are skipped, which is how old
// and new clients share a space. Numbers are those of UNAVI's generation 4; what ringside adds is
// marked as extended. Fields that this client has no use for are left out.

// A message is described by its fields: a name, the number and the type. Types are the ones below,
// another message, or a list of either in brackets. `int` stands for all numbers, flags are apart.
const text = 'text';
const int = 'int';
const flag = 'flag';
const bytes = 'bytes';

const MapEntry = { key: [1, text], value: [2, text] };
const Fingerprint = { algorithm: [1, text], value: [2, text] };
const DtlsParameters = { role: [1, int], fingerprints: [2, [Fingerprint]] };
const RtpCapabilities = {
  codecs: [1, [{ kind: [1, int], mimeType: [2, text], clockRate: [3, int], channels: [4, int] }]],
  headerExtensions: [2, [{ uri: [1, text], kind: [2, int], preferredId: [3, int] }]],
};
// Of a codec, `parameters` is extended and has JSON in it; so are `encodings`, `mid` and `cname`.
const RtpParameters = {
  codecs: [1, [{ mimeType: [1, text], payloadType: [2, int], clockRate: [3, int], channels: [4, int], parameters: [6, text] }]],
  headerExtensions: [2, [{ uri: [1, text], id: [2, int] }]],
  encodings: [3, [{ ssrc: [1, int] }]],
  mid: [4, text],
  cname: [5, text],
};
const SctpStreamParameters = { streamId: [1, int], ordered: [2, flag], maxRetransmits: [4, int] };
const TransportOptions = {
  id: [1, text],
  iceParameters: [2, { usernameFragment: [1, text], password: [2, text] }],
  dtlsParameters: [3, DtlsParameters],
  iceCandidates: [4, [{ foundation: [1, text], priority: [2, int], ip: [3, text], port: [4, int], protocol: [5, int] }]],
  sctpParameters: [5, { port: [1, int], maxMessageSize: [4, int] }],
};

/** Which transport, seen from the client: by the one it is sent to, by the other it sends. */
export const CONSUMER = 0;
export const PRODUCER = 1;
export const DTLS_CLIENT = 1;
export const TCP = 1;

export const Request = {
  pauseAudio: [1, { paused: [1, flag] }],
  connectTransport: [2, { type: [1, int], dtlsParameters: [2, DtlsParameters] }],
  createTransport: [3, { type: [1, int] }],
  setRtpCapabilities: [5, { rtpCapabilities: [1, RtpCapabilities] }],
  produce: [6, { rtpParameters: [1, RtpParameters] }],
  produceData: [7, { sctpStreamParameters: [1, SctpStreamParameters] }],
  // `token` and `resume` are extended.
  join: [8, { world: [1, text], token: [2, text], resume: [3, text] }],
  leave: [9, { world: [1, text] }],
  sendChatMessage: [10, { message: [1, text] }],
  setPlayerData: [11, { data: [1, [MapEntry]] }],
  // Whatever clients tell each other; the page does not.
  sendEvent: [12, { data: [1, bytes] }],
};

export const Response = {
  createConsumer: [1, { playerId: [1, int], consumerId: [2, text], producerId: [3, text], rtpParameters: [4, RtpParameters] }],
  createDataConsumer: [2, { playerId: [1, int], dataConsumerId: [2, text], dataProducerId: [3, text], sctpStreamParameters: [4, SctpStreamParameters] }],
  producerId: [3, { producerId: [1, text] }],
  dataProducerId: [4, { dataProducerId: [1, text] }],
  transportCreated: [6, { type: [1, int], options: [2, TransportOptions] }],
  // `resume` is extended.
  joinSuccess: [7, { world: [1, text], playerId: [2, int], resume: [3, text] }],
  chatMessage: [8, { playerId: [1, int], message: [2, text] }],
  playerJoined: [9, { playerId: [1, int], data: [2, [MapEntry]] }],
  playerLeft: [10, { playerId: [1, int] }],
  playerData: [11, { playerId: [1, int], key: [2, text], value: [3, text] }],
  event: [12, { playerId: [1, int], data: [2, bytes] }],
  transportConnected: [13, { type: [1, int], success: [2, flag] }],
  // Extended, as all that follow.
  joinRefused: [20, { world: [1, text], reason: [2, text] }],
  consumerClosed: [21, { consumerId: [1, text] }],
  kicked: [22, { world: [1, text], reason: [2, text] }],
  draining: [23, {}],
  talking: [24, { playerId: [1, int], talking: [2, flag] }],
  dataConsumerClosed: [25, { dataConsumerId: [1, text] }],
};

const WIRE_VARINT = 0;
const WIRE_64_BITS = 1;
const WIRE_LENGTH = 2;
const WIRE_32_BITS = 5;

/** Writes a message; fields that are undefined are left out. */
export function encode(schema, message) {
  const out = [];
  const varint = (value) => {
    for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
    out.push(value);
  };
  for (const [name, [number, type]] of Object.entries(schema)) {
    const isList = Array.isArray(type);
    const values = isList ? message[name] ?? [] : [message[name]].filter((value) => value !== undefined);
    for (const value of values) {
      const kind = isList ? type[0] : type;
      if (kind === int || kind === flag) {
        varint(number * 8 + WIRE_VARINT);
        varint(Number(value));
        continue;
      }
      const body = kind === text ? new TextEncoder().encode(value) : kind === bytes ? value : encode(kind, value);
      varint(number * 8 + WIRE_LENGTH);
      varint(body.length);
      for (const byte of body) out.push(byte);
    }
  }
  return Uint8Array.from(out);
}

/** Reads a message. What is not there has its type's zero; a message that is not there is undefined. */
export function decode(schema, data) {
  const message = {};
  const known = new Map();
  for (const [name, [number, type]] of Object.entries(schema)) {
    known.set(number, [name, type]);
    if (Array.isArray(type)) message[name] = [];
    else if (typeof type === 'string') message[name] = { text: '', int: 0, flag: false, bytes: new Uint8Array() }[type];
  }
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= data.length) throw new Error('a message ends too early');
      const byte = data[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const tag = varint();
    const wire = tag % 8;
    let value;
    if (wire === WIRE_VARINT) value = varint();
    else if (wire === WIRE_64_BITS) at += 8;
    else if (wire === WIRE_32_BITS) at += 4;
    else if (wire === WIRE_LENGTH) {
      const length = varint();
      value = data.subarray(at, (at += length));
    } else throw new Error(`a field of an unknown form: ${wire}`);
    if (at > data.length) throw new Error('a message ends too early');
    const [name, type] = known.get(Math.floor(tag / 8)) ?? [];
    if (name === undefined || value === undefined) continue;
    const kind = Array.isArray(type) ? type[0] : type;
    if (kind === text) value = new TextDecoder().decode(value);
    else if (kind === flag) value = value !== 0;
    else if (typeof kind === 'object') value = decode(kind, value);
    if (Array.isArray(type)) message[name].push(value);
    else message[name] = value;
  }
  return message;
}

// ---- locations -------------------------------------------------------------------------------------

// 21 bytes, the most significant byte of a number first: the player's number; x, y and z in
// hundred thousandths of a metre (y is up); the rotation as a quaternion, x, y, z and w in ten
// thousandths. The server overwrites the player's number with the true one.
const LOCATION_BYTES = 21;

/** `heading` is the angle around the vertical axis: 0 looks along -z, and it grows to the left. */
export function writeLocation(player, { x, y, z, heading }) {
  const view = new DataView(new ArrayBuffer(LOCATION_BYTES));
  view.setUint8(0, player);
  [x, y, z].forEach((metres, at) => view.setInt32(1 + 4 * at, Math.trunc(metres * 100000)));
  [0, Math.sin(heading / 2), 0, Math.cos(heading / 2)].forEach((part, at) => view.setInt16(13 + 2 * at, Math.trunc(part * 10000)));
  return view.buffer;
}

export function readLocation(buffer) {
  if (buffer.byteLength !== LOCATION_BYTES) return null;
  const view = new DataView(buffer);
  const [x, y, z] = [1, 5, 9].map((at) => view.getInt32(at) / 100000);
  const [qx, qy, qz, qw] = [13, 15, 17, 19].map((at) => view.getInt16(at) / 10000);
  const heading = Math.atan2(2 * (qw * qy + qx * qz), 1 - 2 * (qx * qx + qy * qy));
  return { player: view.getUint8(0), x, y, z, heading };
}
