// Players in headless Chromium or Firefox, each with the original's own client library and messages,
// in the original's order.
//
//   node spaces.mjs chromium|firefox PLAN.json
//
// The plan: `url` of the WebSocket, `world`, `seconds` for all to see each other (4 if it is left out),
// and `players`: a list of {name, dialect: "2"|"3a"|"3b"|"4", library: "3.6.82"|"3.6.84"|"3.24.1",
// voice, deaf, at: its place}. Players come one after the other. Prints one JSON line with what each
// was told and received; exits 1 when something is missing in time.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import * as esbuild from 'esbuild';
import * as browsers from './browser.mjs';

const { end, endAfter, sleep } = browsers;
const [, , browserName, planPath] = process.argv;
const plan = JSON.parse(readFileSync(planPath, 'utf8'));
const seconds = plan.seconds ?? 4;
endAfter((60 + seconds) * 1000);

// ---- what runs in the page -----------------------------------------------------------------------

/** Messages of a dialect: how a thing is said, and what was said. */
const dialects = {
  2: {
    say: (what, data) => JSON.stringify({ subject: what, data }),
    read: (frame) => ((frame = JSON.parse(frame)), { name: frame.subject, data: frame.data }),
  },
  '3a': {
    say: (what, data) => three('xyz.unavi', what, data),
    read: (frame) => ((frame = JSON.parse(frame)), { name: heard(frame.id.replace('xyz.unavi.', '')), data: frame.data }),
  },
  '3b': {
    say: (what, data) => three('com.wired-protocol', what, data),
    read: (frame) => ((frame = JSON.parse(frame)), { name: heard(frame.id.replace('com.wired-protocol.', '')), data: frame.data }),
  },
  4: {
    say: (what, data) => four(what, data),
    read: (frame) => heard4(new Uint8Array(frame)),
  },
};

/** A message of protocol buffers: pairs of a number and a number, text, flag or message. */
function buffers(...fields) {
  const out = [];
  const varint = (value) => {
    for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
    out.push(value);
  };
  for (const [number, value] of fields) {
    if (typeof value === 'number' || typeof value === 'boolean') {
      varint(number * 8);
      varint(Number(value));
    } else {
      const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
      varint(number * 8 + 2);
      varint(bytes.length);
      out.push(...bytes);
    }
  }
  return Uint8Array.from(out);
}

/** The fields of such a message by number, each a list. */
function fieldsOf(bytes) {
  const fields = {};
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    let value = varint();
    if (tag % 8 === 2) value = bytes.subarray(at, (at += value));
    (fields[number] ??= []).push(value);
  }
  return fields;
}

/** What the client of generation 4 says. It has no voice. */
function four(what, data) {
  const side = (type) => (type === 'producer' ? [[1, 1]] : []);
  const messages = {
    get_router_rtp_capabilities: () => [4, buffers()],
    join: () => [8, buffers([1, data])],
    chat: () => [10, buffers([1, data])],
    set_name: () => [11, buffers([1, buffers([1, 'nickname'], [2, data])])],
    create_transport: () => [3, buffers(...side(data.type))],
    connect_transport: () => [2, buffers(...side(data.type), [2, buffers([1, 1], ...data.dtlsParameters.fingerprints
      .map((known) => [2, buffers([1, known.algorithm], [2, known.value])]))])],
    set_rtp_capabilities: () => [5, buffers([1, buffers(...data.codecs
      .map((codec) => [1, buffers([2, codec.mimeType], [3, codec.clockRate], [4, codec.channels])]))])],
    produce_data: () => [7, buffers([1, buffers([1, data.streamId], [2, data.ordered], [4, data.maxRetransmits])])],
    resume_audio: () => [1, buffers()],
  };
  return buffers(messages[what]());
}

/** What the client of generation 4 hears, in the words of the others. */
function heard4(bytes) {
  const text = (value) => new TextDecoder().decode(value);
  const [number, [body]] = Object.entries(fieldsOf(bytes))[0];
  const f = fieldsOf(body);
  const one = (fields, place, otherwise = 0) => fields[place]?.[0] ?? otherwise;
  const side = () => (one(f, 1) === 1 ? 'producer' : 'consumer');
  const messages = {
    2: () => ['create_data_consumer', {
      playerId: one(f, 1), dataConsumerId: text(one(f, 2)), dataProducerId: text(one(f, 3)),
      sctpStreamParameters: { streamId: one(fieldsOf(one(f, 4)), 1), ordered: false, maxRetransmits: 0 },
    }],
    4: () => ['data_producer_id', text(one(f, 1))],
    5: () => {
      const all = fieldsOf(one(f, 1));
      const codecs = all[1].map(fieldsOf).map((codec) => ({
        kind: 'audio', mimeType: text(one(codec, 2)), clockRate: one(codec, 3), channels: one(codec, 4),
        rtcpFeedback: codec[5].map(fieldsOf).map((feedback) => ({ type: text(one(feedback, 1)), parameter: '' })),
      }));
      return ['router_rtp_capabilities', { codecs, headerExtensions: [] }];
    },
    6: () => {
      const options = fieldsOf(one(f, 2));
      const ice = fieldsOf(one(options, 2));
      const sctp = fieldsOf(one(options, 5));
      return ['transport_created', { type: side(), options: {
        id: text(one(options, 1)),
        iceParameters: { usernameFragment: text(one(ice, 1)), password: text(one(ice, 2)), iceLite: true },
        dtlsParameters: { fingerprints: fieldsOf(one(options, 3))[2].map(fieldsOf)
          .map((known) => ({ algorithm: text(one(known, 1)), value: text(one(known, 2)) })) },
        iceCandidates: options[4].map(fieldsOf).map((known) => ({
          foundation: text(one(known, 1)), priority: one(known, 2), ip: text(one(known, 3)), port: one(known, 4),
          protocol: ['udp', 'tcp'][one(known, 5)], type: 'host', tcpType: one(known, 5) ? 'passive' : undefined,
        })),
        sctpParameters: { port: one(sctp, 1), OS: one(sctp, 2), MIS: one(sctp, 3), maxMessageSize: one(sctp, 4) },
      } }];
    },
    7: () => ['join_success', one(f, 2)],
    8: () => ['player_chat', { playerId: one(f, 1), message: text(one(f, 2)) }],
    9: () => {
      const data = Object.fromEntries((f[2] ?? []).map(fieldsOf).map((entry) => [text(one(entry, 1)), text(one(entry, 2))]));
      return ['player_joined', { playerId: one(f, 1), name: data.nickname }];
    },
    10: () => ['player_left', one(f, 1)],
    11: () => [text(one(f, 2)) === 'nickname' ? 'player_name' : 'player_data', { playerId: one(f, 1), name: text(one(f, 3)) }],
    13: () => [`connected_${side()}`, one(f, 2) === 1],
  };
  const [name, data] = messages[number]?.() ?? [`number ${number}`];
  return { name, data };
}

function three(prefix, what, data) {
  const names = {
    get_router_rtp_capabilities: 'webrtc.router.rtpCapabilities.get', join: 'world.join', chat: 'world.chat.send',
    set_name: 'world.user.name', create_transport: 'webrtc.transport.create', connect_transport: 'webrtc.transport.connect',
    set_rtp_capabilities: 'webrtc.rtpCapabilities.set', produce: 'webrtc.produce', produce_data: 'webrtc.produceData',
    resume_audio: 'webrtc.audio.pause', leave: 'world.leave',
  };
  if (what === 'create_transport') data = data.type;
  if (what === 'resume_audio') data = false;
  return JSON.stringify({ id: `${prefix}.${names[what]}`, data });
}

function heard(id) {
  const names = {
    'webrtc.router.rtpCapabilities': 'router_rtp_capabilities', 'webrtc.transport.created': 'transport_created',
    'webrtc.producer.id': 'producer_id', 'webrtc.dataProducer.id': 'data_producer_id',
    'webrtc.consumer.create': 'create_consumer', 'webrtc.dataConsumer.create': 'create_data_consumer',
    'world.joined': 'join_success', 'world.player.join': 'player_joined', 'world.player.leave': 'player_left',
    'world.chat.message': 'player_chat', 'world.player.name': 'player_name',
  };
  return names[id] ?? id;
}

/** A location; clients up to generation 3 write it with the least significant byte first. */
function location21(id, x, isLittle) {
  const view = new DataView(new ArrayBuffer(21));
  view.setUint8(0, id);
  view.setInt32(1, Math.trunc(x * 100000), isLittle);
  view.setInt32(5, -80000, isLittle);
  view.setInt16(19, 10000, isLittle);
  return view.buffer;
}

async function player(url, world, one) {
  const { Device } = window.libraries[one.library];
  const dialect = dialects[one.dialect];
  const isLittle = one.dialect !== '4';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  const device = new Device();
  const state = { name: one.name, id: null, joined: {}, left: [], names: {}, chats: [], locations: {}, frames: [], errors: [], consumers: [] };
  (window.players ??= []).push(state);
  const say = (what, data) => socket.send(dialect.say(what, data));
  const waiting = {};
  let send, receive;
  state.say = say;
  const fail = (where) => (error) => state.errors.push(`${where}: ${error?.message ?? error}`);
  const connectable = (transport, type) => {
    transport.on('connect', ({ dtlsParameters }, callback) => {
      // Generation 4 waits for an answer.
      if (isLittle) callback();
      else waiting[`connected_${type}`] = (success) => success && callback();
      say('connect_transport', { type, dtlsParameters });
    });
    transport.on('connectionstatechange', (connection) => (state[type] = connection));
  };
  const handle = {
    async router_rtp_capabilities(data) {
      await device.load({ routerRtpCapabilities: data });
      say('create_transport', { type: 'producer' });
      say('create_transport', { type: 'consumer' });
      say('set_rtp_capabilities', device.rtpCapabilities);
    },
    async transport_created({ type, options }) {
      state.tcp = options.iceCandidates.some((candidate) => candidate.protocol === 'tcp');
      if (type === 'consumer') {
        receive = device.createRecvTransport(options);
        connectable(receive, type);
        waiting.receive?.();
        return;
      }
      send = device.createSendTransport(options);
      connectable(send, type);
      send.on('producedata', ({ sctpStreamParameters }, callback) => {
        waiting.data_producer_id = (id) => callback({ id });
        say('produce_data', sctpStreamParameters);
      });
      send.on('produce', ({ rtpParameters }, callback) => {
        waiting.producer_id = (id) => callback({ id });
        say('produce', rtpParameters);
      });
      const channel = await send.produceData({ ordered: false, maxRetransmits: 0 });
      let x = 0;
      setInterval(() => {
        // Another's id is said on purpose: the host knows better.
        if (channel.readyState === 'open' && state.id !== null) channel.send(location21((state.id + 1) % 256, one.at + (x = (x + 1) % 10) / 100, isLittle));
      }, 1000 / 15);
      if (one.voice) {
        const media = await navigator.mediaDevices.getUserMedia({ audio: true });
        await send.produce({ track: media.getAudioTracks()[0] });
      }
    },
    join_success(data) {
      state.id = typeof data === 'number' ? data : data.playerId;
      say('set_name', one.name);
    },
    player_joined: (data) => (state.joined[data.playerId ?? data] = data.name ?? null),
    player_left: (data) => state.left.push(data.playerId ?? data),
    player_name: (data) => (state.names[data.playerId] = data.name),
    player_chat: (data) => state.chats.push([data.playerId, data.text ?? data.message]),
    async create_consumer(data) {
      const consumer = await receive.consume({ id: data.consumerId, producerId: data.producerId, kind: 'audio', rtpParameters: data.rtpParameters });
      state.consumers.push({ player: data.playerId, consumer });
      const audio = new Audio();
      audio.srcObject = new MediaStream([consumer.track]);
      audio.play().catch(() => {});
      if (!one.deaf) say('resume_audio', null);
    },
    async create_data_consumer(data) {
      const consumer = await receive.consumeData({
        id: data.consumerId ?? data.dataConsumerId, dataProducerId: data.dataProducerId, sctpStreamParameters: data.sctpStreamParameters,
      });
      consumer.on('message', async (message) => {
        const view = new DataView(message instanceof Blob ? await message.arrayBuffer() : message);
        const seen = (state.locations[view.getUint8(0)] ??= { count: 0 });
        seen.count += 1;
        seen.x = view.getInt32(1, isLittle) / 100000;
        seen.bytes = view.byteLength;
      });
    },
  };
  let chain = Promise.resolve();
  socket.onmessage = ({ data }) => {
    const frame = dialect.read(data);
    const name = frame.name;
    state.frames.push(name);
    const run = () => (waiting[name] ?? handle[name])?.(frame.data);
    // Answers are not queued behind what waits for them.
    if (waiting[name]) run();
    else chain = chain.then(run).catch(fail(name));
    if (name === 'transport_created' && frame.data.type === 'producer') chain = Promise.resolve();
  };
  socket.onopen = () => {
    say('get_router_rtp_capabilities', null);
    say('join', world);
  };
  state.close = () => socket.close();
}

/** What everybody has seen by now. */
async function report() {
  const all = [];
  for (const state of window.players) {
    const sounds = [];
    for (const { player, consumer } of state.consumers) {
      const stats = await consumer.getStats();
      for (const one of stats.values()) {
        if (one.type === 'inbound-rtp') sounds.push({ player, packets: one.packetsReceived, energy: one.totalAudioEnergy ?? null });
      }
    }
    const { name, id, joined, left, names, chats, locations, frames, errors, producer, consumer, tcp } = state;
    all.push({ name, id, joined, left, names, chats, locations, frames, errors, sounds, tcp, sending: producer, receiving: consumer });
  }
  return all;
}

// ---- the driver ----------------------------------------------------------------------------------

const libraries = [...new Set(plan.players.map((one) => one.library))];
const entry = `window.libraries = {}; ${libraries
  .map((version, at) => `import * as library${at} from 'mediasoup-client-${version}'; window.libraries['${version}'] = library${at};`)
  .join('\n')}`;
const bundle = await esbuild.build({
  stdin: { contents: entry, resolveDir: new URL('.', import.meta.url).pathname }, bundle: true, write: false, format: 'iife', platform: 'browser', logLevel: 'error',
});
const code = bundle.outputFiles[0].text;
const page = `<!doctype html><title>players</title><script src=bundle.js></script><script>
const dialects = { ${Object.keys(dialects).map((name) => `'${name}': ${object(dialects[name])}`)} };
${buffers} ${fieldsOf} ${three} ${heard} ${four} ${heard4} ${location21} ${player} ${report}
</script>`;

function object(dialect) {
  return `{ say: ${dialect.say}, read: ${dialect.read} }`;
}

try {
  const server = createServer((request, response) => {
    const isCode = request.url === '/bundle.js';
    response.setHeader('content-type', isCode ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8');
    response.end(isCode ? code : request.url === '/favicon.ico' ? '' : page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await browsers[browserName]({ devices: true });
  await browser.open(`http://127.0.0.1:${server.address().port}/`);
  for (let n = 0; n < 100 && !(await browser.evaluate('!!window.libraries && typeof report').catch(() => false)); n++) await sleep(50);
  for (const one of plan.players) {
    await browser.evaluate(`player(${JSON.stringify(plan.url)}, ${JSON.stringify(plan.world)}, ${JSON.stringify(one)})`);
    await sleep(1500);
  }
  await browser.evaluate(`window.players.forEach((one, at) => one.say('chat', 'hello from ' + one.name))`);
  await sleep(seconds * 1000);
  const first = await browser.evaluate('report()');
  await browser.evaluate(`window.players.at(-1).close()`);
  await sleep(1000);
  const last = await browser.evaluate('report()');
  console.log(JSON.stringify({ first, last }));
  end(0);
} catch (error) {
  console.error(String(error?.stack ?? error));
  end(1);
}
