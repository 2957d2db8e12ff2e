// Plays /whep/NAME by WebRTC where that carries all that the stream has, and else /NAME.mp4, an
// endless fragmented MP4, through Media Source Extensions, near its live edge. `window.ringside` tells what is going on, for tests and for the page around a frame.
(() => {
  'use strict';

  const settings = JSON.parse(document.getElementById('settings').textContent);
  const parameters = new URLSearchParams(location.search);
  const off = (name) => ['0', 'false', 'no'].includes(parameters.get(name));
  const on = (name) => parameters.has(name) && !off(name);

  // Seconds. The target grows when playback runs dry and shrinks while it does not.
  const TARGET_MIN = Math.min(Math.max(Number(parameters.get('target')) || 0.7, 0.2), 10);
  const TARGET_MAX = Math.max(4, TARGET_MIN);
  const JUMP_BEHIND = 5;
  const KEEP_BACK = 20;
  const SILENCE_MAX = 10;
  const PAUSE_MAX = 20;
  const RETRY_MAX = 10;
  // Until the first packet by WebRTC; between two of them.
  const PACKETS_MAX = 3;
  const GAP_MAX = 4;
  const QUEUE_BYTES_MAX = 16 * 1024 * 1024;

  const at = (id) => document.getElementById(id);
  const stage = at('stage');
  const video = stage.querySelector('video');
  const Source = window.MediaSource || window.ManagedMediaSource;
  const media = `/${encodeURIComponent(settings.name)}.mp4`;
  const HLS = 'html5/application/vnd.apple.mpegurl;version=7';
  const whep = `/whep/${encodeURIComponent(settings.name)}`;
  // What WebRTC carries, by the names of the server.
  const RTC_CODECS = {
    H264: 'video/h264', HEVC: 'video/h265', VP8: 'video/vp8', VP9: 'video/vp9', AV1: 'video/av1',
    opus: 'audio/opus', ULAW: 'audio/pcmu', ALAW: 'audio/pcma', G722: 'audio/g722',
  };
  const forced = { webrtc: 'webrtc', mse: 'mse' }[parameters.get('player')] || '';
  const about = `/json_${encodeURIComponent(settings.name)}.js`;

  let state = 'loading';
  let detail = '';
  let info = null;
  let tracks = [];
  let notes = [];
  // Why WebRTC is not tried again.
  let withoutRtc = '';
  let connection = null;
  let wanted = !off('autoplay');
  let target = TARGET_MIN;
  let attempts = 0;
  let retryTimer = 0;
  let pauseTimer = 0;
  const counts = { stalls: 0, jumps: 0, connections: 0 };

  // ---- state -------------------------------------------------------------------------------

  const HEADLINES = {
    loading: 'Connecting…',
    waiting: 'Waiting for the stream…',
    connecting: 'Connecting…',
    playing: '',
    buffering: 'Buffering…',
    paused: '',
    stopped: '',
    blocked: 'Press play to start',
    unsupported: 'This browser cannot play the stream',
  };

  function enter(next, why = '') {
    if (state === next && detail === why) return;
    state = next;
    detail = why;
    if (state !== 'playing') wake();
    show();
  }

  const latency = () => {
    if (connection && connection.latency !== undefined) return connection.latency;
    const ranges = video.buffered;
    return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - video.currentTime) : null;
  };

  // ---- what there is to play ---------------------------------------------------------------

  async function open() {
    close();
    clearTimeout(retryTimer);
    enter(state === 'waiting' ? 'waiting' : 'connecting', detail);
    try {
      const response = await fetch(about, { cache: 'no-store' });
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      info = await response.json();
    } catch (error) {
      return retry(`The server cannot be reached: ${error.message}`);
    }
    if (!wanted) return enter('stopped');
    if (info.error) return retry(settings.offline || info.error);
    const direct = chooseDirect(Object.entries(info.meta.tracks));
    if (direct) {
      tracks = direct.tracks;
      showTracks();
      connection = new Direct(direct.address, direct.kinds);
      return;
    }
    const hls = (info.source || []).find((one) => one.type === HLS);
    const isNative = hls && (!Source || on('native')) && video.canPlayType('application/vnd.apple.mpegurl');
    const source = isNative ? hls : (info.source || []).find((one) => one.type === 'html5/video/mp4');
    tracks = choose(Object.entries(info.meta.tracks), source);
    showTracks();
    const carried = tracks.filter((track) => track.played);
    if (!source || !carried.length) return fail('The stream has no track that MP4 can carry.');
    if (isNative) {
      connection = new Native(`/${hls.relurl}`);
      return;
    }
    if (!Source) return fail('It has no Media Source Extensions.');
    const type = (list) => `video/mp4; codecs="${list.map((track) => track.codecstring).join(', ')}"`;
    // A picture without its sound is better than nothing, and so is a sound without its picture.
    const chosen = carried.filter((track) => Source.isTypeSupported(type([track])));
    const refused = carried.filter((track) => !chosen.includes(track));
    if (!chosen.length || !Source.isTypeSupported(type(chosen))) {
      const names = (chosen.length ? chosen : refused).map((t) => `${t.codec} (${t.codecstring})`);
      return fail(`It has no decoder for ${names.join(' and ')}.`);
    }
    for (const track of refused) track.played = false;
    showTracks();
    const without = refused.map((track) => `${track.type}=none`).join('&');
    connection = new Connection(type(chosen), without ? `${media}?${without}` : media);
  }

  // One track of each kind for WebRTC, if all kinds that there are can go by it. A second of delay
  // is nothing to a viewer who would have no sound instead.
  function chooseDirect(entries) {
    notes = [];
    const refuse = (why) => {
      if (why) notes.push(why);
      return null;
    };
    const bframes = info.meta.bframes ? 'The encoder sends B-frames, which browsers show in the wrong order by WebRTC' : '';
    if (forced === 'mse' || on('native')) return null;
    if (withoutRtc && !forced) return refuse(`Not by WebRTC: ${withoutRtc}`);
    const isServed = (info.source || []).some((one) => one.type === 'whep');
    if (!isServed) return forced ? refuse('The server has WebRTC off.') : null;
    const decoders = Whep.decoders();
    if (!decoders.size) return forced ? refuse('This browser has no WebRTC.') : null;
    const all = entries
      .map(([name, track]) => ({ ...track, name, played: false }))
      .filter((track) => track.type === 'video' || track.type === 'audio')
      .sort((a, b) => (a.type === b.type ? a.idx - b.idx : a.type === 'video' ? -1 : 1));
    const kinds = [];
    const query = [];
    const left = [];
    for (const kind of ['video', 'audio']) {
      const there = all.filter((track) => track.type === kind);
      const fit = there.filter((track) => decoders.has(RTC_CODECS[track.codec]));
      // Of layers the one with the most pixels.
      const area = (track) => (track.width || 0) * (track.height || 0);
      const best = fit.reduce((a, b) => (a && area(a) >= area(b) ? a : b), null);
      if (best) {
        best.played = true;
        kinds.push(kind);
        query.push(`${kind}=${best.idx}`);
      } else if (there.length) {
        left.push(`${there.map((track) => track.codec).join(', ')} cannot go by WebRTC to this browser`);
      }
    }
    if (forced) {
      notes.push(...left.map((why) => `Left out: ${why}.`));
      if (bframes) notes.push(`${bframes}: expect it to stutter.`);
    } else if (left.length) {
      return refuse(`Not by WebRTC: ${left.join(', and ')}.`);
    } else if (bframes) {
      return refuse(`Not by WebRTC: ${bframes}.`);
    }
    return kinds.length ? { tracks: all, kinds, address: `${whep}?${query.join('&')}` } : null;
  }

  // The server puts one video and one audio track into MP4: the first of each that it can carry.
  function choose(entries, source) {
    const leftOut = new Set((source && source.left_out) || []);
    const taken = new Set();
    return entries
      .map(([name, track]) => ({ ...track, name }))
      .filter((track) => track.type === 'video' || track.type === 'audio')
      .sort((a, b) => (a.type === b.type ? a.idx - b.idx : a.type === 'video' ? -1 : 1))
      .map((track) => {
        const played = !leftOut.has(track.name) && !taken.has(track.type);
        if (played) taken.add(track.type);
        return { ...track, played };
      });
  }

  function retry(why) {
    close();
    clearTimeout(retryTimer);
    const pause = Math.min(RETRY_MAX, 0.7 * 1.5 ** attempts) * (0.85 + 0.3 * Math.random());
    attempts += 1;
    enter('waiting', why);
    retryTimer = setTimeout(open, pause * 1000);
  }

  function fail(why) {
    close();
    enter('unsupported', why);
  }

  function close() {
    if (connection) connection.close();
    connection = null;
  }

  // ---- one connection ----------------------------------------------------------------------

  class Connection {
    constructor(type, address) {
      this.address = address;
      counts.connections += 1;
      this.opened = performance.now();
      this.heard = this.opened;
      this.started = 0;
      this.jumped = -1e9;
      this.calmSince = this.opened;
      this.queue = [];
      this.queued = 0;
      this.samples = [];
      this.abort = new AbortController();
      this.source = new Source();
      this.url = URL.createObjectURL(this.source);
      this.source.addEventListener('sourceopen', () => this.begin(type), { once: true });
      video.src = this.url;
    }

    // Only a connection that is still the current one may change the page.
    lives() {
      return connection === this;
    }

    begin(type) {
      if (!this.lives()) return;
      try {
        this.buffer = this.source.addSourceBuffer(type);
      } catch (error) {
        return fail(error.message);
      }
      this.buffer.addEventListener('updateend', () => this.pump());
      this.read();
    }

    async read() {
      try {
        const response = await fetch(this.address, { cache: 'no-store', signal: this.abort.signal });
        if (!response.ok) throw new Error(`the server answered ${response.status}`);
        const reader = response.body.getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (!this.lives()) return;
          if (done) throw new Error('the stream ended');
          this.take(value);
        }
      } catch (error) {
        if (this.lives()) retry(settings.offline || `Connection lost: ${error.message}.`);
      }
    }

    take(bytes) {
      const now = performance.now();
      this.heard = now;
      this.samples.push([now, bytes.length]);
      while (now - this.samples[0][0] > 3000) this.samples.shift();
      this.queue.push(bytes);
      this.queued += bytes.length;
      if (this.queued > QUEUE_BYTES_MAX) return retry('The browser cannot keep up.');
      this.pump();
    }

    pump() {
      if (!this.lives() || !this.buffer || this.buffer.updating) return;
      if (video.error) return retry(`Playback failed: ${video.error.message || 'bad media'}.`);
      try {
        if (this.trim(KEEP_BACK) || !this.queue.length) return;
        const bytes = this.queue.length === 1 ? this.queue[0] : join(this.queue, this.queued);
        this.queue = [];
        this.queued = 0;
        this.pending = bytes;
        this.buffer.appendBuffer(bytes);
      } catch (error) {
        if (error.name !== 'QuotaExceededError') return retry(`Playback failed: ${error.message}.`);
        this.queue.unshift(this.pending);
        this.queued += this.pending.length;
        if (!this.trim(2)) retry('The browser is out of memory for media.');
      }
    }

    // Drops what was played more than `keep` seconds ago; true if that is under way.
    trim(keep) {
      const ranges = this.buffer.buffered;
      const end = video.currentTime - keep;
      if (!ranges.length || ranges.start(0) > end - Math.min(keep, 10)) return false;
      this.buffer.remove(0, end);
      return true;
    }

    bitrate() {
      const since = Math.max(this.opened, performance.now() - 3000);
      const seconds = (performance.now() - since) / 1000;
      if (seconds < 0.5) return 0;
      const bytes = this.samples.reduce((sum, [time, size]) => (time >= since ? sum + size : sum), 0);
      return (bytes * 8) / seconds;
    }

    // Called a few times a second: starts, keeps to the edge, notices what is wrong.
    steer() {
      const now = performance.now();
      if (now - this.heard > SILENCE_MAX * 1000) return retry('Nothing came for a while.');
      const ranges = video.buffered;
      if (!ranges.length) return;
      const end = ranges.end(ranges.length - 1);
      if (!this.started) {
        this.started = now;
        video.currentTime = Math.max(ranges.start(0), end - target);
        return play();
      }
      if (video.paused) return;
      const behind = end - video.currentTime;
      const inside = range(ranges, video.currentTime);
      if (inside < 0) {
        const next = ahead(ranges, video.currentTime);
        if (next >= 0) return jump(Math.max(ranges.start(next) + 0.01, end - target));
      }
      // The server begins with its newest keyframe, so the first seconds may come in one burst.
      const patience = now - this.started < 1500 ? target + 0.5 : Math.max(JUMP_BEHIND, target + 1);
      if (behind > patience) return jump(end - target);
      const rate = behind > target + 1 ? 1.1 : behind > target + 0.25 ? 1.05 : 1;
      const hold = video.playbackRate > 1 && rate === 1 && behind > target + 0.05;
      if (!hold && video.playbackRate !== rate) video.playbackRate = rate;
      if (video.readyState >= 3) enter('playing');
      if (now - this.started > 5000) attempts = 0;
      if (now - this.calmSince > 20000) {
        this.calmSince = now;
        target = Math.max(TARGET_MIN, target * 0.85);
      }
    }

    stalled() {
      // Playback runs dry for a moment whenever it begins somewhere.
      const now = performance.now();
      if (!this.started || now - this.started < 1000 || now - this.jumped < 1000 || video.paused) return;
      counts.stalls += 1;
      this.calmSince = now;
      target = Math.min(TARGET_MAX, target * 1.4);
      enter('buffering');
    }

    close() {
      this.abort.abort();
      this.queue = [];
      URL.revokeObjectURL(this.url);
      video.removeAttribute('src');
      video.load();
    }
  }

  // WebRTC: what comes is shown at once.
  class Direct {
    constructor(address, kinds) {
      counts.connections += 1;
      const now = performance.now();
      this.opened = now;
      this.heard = now;
      this.moved = now;
      this.looked = now;
      this.started = 0;
      this.bytes = 0;
      this.bits = 0;
      this.latency = null;
      this.protocol = '';
      this.hasPicture = kinds.includes('video');
      this.whep = new Whep(address, kinds);
      video.srcObject = this.whep.stream;
      play();
      this.join();
    }

    lives() {
      return connection === this;
    }

    async join() {
      try {
        await this.whep.join();
        this.opened = performance.now();
      } catch (error) {
        if (!this.lives()) return;
        if (error.status === 404) return retry(settings.offline || 'The stream is not there yet.');
        this.instead(error.message);
      }
    }

    // Another way for the rest of the page's life: what kept WebRTC away will do so again.
    instead(why) {
      if (forced) return retry(`WebRTC failed: ${why}`);
      withoutRtc = why;
      open();
    }

    bitrate() {
      return this.bits;
    }

    steer() {
      const now = performance.now();
      if (now - this.looked > 500) {
        this.looked = now;
        this.look(now);
      }
      const { state: peer } = this.whep;
      if (!this.bytes) {
        if (peer === 'failed' || (this.whep.resource && now - this.opened > PACKETS_MAX * 1000)) {
          this.instead('nothing came through.');
        }
        return;
      }
      if (peer === 'failed' || peer === 'closed') return retry('Connection lost.');
      if (now - this.heard > GAP_MAX * 1000) return retry(settings.offline || 'Nothing came for a while.');
      if (video.paused) {
        this.moved = now;
        return;
      }
      if (!this.started && video.readyState >= 2) {
        this.started = now;
        this.moved = now;
      }
      if (!this.started) return;
      if (this.hasPicture && now - this.moved > 1500) this.stalled();
      else if (video.readyState >= 2) enter('playing');
      if (now - this.started > 5000) attempts = 0;
    }

    async look(now) {
      const seen = await this.whep.look().catch(() => null);
      if (!seen || !this.lives()) return;
      if (seen.bytes > this.bytes) this.heard = now;
      if (seen.frames > 0) this.moved = now;
      this.bytes = seen.bytes;
      this.bits = seen.bitrate;
      this.protocol = seen.protocol;
      if (seen.latency !== null) this.latency = seen.latency;
    }

    stalled() {
      if (!this.started || video.paused || state === 'buffering') return;
      counts.stalls += 1;
      enter('buffering');
    }

    close() {
      this.whep.close();
      video.srcObject = null;
    }
  }

  // Where there are no Media Source Extensions, as on older iPhones, the browser plays HLS itself.
  class Native {
    constructor(address) {
      counts.connections += 1;
      this.started = 0;
      this.heard = performance.now();
      video.src = address;
      play();
    }

    bitrate() {
      return 0;
    }

    steer() {
      const now = performance.now();
      if (video.error) return retry(`Playback failed: ${video.error.message || 'bad media'}.`);
      if (video.paused || video.readyState >= 3) this.heard = now;
      if (now - this.heard > SILENCE_MAX * 1000) return retry('Nothing came for a while.');
      if (video.paused || video.readyState < 3) return;
      this.started = this.started || now;
      if (now - this.started > 5000) attempts = 0;
      enter('playing');
    }

    stalled() {
      if (!this.started || video.paused) return;
      counts.stalls += 1;
      enter('buffering');
    }

    close() {
      video.removeAttribute('src');
      video.load();
    }
  }

  function join(parts, length) {
    const whole = new Uint8Array(length);
    let offset = 0;
    for (const part of parts) {
      whole.set(part, offset);
      offset += part.length;
    }
    return whole;
  }

  function range(ranges, time) {
    for (let i = 0; i < ranges.length; i += 1) {
      if (time >= ranges.start(i) - 0.05 && time <= ranges.end(i) + 0.05) return i;
    }
    return -1;
  }

  function ahead(ranges, time) {
    for (let i = 0; i < ranges.length; i += 1) if (ranges.start(i) > time) return i;
    return ranges.length && time > ranges.end(ranges.length - 1) ? ranges.length - 1 : -1;
  }

  function jump(time) {
    counts.jumps += 1;
    if (connection) connection.jumped = performance.now();
    video.currentTime = time;
    video.playbackRate = 1;
  }

  // ---- what the viewer does ----------------------------------------------------------------

  async function play() {
    try {
      await video.play();
    } catch (error) {
      if (error.name !== 'NotAllowedError') return;
      if (video.muted) {
        wanted = false;
        return enter('blocked');
      }
      // Sound needs a gesture. Pictures first, and a button for the sound.
      video.muted = true;
      at('unmute').hidden = false;
      return play();
    }
  }

  function toggle() {
    if (!wanted || video.paused) {
      wanted = true;
      clearTimeout(pauseTimer);
      if (!connection) return open();
      toEdge();
      play();
    } else {
      wanted = false;
      clearTimeout(retryTimer);
      video.pause();
      enter(connection ? 'paused' : 'stopped');
      // A paused viewer costs the server as much as a watching one.
      pauseTimer = setTimeout(() => { if (!wanted) { close(); enter('stopped'); } }, PAUSE_MAX * 1000);
    }
    show();
  }

  function toEdge() {
    if (connection instanceof Direct) return;
    const behind = latency();
    if (behind !== null && behind > target + 0.3) jump(video.currentTime + behind - target);
  }

  function unmute() {
    video.muted = !video.muted;
    if (!video.muted && video.volume === 0) video.volume = 0.5;
    if (!video.muted) at('unmute').hidden = true;
  }

  function fullScreen() {
    const open = document.fullscreenElement || document.webkitFullscreenElement;
    const call = open
      ? document.exitFullscreen || document.webkitExitFullscreen
      : stage.requestFullscreen || stage.webkitRequestFullscreen;
    if (call) call.call(open ? document : stage);
    else if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();
  }

  function toggleInfo() {
    const panel = at('panel');
    panel.hidden = !panel.hidden;
    at('info').setAttribute('aria-expanded', String(!panel.hidden));
    show();
  }

  // ---- what the viewer sees ----------------------------------------------------------------

  const ICONS = {
    play: 'M8 5.1v13.8L19 12z',
    pause: 'M7 5h3.5v14H7zm6.5 0H17v14h-3.5z',
    loud: 'M4 9.5v5h3.3L12 19V5L7.3 9.5zM14.5 8.4a4.5 4.5 0 0 1 0 7.2l-1-1.3a2.9 2.9 0 0 0 0-4.6zM16.6 5.6a8 8 0 0 1 0 12.8l-1-1.3a6.4 6.4 0 0 0 0-10.2z',
    quiet: 'M4 9.5v5h3.3L12 19V5L7.3 9.5zM15.2 8.8 17.5 11.1 19.8 8.8 21 10 18.7 12.3 21 14.6 19.8 15.8 17.5 13.5 15.2 15.8 14 14.6 16.3 12.3 14 10z',
  };

  function icon(button, name, label) {
    const path = button.querySelector('path');
    if (path.getAttribute('d') !== ICONS[name]) path.setAttribute('d', ICONS[name]);
    button.setAttribute('aria-label', label);
  }

  const text = (element, value) => {
    if (element.textContent !== value) element.textContent = value;
  };
  const seconds = (value) => (value === null ? '–' : `${value.toFixed(1)} s`);
  const rate = (bits) => (bits >= 1e6 ? `${(bits / 1e6).toFixed(2)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`);

  function show() {
    const behind = latency();
    const shown = ['playing', 'paused'].includes(state) || (state === 'buffering' && video.readyState > 0);
    const cover = at('cover');
    cover.classList.toggle('clear', state === 'playing' || state === 'paused');
    cover.classList.toggle('thin', state === 'buffering');
    at('spinner').hidden = ['stopped', 'blocked', 'unsupported'].includes(state);
    at('start').hidden = !['stopped', 'blocked'].includes(state);
    text(at('headline'), HEADLINES[state]);
    text(at('detail'), ['waiting', 'unsupported'].includes(state) ? detail : '');
    showElsewhere();

    const badge = at('badge');
    text(badge, shown ? 'LIVE' : state === 'unsupported' ? 'LIVE' : 'OFFLINE');
    badge.hidden = ['loading', 'connecting', 'stopped', 'blocked'].includes(state);
    badge.classList.toggle('on', shown || state === 'unsupported');

    for (const id of ['play', 'mute', 'volume']) at(id).hidden = state === 'unsupported';
    const running = wanted && !video.paused;
    icon(at('play'), running ? 'pause' : 'play', running ? 'Pause' : 'Play');
    const silent = video.muted || video.volume === 0;
    icon(at('mute'), silent ? 'quiet' : 'loud', silent ? 'Unmute' : 'Mute');
    const level = video.muted ? 0 : video.volume;
    at('volume').value = level;
    at('volume').style.setProperty('--level', `${level * 100}%`);

    const edge = at('edge');
    edge.hidden = !shown;
    edge.classList.toggle('on', state === 'playing' && behind !== null && behind < target + 1.5);
    edge.classList.toggle('late', state === 'paused' || (behind !== null && behind >= target + 1.5));
    const bits = connection ? connection.bitrate() : 0;
    const line = {
      playing: [connection instanceof Direct ? 'WebRTC' : `${seconds(behind)} behind live`, bits && innerWidth > 560 ? rate(bits) : ''],
      buffering: ['Buffering'],
      paused: ['Paused'],
      waiting: ['Offline'],
    }[state] || [];
    text(at('state'), line.filter(Boolean).join('  ·  '));
    if (!at('panel').hidden) showFigures(behind, bits);
  }

  function transport() {
    if (connection instanceof Direct) return `WebRTC${connection.protocol ? ` (${connection.protocol.toUpperCase()})` : ''}`;
    return connection instanceof Native ? 'HLS' : connection ? 'HTTP' : '–';
  }

  // Firefox does not count the pictures of a MediaStream.
  function frames() {
    const quality = video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality() : null;
    if (!quality) return null;
    const received = connection instanceof Direct ? connection.whep.last.frames : 0;
    return { total: quality.totalVideoFrames || received, dropped: quality.droppedVideoFrames };
  }

  function showFigures(behind, bits) {
    const counted = frames();
    const figures = [
      ['State', state],
      ['Transport', transport()],
      ['Latency', connection instanceof Direct && behind !== null ? `${Math.round(behind * 1000)} ms` : seconds(behind)],
      ['Target', connection instanceof Direct ? '–' : seconds(target)],
      ['Speed', `${video.playbackRate.toFixed(2)}×`],
      ['Received', bits ? rate(bits) : '–'],
      ['Picture', video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : '–'],
      ['Frames dropped', counted ? `${counted.dropped} of ${counted.total}` : '–'],
      ['Stalls, jumps', `${counts.stalls}, ${counts.jumps}`],
    ];
    const list = at('figures');
    if (list.children.length !== figures.length * 2) {
      list.replaceChildren(...figures.flatMap(() => [document.createElement('dt'), document.createElement('dd')]));
    }
    figures.forEach(([name, value], i) => {
      text(list.children[2 * i], name);
      text(list.children[2 * i + 1], value);
    });
  }

  function showTracks() {
    const note = at('note');
    text(note, notes.join(' '));
    note.hidden = !notes.length;
    at('tracks').replaceChildren(...tracks.map((track) => {
      const item = document.createElement('li');
      const title = document.createElement('b');
      const line = document.createElement('span');
      const format = track.type === 'video'
        ? `${track.width} × ${track.height}${track.fps ? `, ${track.fps} fps` : ''}`
        : `${track.rate / 1000} kHz, ${track.channels === 1 ? 'mono' : track.channels === 2 ? 'stereo' : `${track.channels} channels`}`;
      title.textContent = `${track.codec}${track.lang ? ` · ${track.lang}` : ''}`;
      line.textContent = [
        format,
        track.bps ? rate(track.bps * 8) : '',
        track.codecstring,
        track.played ? '' : 'not played here',
      ].filter(Boolean).join('  ·  ');
      item.classList.toggle('unplayed', !track.played);
      item.append(title, line);
      return item;
    }));
  }

  // Other ways to a stream that this browser cannot play.
  function showElsewhere() {
    const list = at('elsewhere');
    list.hidden = state !== 'unsupported';
    if (list.hidden || list.children.length) return;
    const others = ((info && info.source) || []).filter((one) => one.type !== 'html5/text/html');
    list.replaceChildren(...others.filter((one) => /^(https?|rtmp):/.test(one.url)).map((one) => {
      const link = document.createElement('a');
      link.href = one.url;
      link.textContent = one.hrn;
      return link;
    }));
  }

  let idleTimer = 0;
  function wake() {
    stage.classList.remove('idle');
    clearTimeout(idleTimer);
    idleTimer = setTimeout(() => {
      const held = !at('panel').hidden || stage.querySelector('.bar :focus-visible');
      if (state === 'playing' && !held) stage.classList.add('idle');
    }, 2600);
  }

  // ---- wiring ------------------------------------------------------------------------------

  document.title = `${settings.name} – live`;
  at('name').textContent = settings.name;
  video.muted = on('muted');
  if (off('controls')) stage.querySelectorAll('.bar').forEach((bar) => { bar.hidden = true; });

  video.addEventListener('waiting', () => connection && connection.stalled());
  video.addEventListener('playing', () => { if (wanted) enter('playing'); wake(); });
  video.addEventListener('volumechange', show);
  video.addEventListener('error', () => {
    if (connection && video.error) retry(`Playback failed: ${video.error.message || 'bad media'}.`);
  });
  video.addEventListener('click', () => (matchMedia('(hover: hover)').matches ? toggle() : wake()));
  video.addEventListener('dblclick', fullScreen);
  at('start').addEventListener('click', toggle);
  at('play').addEventListener('click', toggle);
  at('mute').addEventListener('click', unmute);
  at('unmute').addEventListener('click', unmute);
  at('edge').addEventListener('click', () => { if (video.paused) toggle(); else toEdge(); });
  at('info').addEventListener('click', toggleInfo);
  at('full').addEventListener('click', fullScreen);
  at('volume').addEventListener('input', (event) => {
    video.volume = Number(event.target.value);
    video.muted = false;
    at('unmute').hidden = true;
  });
  for (const name of ['pointermove', 'pointerdown', 'keydown', 'focusin']) {
    document.addEventListener(name, wake, { passive: true });
  }
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { ' ': toggle, k: toggle, m: unmute, f: fullScreen, i: toggleInfo, l: toEdge };
    const act = keys[event.key];
    if (!act || (event.key === ' ' && event.target.closest('button'))) return;
    event.preventDefault();
    act();
  });
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && connection && wanted) {
      toEdge();
      if (video.paused) play();
    }
  });
  // A page that is left says goodbye, so that nobody sends to it any more.
  addEventListener('pagehide', close);
  addEventListener('pageshow', (event) => { if (event.persisted && wanted) open(); });
  setInterval(() => { if (connection) connection.steer(); show(); }, 200);

  Object.defineProperty(window, 'ringside', {
    value: {
      get state() { return state; },
      get detail() { return detail; },
      get latency() { return latency(); },
      get target() { return target; },
      get rate() { return video.playbackRate; },
      get bitrate() { return connection ? connection.bitrate() : 0; },
      get currentTime() { return video.currentTime; },
      get muted() { return video.muted; },
      get tracks() { return tracks; },
      get player() { return connection instanceof Direct ? 'webrtc' : connection instanceof Native ? 'native' : connection ? 'mse' : ''; },
      get notes() { return notes; },
      get peer() { return connection instanceof Direct ? connection.whep.peer : null; },
      get stalls() { return counts.stalls; },
      get jumps() { return counts.jumps; },
      get connections() { return counts.connections; },
      get frames() { return frames(); },
      toggle,
    },
  });

  wake();
  if (wanted) open(); else { enter('stopped'); show(); }
})();
