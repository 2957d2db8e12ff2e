// What one hears: each voice from where its player stands, as loud as it is near.

/** Within so many metres a voice is at its full strength, and from there on it falls. */
const NEAR = 1.5;
/** The higher, the faster it falls: with this, a voice at 10 m has an eighth of its strength. */
const FALL = 1.2;

export class Sound {
  constructor() {
    this.context = new AudioContext();
    this.master = this.context.createGain();
    this.master.connect(this.context.destination);
    this.voices = new Map();
    this.own = null;
  }

  /** Browsers are silent until somebody has touched the page. */
  wake() {
    if (this.context.state === 'suspended') this.context.resume().catch(() => {});
  }

  set isOn(isOn) {
    this.master.gain.value = isOn ? 1 : 0;
  }

  add(player, track) {
    this.remove(player);
    const stream = new MediaStream([track]);
    // In Chromium what comes by WebRTC is decoded only while an element plays it; this one is silent.
    const element = new Audio();
    element.muted = true;
    element.srcObject = stream;
    element.play().catch(() => {});
    const source = this.context.createMediaStreamSource(stream);
    const level = new Level(this.context, source);
    const panner = new PannerNode(this.context, {
      panningModel: 'equalpower', distanceModel: 'inverse', refDistance: NEAR, rolloffFactor: FALL,
    });
    source.connect(panner).connect(this.master);
    this.voices.set(player, { element, source, level, panner });
  }

  remove(player) {
    const voice = this.voices.get(player);
    if (!voice) return;
    this.voices.delete(player);
    voice.source.disconnect();
    voice.panner.disconnect();
    voice.element.srcObject = null;
  }

  /** The listener stays where it is and looks up the map; all others stand around it. */
  place(player, me, other) {
    const panner = this.voices.get(player)?.panner;
    if (!panner || !other) return;
    for (const axis of ['x', 'y', 'z']) {
      // A jump of gain clicks; this glides.
      panner[`position${axis.toUpperCase()}`].setTargetAtTime(other[axis] - me[axis], this.context.currentTime, 0.03);
    }
  }

  /** One's own voice is measured, not played. */
  setOwn(track) {
    this.own = track && new Level(this.context, this.context.createMediaStreamSource(new MediaStream([track])));
  }

  /** How loud somebody is, before the distance: 0 to 1. */
  level(player, isMe) {
    return (isMe ? this.own : this.voices.get(player)?.level)?.read() ?? 0;
  }
}

class Level {
  constructor(context, source) {
    this.analyser = new AnalyserNode(context, { fftSize: 512 });
    this.samples = new Float32Array(this.analyser.fftSize);
    source.connect(this.analyser);
  }

  read() {
    this.analyser.getFloatTimeDomainData(this.samples);
    let sum = 0;
    for (const sample of this.samples) sum += sample * sample;
    return Math.min(1, 5 * Math.sqrt(sum / this.samples.length));
  }
}
