// The map: who is where, seen from above. North, which is -z, is up, and oneself is in the middle.

/** Metres across the shorter side. */
const SPAN = 13;
const RADIUS = 0.42;
/** How long what somebody wrote stands beside them. */
const WORDS_MS = 5000;
/** Locations come 20 times a second and pictures more often: others glide for so long. */
const GLIDE_MS = 90;

export const hue = (id) => (id * 137.508) % 360;

export class GroundMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.brush = canvas.getContext('2d');
    this.shown = new Map();
    this.words = new Map();
    this.levels = new Map();
    this.readColours();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.readColours());
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ['ground', 'grid', 'panel', 'text', 'quiet', 'talk', 'lightness'];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  say(player, words) {
    this.words.set(player, { words: words.length > 48 ? `${words.slice(0, 47)}…` : words, until: performance.now() + WORDS_MS });
  }

  /** From the middle of the map to a point of the page, in metres. */
  toMetres(x, y) {
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(box.width, box.height) / SPAN;
    return [(x - box.left - box.width / 2) / scale, (y - box.top - box.height / 2) / scale];
  }

  /** `level` gives how loud a player is. */
  draw(players, me, passed, level) {
    const { canvas, brush, colours } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const scale = Math.min(width, height) / SPAN;
    const own = players.get(me)?.place;
    if (!own || !scale) return;
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.fillStyle = colours.ground;
    brush.fillRect(0, 0, width, height);
    const at = ({ x, z }) => [width / 2 + (x - own.x) * scale, height / 2 + (z - own.z) * scale];
    this.drawGrid(at, own, width, height, scale);
    for (const id of this.shown.keys()) if (!players.has(id)) this.shown.delete(id);
    // Words stand above all bodies, and one's own body above the others.
    const above = [];
    const others = [...players.values()].filter((player) => player.id !== me);
    for (const player of [...others, players.get(me)]) {
      if (!player.place) continue;
      const isMe = player.id === me;
      const place = isMe ? own : this.glide(player, passed);
      // The ring rises at once and falls slowly, as ears do.
      const target = player.isTalking ? Math.max(0.15, level(player.id, isMe)) : 0;
      const before = this.levels.get(player.id) ?? 0;
      const loud = target > before ? target : before + (target - before) * Math.min(1, passed / 160);
      this.levels.set(player.id, loud);
      const [x, y] = at(place);
      const margin = 26;
      const isInside = x > -margin && y > -margin && x < width + margin && y < height + margin;
      if (isInside) {
        this.drawPlayer(player, place, x, y, scale, isMe, loud);
        above.push(() => this.drawWords(player, x, y, RADIUS * scale, isMe));
      } else above.push(() => this.drawFar(player, x, y, width, height, Math.hypot(place.x - own.x, place.z - own.z)));
    }
    for (const draw of above) draw();
  }

  glide({ id, place }, passed) {
    const shown = this.shown.get(id) ?? { ...place };
    const share = Math.hypot(place.x - shown.x, place.z - shown.z) > 5 ? 1 : Math.min(1, passed / GLIDE_MS);
    shown.x += (place.x - shown.x) * share;
    shown.z += (place.z - shown.z) * share;
    shown.heading = place.heading;
    this.shown.set(id, shown);
    return shown;
  }

  drawGrid(at, own, width, height, scale) {
    const { brush, colours } = this;
    brush.fillStyle = colours.grid;
    const [across, down] = [Math.ceil(width / scale / 2) + 1, Math.ceil(height / scale / 2) + 1];
    const [left, top] = [Math.round(own.x), Math.round(own.z)];
    for (let x = left - across; x <= left + across; x++) {
      for (let z = top - down; z <= top + down; z++) {
        const [px, py] = at({ x, z });
        const size = x % 5 === 0 && z % 5 === 0 ? 2.4 : 1.2;
        brush.fillRect(px - size / 2, py - size / 2, size, size);
      }
    }
    // The middle of the space, where all begin.
    brush.strokeStyle = colours.grid;
    for (const [radius, line] of [[4, 2], [1, 1.5]]) {
      brush.lineWidth = line;
      brush.beginPath();
      brush.arc(...at({ x: 0, z: 0 }), radius * scale, 0, 2 * Math.PI);
      brush.stroke();
    }
  }

  drawPlayer(player, place, x, y, scale, isMe, loud) {
    const { brush, colours } = this;
    const radius = RADIUS * scale;
    const colour = `hsl(${hue(player.id)} 60% ${colours.lightness})`;
    if (loud > 0.02) {
      brush.strokeStyle = colours.talk;
      brush.globalAlpha = 0.35 + 0.65 * loud;
      brush.lineWidth = 2.5 + 5 * loud;
      brush.beginPath();
      brush.arc(x, y, radius + 5 + 5 * loud, 0, 2 * Math.PI);
      brush.stroke();
      brush.globalAlpha = 1;
    }
    // A nose, so that one sees where somebody looks.
    const nose = [x - Math.sin(place.heading) * radius * 1.35, y - Math.cos(place.heading) * radius * 1.35];
    const side = (angle) => [x - Math.sin(place.heading + angle) * radius, y - Math.cos(place.heading + angle) * radius];
    brush.fillStyle = colour;
    brush.beginPath();
    brush.moveTo(...nose);
    brush.lineTo(...side(0.6));
    brush.lineTo(...side(-0.6));
    brush.fill();
    brush.beginPath();
    brush.arc(x, y, radius, 0, 2 * Math.PI);
    brush.fill();
    if (isMe) {
      brush.lineWidth = 3;
      brush.strokeStyle = colours.panel;
      brush.beginPath();
      brush.arc(x, y, radius * 0.62, 0, 2 * Math.PI);
      brush.stroke();
    }
  }

  drawWords(player, x, y, radius, isMe) {
    this.brush.textAlign = 'center';
    this.brush.textBaseline = 'middle';
    this.label(isMe ? `${player.name} (you)` : player.name, x, y + radius + 19, this.colours.text, '600 13px');
    const said = this.words.get(player.id);
    if (said && said.until > performance.now()) this.bubble(said.words, x, y - radius - 26);
    else this.words.delete(player.id);
  }

  label(words, x, y, colour, font) {
    const { brush, colours } = this;
    brush.font = `${font} system-ui, sans-serif`;
    brush.lineWidth = 4;
    brush.lineJoin = 'round';
    brush.strokeStyle = colours.ground;
    brush.strokeText(words, x, y);
    brush.fillStyle = colour;
    brush.fillText(words, x, y);
  }

  bubble(words, x, y) {
    const { brush, colours } = this;
    brush.font = '14px system-ui, sans-serif';
    const width = brush.measureText(words).width + 20;
    brush.fillStyle = colours.panel;
    brush.strokeStyle = colours.grid;
    brush.lineWidth = 1.5;
    brush.beginPath();
    brush.roundRect(x - width / 2, y - 14, width, 28, 9);
    brush.fill();
    brush.stroke();
    brush.fillStyle = colours.text;
    brush.fillText(words, x, y + 0.5);
  }

  /** Somebody who is beyond the edge: an arrow that says who, and how far. */
  drawFar(player, x, y, width, height, metres) {
    const { brush, colours } = this;
    const [cx, cy] = [width / 2, height / 2];
    const margin = 22;
    const shrink = Math.min((cx - margin) / Math.abs(x - cx), (cy - margin) / Math.abs(y - cy));
    const [px, py] = [cx + (x - cx) * shrink, cy + (y - cy) * shrink];
    const angle = Math.atan2(y - cy, x - cx);
    brush.fillStyle = `hsl(${hue(player.id)} 60% ${colours.lightness})`;
    brush.beginPath();
    for (const [turn, length] of [[0, 11], [2.5, 9], [-2.5, 9]]) {
      brush.lineTo(px + Math.cos(angle + turn) * length, py + Math.sin(angle + turn) * length);
    }
    brush.fill();
    brush.textBaseline = 'middle';
    brush.textAlign = px < 70 ? 'left' : px > width - 70 ? 'right' : 'center';
    const dx = px < 70 ? 16 : px > width - 70 ? -16 : 0;
    this.label(`${player.name} · ${Math.round(metres)} m`, px + dx, dx ? py : py + (py < cy ? 20 : -20), colours.quiet, '550 12px');
  }
}
