// Receives a stream by WebRTC, asked for by WHEP.
class Whep {
  // `kinds` are `video` and `audio`, or one of them.
  constructor(address, kinds) {
    this.address = address;
    this.stream = new MediaStream();
    this.resource = null;
    this.abort = new AbortController();
    this.peer = new RTCPeerConnection();
    this.peer.addEventListener('track', (event) => this.stream.addTrack(event.track));
    for (const kind of kinds) this.peer.addTransceiver(kind, { direction: 'recvonly' });
    this.last = { time: performance.now(), bytes: 0, frames: 0, delay: 0, emitted: 0 };
  }

  // What the browser can decode, as `video/h264`.
  static decoders() {
    if (!window.RTCPeerConnection || !window.RTCRtpReceiver || !RTCRtpReceiver.getCapabilities) return new Set();
    const of = (kind) => (RTCRtpReceiver.getCapabilities(kind) || { codecs: [] }).codecs;
    return new Set([...of('video'), ...of('audio')].map((one) => one.mimeType.toLowerCase()));
  }

  // Throws an error whose `status` is what the server answered, or 0.
  async join() {
    const offer = await this.peer.createOffer();
    // Unless it is asked for, Opus is decoded to one channel.
    const sdp = offer.sdp.replace(/^(a=fmtp:\d+ .*useinbandfec=1)(?!.*;stereo=)/gm, '$1;stereo=1');
    await this.peer.setLocalDescription({ type: 'offer', sdp });
    const tooLate = setTimeout(() => this.abort.abort(), 8000);
    try {
      const response = await fetch(this.address, {
        method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: this.peer.localDescription.sdp,
        cache: 'no-store', signal: this.abort.signal,
      });
      const answer = await response.text();
      if (response.status !== 201) throw Object.assign(new Error(answer || `the server answered ${response.status}`), { status: response.status });
      const location = response.headers.get('Location');
      this.resource = location && new URL(location, response.url).href;
      if (this.peer.signalingState === 'closed') return this.leave();
      await this.peer.setRemoteDescription({ type: 'answer', sdp: answer });
    } finally {
      clearTimeout(tooLate);
    }
  }

  get state() {
    return this.peer.connectionState || this.peer.iceConnectionState;
  }

  // What came since the last look: bits a second, pictures; seconds that the newest ones waited here.
  async look() {
    const now = { time: performance.now(), bytes: 0, frames: 0, delay: 0, emitted: 0 };
    let lost = 0;
    let pair = null;
    const reports = new Map();
    (await this.peer.getStats()).forEach((one) => reports.set(one.id, one));
    for (const one of reports.values()) {
      if (one.type === 'candidate-pair' && (one.selected || (one.nominated && one.state === 'succeeded'))) pair = one;
      if (one.type !== 'inbound-rtp') continue;
      now.bytes += one.bytesReceived || 0;
      lost += one.packetsLost || 0;
      if (one.kind !== 'video') continue;
      now.frames += one.framesDecoded || 0;
      now.delay += one.jitterBufferDelay || 0;
      now.emitted += one.jitterBufferEmittedCount || 0;
    }
    const { last } = this;
    this.last = now;
    const seconds = (now.time - last.time) / 1000;
    const emitted = now.emitted - last.emitted;
    const remote = pair && reports.get(pair.remoteCandidateId);
    return {
      bytes: now.bytes,
      frames: now.frames - last.frames,
      bitrate: seconds > 0 ? ((now.bytes - last.bytes) * 8) / seconds : 0,
      latency: emitted > 0 ? (now.delay - last.delay) / emitted + (pair && pair.currentRoundTripTime ? pair.currentRoundTripTime / 2 : 0) : null,
      lost,
      protocol: (remote && remote.protocol) || '',
    };
  }

  leave() {
    if (this.resource) fetch(this.resource, { method: 'DELETE', keepalive: true }).catch(() => {});
    this.resource = null;
  }

  close() {
    this.abort.abort();
    this.leave();
    this.peer.close();
  }
}
