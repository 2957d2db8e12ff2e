// A player's two transports. The server sends no SDP, only what is in one; a browser wants SDP. So the
// client writes what the server would have said. The server is an ICE-lite agent: it waits for checks
// at the addresses it names and never begins. The client begins DTLS as well (`setup:passive` is the
// server's part), and proves with `connectTransport` beforehand which certificate it will show.

import { DTLS_CLIENT, TCP } from './wire.js';

export const MID = 'urn:ietf:params:rtp-hdrext:sdes:mid';
export const AUDIO_LEVEL = 'urn:ietf:params:rtp-hdrext:ssrc-audio-level';

/** Waits for what may be cut short by the end of the peer, which is no error. Gives whether it was not. */
async function unlessClosed(peer, work) {
  try {
    await work();
  } catch (error) {
    if (peer.signalingState !== 'closed') throw error;
  }
  return peer.signalingState !== 'closed';
}

/** One data channel is negotiated by the messages, not in band, so its number is known to both. */
const UNRELIABLE = { negotiated: true, ordered: false, maxRetransmits: 0 };

function description(version, sections) {
  const bundled = sections.filter((section) => !section.isRejected).map((section) => section.mid);
  const head = [
    'v=0', `o=- 1 ${version} IN IP4 127.0.0.1`, 's=-', 't=0 0',
    'a=ice-lite', `a=group:BUNDLE ${bundled.join(' ')}`, 'a=msid-semantic: WMS *',
  ];
  return [...head, ...sections.flatMap((section) => section.lines), ''].join('\r\n');
}

/** All sections go over one transport, and each repeats what it is. */
function transportLines({ iceParameters, iceCandidates, dtlsParameters }, setup) {
  const hash = dtlsParameters.fingerprints.find((one) => one.algorithm === 'sha-256') ?? dtlsParameters.fingerprints.at(-1);
  return [
    'c=IN IP4 0.0.0.0',
    `a=ice-ufrag:${iceParameters.usernameFragment}`,
    `a=ice-pwd:${iceParameters.password}`,
    `a=fingerprint:${hash.algorithm} ${hash.value}`,
    `a=setup:${setup}`,
    ...iceCandidates.map(({ foundation, priority, ip, port, protocol }) => protocol === TCP
      ? `a=candidate:${foundation} 1 tcp ${priority} ${ip} ${port} typ host tcptype passive`
      : `a=candidate:${foundation} 1 udp ${priority} ${ip} ${port} typ host`),
    'a=end-of-candidates',
  ];
}

function dataSection(mid, options, setup) {
  const lines = [
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', ...transportLines(options, setup), `a=mid:${mid}`,
    `a=sctp-port:${options.sctpParameters.port}`, `a=max-message-size:${options.sctpParameters.maxMessageSize}`,
  ];
  return { mid, lines };
}

/** The client's certificate, as `connectTransport` wants it. */
function ownFingerprint(sdp) {
  const [, algorithm, value] = sdp.match(/^a=fingerprint:(\S+) (\S+)/m);
  return { role: DTLS_CLIENT, fingerprints: [{ algorithm: algorithm.toLowerCase(), value: value.toUpperCase() }] };
}

/** The transport that the client sends by: the browser offers, and the client answers for the server. */
export class Sending {
  constructor(options) {
    this.options = options;
    this.peer = new RTCPeerConnection();
    // It has room for a voice from the beginning; a microphone may be allowed later.
    this.transceiver = this.peer.addTransceiver('audio', { direction: 'sendonly' });
    this.channel = this.peer.createDataChannel('', { ...UNRELIABLE, id: 0 });
    this.voice = null;
  }

  /** Gives what `connectTransport` says, or nothing if it was closed meanwhile. */
  async connect() {
    let offer;
    const isOpen = await unlessClosed(this.peer, async () => {
      await this.peer.setLocalDescription(await this.peer.createOffer());
      offer = this.peer.localDescription.sdp;
      const sections = offer.split(/^(?=m=)/m).slice(1).map((section) => {
        const [, mid] = section.match(/^a=mid:(\S+)/m);
        return section.startsWith('m=audio') ? this.#audioSection(mid, section) : dataSection(mid, this.options, 'passive');
      });
      await this.peer.setRemoteDescription({ type: 'answer', sdp: description(1, sections) });
    });
    return isOpen && ownFingerprint(offer);
  }

  /** Takes Opus from the offer, and of the header extensions those that the server has use for. */
  #audioSection(mid, section) {
    const payloadType = Number(section.match(/^a=rtpmap:(\d+) opus\/48000\/2/im)[1]);
    const headerExtensions = [...section.matchAll(/^a=extmap:(\d+)(?:\/\S+)? (\S+)/gm)]
      .map(([, id, uri]) => ({ id: Number(id), uri }))
      .filter(({ uri }) => uri === MID || uri === AUDIO_LEVEL);
    const source = section.match(/^a=ssrc:(\d+) cname:(\S+)/m);
    // Silence costs nothing with `usedtx`, and a lost packet is half in the next with `useinbandfec`.
    const parameters = { minptime: 10, useinbandfec: 1, usedtx: 1 };
    this.voice = {
      codecs: [{ mimeType: 'audio/opus', payloadType, clockRate: 48000, channels: 2, parameters: JSON.stringify(parameters) }],
      headerExtensions,
      encodings: source ? [{ ssrc: Number(source[1]) }] : [],
      mid,
      cname: source?.[2],
    };
    const lines = [
      `m=audio 9 UDP/TLS/RTP/SAVPF ${payloadType}`, ...transportLines(this.options, 'passive'), `a=mid:${mid}`, 'a=recvonly',
      `a=rtpmap:${payloadType} opus/48000/2`,
      `a=fmtp:${payloadType} ${Object.entries(parameters).map((pair) => pair.join('=')).join(';')}`,
      ...headerExtensions.map(({ id, uri }) => `a=extmap:${id} ${uri}`),
      'a=rtcp-mux', 'a=rtcp-rsize',
    ];
    return { mid, lines };
  }

  close() {
    this.peer.close();
  }
}

/** The transport that the client is sent by: the client offers for the server, and the browser answers. */
export class Receiving {
  /** `heard` is called with the id of a consumer and its track. */
  constructor(options, heard) {
    this.options = options;
    this.peer = new RTCPeerConnection();
    this.version = 0;
    // In the order of the description. The section of data comes first and stays; one section for
    // each voice follows. Sections cannot be taken away, only rejected and then used again.
    this.voices = [];
    this.wanted = new Set();
    this.channels = new Map();
    this.work = Promise.resolve();
    this.queued = null;
    this.peer.addEventListener('track', ({ track, transceiver }) => {
      const voice = this.voices.find((one) => one.mid === transceiver.mid);
      if (voice) heard(voice.consumer, track);
    });
  }

  /** As the other's. */
  async connect() {
    return (await this.#negotiate()) && ownFingerprint(this.peer.localDescription.sdp);
  }

  /** Descriptions are exchanged one after the other. */
  #negotiate() {
    // All that changes while one exchange is under way goes into the next.
    this.queued ??= this.work.catch(() => {}).then(() => {
      this.queued = null;
      return unlessClosed(this.peer, async () => {
        const rejected = this.voices.filter((voice) => voice.isRejected);
        const voices = this.voices.map((voice) => ({ ...voice, lines: this.#voiceLines(voice) }));
        const sdp = description(++this.version, [dataSection('data', this.options, 'actpass'), ...voices]);
        await this.peer.setRemoteDescription({ type: 'offer', sdp });
        await this.peer.setLocalDescription(await this.peer.createAnswer());
        for (const voice of rejected) voice.isFree = true;
      });
    });
    return (this.work = this.queued);
  }

  #voiceLines({ mid, consumer, parameters, isRejected }) {
    const [{ payloadType, parameters: format }] = parameters.codecs;
    const settings = Object.entries(JSON.parse(format || '{}')).map((pair) => pair.join('='));
    return [
      `m=audio ${isRejected ? 0 : 9} UDP/TLS/RTP/SAVPF ${payloadType}`, ...transportLines(this.options, 'actpass'),
      `a=mid:${mid}`, isRejected ? 'a=inactive' : 'a=sendonly',
      `a=rtpmap:${payloadType} opus/48000/2`,
      ...(settings.length ? [`a=fmtp:${payloadType} ${settings.join(';')}`] : []),
      ...parameters.headerExtensions.map(({ id, uri }) => `a=extmap:${id} ${uri}`),
      'a=rtcp-mux', 'a=rtcp-rsize',
      ...(isRejected ? [] : [
        `a=msid:${consumer} ${consumer}`,
        ...parameters.encodings.map(({ ssrc }) => `a=ssrc:${ssrc} cname:${parameters.cname || consumer}`),
      ]),
    ];
  }

  async addVoice(consumer, parameters) {
    const voice = { mid: parameters.mid, consumer, parameters, isRejected: false, isFree: false };
    const free = this.voices.findIndex((one) => one.isFree);
    if (free < 0) this.voices.push(voice);
    else this.voices[free] = voice;
    await this.#negotiate();
  }

  async removeVoice(consumer) {
    const voice = this.voices.find((one) => one.consumer === consumer && !one.isRejected);
    if (!voice) return;
    voice.isRejected = true;
    await this.#negotiate();
  }

  /** `received` is called with each message. */
  addChannel(consumer, id, received) {
    this.wanted.add(consumer);
    this.#open(consumer, id, received);
  }

  #open(consumer, id, received) {
    if (this.peer.signalingState === 'closed' || !this.wanted.has(consumer)) return;
    const used = [...this.channels.values()].find((channel) => channel.id === id && channel.readyState !== 'closed');
    if (used) {
      // The number of somebody who has just left: the browser gives it back when its reset is through.
      used.addEventListener('close', () => this.#open(consumer, id, received), { once: true });
      used.close();
      return;
    }
    const channel = this.peer.createDataChannel('', { ...UNRELIABLE, id });
    channel.binaryType = 'arraybuffer';
    channel.addEventListener('message', ({ data }) => received(data));
    channel.addEventListener('close', () => {
      if (this.channels.get(consumer) === channel) this.channels.delete(consumer);
    });
    this.channels.set(consumer, channel);
  }

  removeChannel(consumer) {
    this.wanted.delete(consumer);
    this.channels.get(consumer)?.close();
  }

  close() {
    this.peer.close();
  }
}
