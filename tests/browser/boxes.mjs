// Reads an initialisation segment and the segments or parts behind it with mp4box.js, a parser that
// shares nothing with the server, and holds them to ISO/IEC 14496-12 and 23000-19 (CMAF).
//
//   node boxes.mjs INIT SEGMENT...
//
// Prints one JSON line: tracks, samples, duration in seconds, complaints. Exits 1 with complaints.

import { readFileSync } from 'node:fs';
import * as mp4box from 'mp4box';

const [, , initPath, ...paths] = process.argv;
const complaints = [];
const complain = (where, text) => complaints.push(`${where}: ${text}`);

mp4box.Log.setLogLevel?.(mp4box.Log.LOG_LEVEL_WARNING ?? mp4box.Log.LEVEL_WARNING ?? 3);
for (const name of ['warn', 'error']) mp4box.Log[name] = (...words) => { if (!String(words[1]).startsWith('Found multiple')) complaints.push(`mp4box ${name}: ${words.join(' ')}`); };

function read(path) {
  const bytes = readFileSync(path);
  const buffer = mp4box.MP4BoxBuffer
    ? mp4box.MP4BoxBuffer.fromArrayBuffer(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), 0)
    : Object.assign(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), { fileStart: 0 });
  const file = mp4box.createFile(true);
  file.appendBuffer(buffer);
  file.flush();
  let at = 0;
  for (const box of file.boxes) {
    if (box.start !== at) complain(path, `${box.type} begins at ${box.start}, not ${at}`);
    at += box.size;
  }
  if (at !== bytes.length) complain(path, `boxes end at ${at} of ${bytes.length}`);
  walk(path, file.boxes);
  return { file, bytes, types: file.boxes.map((box) => box.type) };
}

/** Every box inside every other lies within it, and none is unknown to the parser. */
function walk(path, boxes, parent) {
  for (const box of boxes) {
    if (parent && box.start + box.size > parent.start + parent.size)
      complain(path, `${box.type} is longer than its ${parent.type}`);
    if (box.has_unparsed_data) complain(path, `${box.type} has bytes that nobody knows`);
    if (box.constructor.name === 'Box' || box.constructor.name === 'UnknownBox')
      complain(path, `${box.type} is not known`);
    if (box.boxes) walk(path, box.boxes, box);
    if (box.entries && box.type === 'stsd') walk(path, box.entries, box);
  }
}

const init = read(initPath);
if (init.types.join() !== 'ftyp,moov') complain(initPath, `boxes ${init.types}`);
const { moov } = init.file;
const defaults = new Map((moov.mvex?.trexs ?? []).map((trex) => [trex.track_id, trex]));
if (!moov.mvex) complain(initPath, 'no mvex');
const tracks = new Map();
for (const trak of moov.traks) {
  const id = trak.tkhd.track_id;
  const { timescale } = trak.mdia.mdhd;
  const [entry] = trak.mdia.minf.stbl.stsd.entries;
  if (!defaults.has(id)) complain(initPath, `track ${id} has no trex`);
  for (const table of ['stts', 'stsc', 'stsz', 'stco'])
    if (!trak.mdia.minf.stbl[table]) complain(initPath, `track ${id} has no ${table}`);
  if (trak.mdia.minf.stbl.stsz?.sample_count) complain(initPath, `track ${id} has samples in the moov`);
  tracks.set(id, {
    id, timescale, codec: entry.getCodec?.() ?? entry.type, kind: trak.mdia.hdlr.handler, samples: 0, first: null, next: null,
    gaps: 0, starts_with_sync: [], width: entry.width, height: entry.height,
  });
}

let sequence = null;
for (const path of paths) {
  const { file, bytes, types } = read(path);
  const rest = types.filter((type) => !['styp', 'prft', 'emsg', 'sidx'].includes(type));
  if (rest.length === 0 || rest.some((type, index) => type !== ['moof', 'mdat'][index % 2]) || rest.length % 2)
    complain(path, `boxes ${types}`);
  let isFirst = true;
  file.boxes.forEach((moof, index) => {
    if (moof.type !== 'moof') return;
    const mdat = file.boxes[index + 1];
    if (sequence !== null && moof.mfhd.sequence_number <= sequence)
      complain(path, `sequence ${moof.mfhd.sequence_number} follows ${sequence}`);
    sequence = moof.mfhd.sequence_number;
    let covered = 0;
    for (const traf of moof.trafs) {
      const { tfhd, tfdt } = traf;
      const track = tracks.get(tfhd.track_id);
      if (!track) {
        complain(path, `track ${tfhd.track_id} is not in the init segment`);
        continue;
      }
      if (!tfdt) complain(path, 'no tfdt');
      if (!(tfhd.flags & 0x20000)) complain(path, 'default-base-is-moof is not set');
      const trex = defaults.get(tfhd.track_id);
      let time = Number(tfdt.baseMediaDecodeTime);
      if (track.next !== null && time !== track.next) {
        if (time < track.next) complain(path, `track ${track.id} goes back from ${track.next} to ${time}`);
        track.gaps = Math.max(track.gaps, (time - track.next) / track.timescale);
      }
      track.first ??= time;
      for (const trun of traf.truns) {
        const start = moof.start + trun.data_offset;
        let size = 0;
        for (let n = 0; n < trun.sample_count; n++) {
          const sampleSize = trun.sample_size[n] ?? tfhd.default_sample_size ?? trex.default_sample_size;
          const duration = trun.sample_duration[n] ?? tfhd.default_sample_duration ?? trex.default_sample_duration;
          const flags = trun.sample_flags[n] ?? (n === 0 && trun.flags & 4 ? trun.first_sample_flags : undefined)
            ?? tfhd.default_sample_flags ?? trex.default_sample_flags;
          if (!sampleSize) complain(path, `sample ${n} is empty`);
          if (!duration) complain(path, `sample ${n} lasts nothing`);
          if (n === 0 && isFirst && track.kind === 'vide') {
            track.starts_with_sync.push(!(flags & 0x10000));
            isFirst = false;
          }
          size += sampleSize;
          time += duration;
          track.samples++;
        }
        if (start < mdat.start + 8 || start + size > mdat.start + mdat.size)
          complain(path, `samples at ${start} to ${start + size} are not in the mdat at ${mdat.start}`);
        covered += size;
      }
      track.next = time;
    }
    if (covered !== mdat.size - (mdat.hdr_size ?? 8)) complain(path, `${covered} of ${mdat.size - 8} bytes of the mdat are samples`);
  });
  if (bytes.length === 0) complain(path, 'empty');
}

const report = [...tracks.values()].map(({ next, first, ...track }) => ({
  ...track, start: first === null ? null : first / track.timescale, duration: next === null ? 0 : (next - first) / track.timescale,
}));
console.log(JSON.stringify({ tracks: report, complaints }));
process.exit(complaints.length ? 1 : 0);
