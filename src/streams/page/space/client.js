// A client of spaces without any library: a WebSocket and two peer connections.
//
// `/space.html` is made of it, and it is meant to be read by those who write a client of their own,
// or imported by their pages: nothing here knows of a page. `docs/spaces.md` tells the same in prose.
//
// The language is UNAVI's generation 4 with ringside's extension. There is no error message: what
// makes no sense to the server is ignored.
//
//   client                                    server
//   setPlayerData {nickname}              ->
//   join {world, token, resume}           ->
//                                         <-  playerJoined, for each who is there
//                                         <-  joinSuccess {playerId, resume}, or joinRefused
//   createTransport CONSUMER, PRODUCER    ->
//   setRtpCapabilities                    ->
//                                         <-  transportCreated, twice: where the server is
//   connectTransport, twice               ->  by now the browser knows its certificate's hash
//   produceData, produce                  ->  locations and voice go out
//                                         <-  createDataConsumer, createConsumer, for each of the others
//   pauseAudio {paused: false}            ->  voices come paused
//
// From there on chat, names and who talks come over the WebSocket; locations over data channels;
// voices as RTP.

import { AUDIO_LEVEL, MID, Receiving, Sending } from './transports.js';
import { CONSUMER, PRODUCER, Request, Response, decode, encode, readLocation, writeLocation } from './wire.js';

/** How often a location goes out while one moves, and while one stands: newcomers want to know it. */
const MOVING_MS = 50;
const STANDING_MS = 500;

/** Who has not been let in by then has met something that is no server of spaces. */
const JOIN_MS_MAX = 10000;

const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 15000;

/**
 * One player in one space. It comes back by itself when the connection breaks, as the same player if
 * that is soon enough.
 *
 * Its events:
 * - `state`: `state` has changed. It is `connecting`, `in`, `waiting` (until `retryAt`) or `out`, with
 *   the `reason` of the latter two: `gone`, `draining`, `insecure`, `kicked` (and what the server said
 *   in `words`), or that of a refusal: `full`, `token`, `banned` or `limit`.
 * - `player`: somebody is new, gone or otherwise, by number in `detail`.
 * - `place`: somebody is elsewhere, by number in `detail`.
 * - `voice`: `detail` has a `player` and a `track`, which is null when the voice has ended.
 * - `media`: `isReachable` has changed: whether voices and locations have a way to the server. If not,
 *   another one is tried at `retryAt`; chat works meanwhile.
 * - `chat`: `detail` has a `player` and its `message`. One's own come back like everybody's.
 */
export class SpaceClient extends EventTarget {
  #socket = null;
  #sending = null;
  #receiving = null;
  #resume = '';
  #isWanted = false;
  #delay = RETRY_MS_MIN;
  #timers = {};
  #track = null;
  #isListening = true;
  #consumers = new Map();
  #sentAt = 0;
  #sentPlace = null;

  constructor({ url, world, name, token }) {
    super();
    Object.assign(this, { url, world, name, token, state: 'out', reason: '', words: '', retryAt: 0, isReachable: true });
    /** Where the server said that media go. */
    this.candidates = [];
    /** Everybody, oneself included: id, name, isTalking, and place once it is known. */
    this.players = new Map();
    this.me = null;
    this.place = { x: 0, y: 0, z: 0, heading: 0 };
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #enter(state, reason = '', words = '') {
    Object.assign(this, { state, reason, words });
    this.#tell('state');
  }

  /** Enters the space, at once if it waits to try again. */
  connect() {
    this.#isWanted = true;
    this.#end();
    this.#enter('connecting', this.reason);
    let socket;
    try {
      socket = new WebSocket(this.url);
    } catch {
      // A page that came by HTTPS may not open a connection that is not encrypted.
      this.#isWanted = false;
      return this.#enter('out', 'insecure');
    }
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    const say = (message) => socket.readyState === WebSocket.OPEN && socket.send(encode(Request, message));
    this.say = say;
    this.#timers.join = setTimeout(() => socket.close(), JOIN_MS_MAX);
    socket.addEventListener('open', () => {
      say({ setPlayerData: { data: [{ key: 'nickname', value: this.name }] } });
      // An empty `resume` asks for one, so that the next connection can be the same player.
      say({ join: { world: this.world, token: this.token || undefined, resume: this.#resume } });
    });
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket || typeof data === 'string') return;
      for (const [name, message] of Object.entries(decode(Response, new Uint8Array(data)))) {
        if (message) this[`on_${name}`]?.(message);
      }
    });
    socket.addEventListener('close', () => socket === this.#socket && this.#broken());
  }

  /** Says goodbye; the place is not kept. */
  leave() {
    this.say?.({ leave: { world: this.world } });
    this.#finish('');
  }

  /** Says something to all. */
  chat(message) {
    this.say?.({ sendChatMessage: { message } });
  }

  /** Sends this track as one's voice, or none. */
  async speak(track) {
    this.#track = track;
    if (this.#sending) await this.#produce();
  }

  /** Has the server send the others' voices, or hold them back. */
  listen(isListening) {
    this.#isListening = isListening;
    this.say?.({ pauseAudio: { paused: !isListening } });
  }

  /** For the curious: what the browser counts of all that is received. */
  statistics() {
    return this.#receiving?.peer.getStats();
  }

  #finish(reason, words) {
    this.#isWanted = false;
    this.#resume = '';
    this.#end();
    this.me = null;
    this.#enter('out', reason, words);
  }

  #end() {
    // Whoever is told that the players are gone can see that it is not they who left.
    this.state = 'out';
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#endMedia();
    for (const id of [...this.players.keys()]) this.#forget(id);
  }

  #endMedia() {
    clearTimeout(this.#timers.place);
    for (const transport of [this.#sending, this.#receiving]) transport?.close();
    this.#sending = this.#receiving = null;
    for (const player of this.#consumers.values()) this.#tell('voice', { player, track: null });
    this.#consumers.clear();
  }

  #broken() {
    if (!this.#isWanted) return;
    const reason = this.reason === 'draining' ? 'draining' : 'gone';
    this.#end();
    this.#later(() => this.connect());
    this.#enter('waiting', reason);
  }

  /** Does something after a while, which is longer each time that it was of no use. */
  #later(what) {
    // Not all at once when a server has been started again.
    const delay = this.#delay * (0.8 + 0.4 * Math.random());
    this.#delay = Math.min(this.#delay * 2, RETRY_MS_MAX);
    this.retryAt = Date.now() + delay;
    clearTimeout(this.#timers.retry);
    this.#timers.retry = setTimeout(what, delay);
  }

  // ---- who is there ----

  #forget(id) {
    if (!this.players.delete(id)) return;
    this.#tell('voice', { player: id, track: null });
    this.#tell('player', id);
  }

  #meet(id, values) {
    const player = this.players.get(id) ?? { id, name: '', isTalking: false, place: null };
    this.players.set(id, Object.assign(player, values));
    player.name ||= `Guest 0x${id.toString(16).padStart(2, '0')}`;
    this.#tell('player', id);
  }

  on_playerJoined({ playerId, data }) {
    const name = data.find(({ key }) => key === 'nickname')?.value ?? '';
    this.#meet(playerId, { name, isTalking: false });
  }

  on_joinSuccess({ playerId, resume }) {
    clearTimeout(this.#timers.join);
    this.me = playerId;
    this.#resume = resume;
    this.#meet(playerId, { name: this.name, place: this.place });
    this.#enter('in');
    this.#createTransports();
    this.say({ setRtpCapabilities: { rtpCapabilities: {
      codecs: [{ mimeType: 'audio/opus', clockRate: 48000, channels: 2 }],
      headerExtensions: [MID, AUDIO_LEVEL].map((uri) => ({ uri })),
    } } });
  }

  on_joinRefused({ reason }) {
    this.#finish(reason);
  }

  on_kicked({ reason }) {
    this.#finish('kicked', reason);
  }

  on_draining() {
    this.#enter(this.state, 'draining');
  }

  on_playerLeft({ playerId }) {
    this.#forget(playerId);
  }

  on_playerData({ playerId, key, value }) {
    if (key === 'nickname') this.#meet(playerId, { name: value });
  }

  on_talking({ playerId, talking }) {
    if (this.players.has(playerId)) this.#meet(playerId, { isTalking: talking });
  }

  on_chatMessage({ playerId, message }) {
    this.#tell('chat', { player: playerId, message });
  }

  // ---- media ----

  /** In the place of those that there are, if there are any. */
  #createTransports() {
    this.#endMedia();
    for (const type of [CONSUMER, PRODUCER]) this.say({ createTransport: { type } });
    // A server that does not answer is gone, even if nothing has told so.
    clearTimeout(this.#timers.join);
    this.#timers.join = setTimeout(() => this.#broken(), JOIN_MS_MAX);
  }

  async on_transportCreated({ type, options }) {
    clearTimeout(this.#timers.join);
    const transport = type === PRODUCER
      ? new Sending(options)
      : new Receiving(options, (consumer, track) => this.#heard(consumer, track));
    if (type === PRODUCER) this.#sending = transport;
    else this.#receiving = transport;
    const { peer } = transport;
    this.candidates = options.iceCandidates;
    peer.addEventListener('connectionstatechange', () => {
      if (transport !== this.#sending && transport !== this.#receiving) return;
      if (peer.connectionState === 'connected') {
        this.#delay = RETRY_MS_MIN;
        this.#reach(true);
      } else if (peer.connectionState === 'failed') {
        // Another network, perhaps, or a wall in between. The player stays where it is.
        this.#endMedia();
        this.#later(() => this.#createTransports());
        this.#reach(false);
      }
    });
    const dtlsParameters = await transport.connect();
    if (!dtlsParameters) return;
    this.say({ connectTransport: { type, dtlsParameters } });
    if (type !== PRODUCER) return;
    this.say({ produceData: { sctpStreamParameters: { streamId: 0, ordered: false, maxRetransmits: 0 } } });
    this.#sendPlace();
    await this.#produce();
  }

  #reach(isReachable) {
    this.isReachable = isReachable;
    this.#tell('media');
  }

  on_transportConnected({ success }) {
    if (!success) this.#broken();
  }

  async #produce() {
    const sending = this.#sending;
    await sending.transceiver.sender.replaceTrack(this.#track);
    if (!this.#track || !sending.voice || sending.isProducing) return;
    sending.isProducing = true;
    this.say({ produce: { rtpParameters: sending.voice } });
  }

  /** Goes on until the transport is closed. */
  #sendPlace() {
    const { channel } = this.#sending;
    this.#timers.place = setTimeout(() => this.#sendPlace(), MOVING_MS);
    const place = JSON.stringify(this.place);
    const isDue = place !== this.#sentPlace || Date.now() - this.#sentAt >= STANDING_MS;
    // What a slow line has not taken is old: the next one says more.
    if (!isDue || channel.readyState !== 'open' || channel.bufferedAmount > 0) return;
    channel.send(writeLocation(this.me, this.place));
    this.#sentPlace = place;
    this.#sentAt = Date.now();
  }

  async on_createConsumer({ playerId, consumerId, rtpParameters }) {
    this.#consumers.set(consumerId, playerId);
    await this.#receiving?.addVoice(consumerId, rtpParameters);
    // It resumes all that there are.
    if (this.#isListening) this.say({ pauseAudio: { paused: false } });
  }

  #heard(consumer, track) {
    if (this.#consumers.has(consumer)) this.#tell('voice', { player: this.#consumers.get(consumer), track });
  }

  on_consumerClosed({ consumerId }) {
    const player = this.#consumers.get(consumerId);
    this.#consumers.delete(consumerId);
    if (player !== undefined) this.#tell('voice', { player, track: null });
    this.#receiving?.removeVoice(consumerId);
  }

  on_createDataConsumer({ dataConsumerId, sctpStreamParameters }) {
    this.#receiving?.addChannel(dataConsumerId, sctpStreamParameters.streamId, (data) => this.#placed(data));
  }

  #placed(data) {
    const location = readLocation(data);
    const player = location && location.player !== this.me && this.players.get(location.player);
    if (!player) return;
    player.place = location;
    this.#tell('place', location.player);
  }

  on_dataConsumerClosed({ dataConsumerId }) {
    this.#receiving?.removeChannel(dataConsumerId);
  }
}
