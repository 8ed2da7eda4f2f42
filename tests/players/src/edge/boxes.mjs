// ISO base media boxes (ISO/IEC 14496-12): reads the samples of a fragmented MP4 with one track, writes fragments of them.

const [HAS_DATA_OFFSET, HAS_FIRST_FLAGS] = [0x1, 0x4];
const [HAS_DURATION, HAS_SIZE, HAS_FLAGS, HAS_COMPOSITION] = [0x100, 0x200, 0x400, 0x800];
const [DEFAULT_BASE_IS_MOOF, DEFAULT_DURATION, DEFAULT_SIZE, DEFAULT_FLAGS] = [0x020000, 0x8, 0x10, 0x20];
const BASE_DATA_OFFSET = 0x1;
const SAMPLE_DESCRIPTION = 0x2;

/** The boxes in `data[start..end]`: `{kind, start, body, end}`. */
function children(data, start = 0, end = data.length) {
  const found = [];
  for (let at = start; at < end; at = found.at(-1).end) {
    const size = data.readUInt32BE(at);
    if (size < 8 || at + size > end) throw new Error(`box at byte ${at}: a size of ${size} is not valid (valid: 8 to ${end - at})`);
    found.push({ kind: data.toString("latin1", at + 4, at + 8), start: at, body: at + 8, end: at + size });
  }
  return found;
}

function find(data, path, start = 0, end = data.length) {
  const [kind, ...rest] = path;
  const found = children(data, start, end).find((box) => box.kind === kind);
  if (!found) throw new Error(`no box ${kind}`);
  return rest.length > 0 ? find(data, rest, found.body, found.end) : found;
}

/** What a clip has: its first bytes (`ftyp`, `moov`), ticks a second, and its samples `{ticks, flags, bytes}` in order. */
export function readClip(data) {
  const boxes = children(data);
  const init = Buffer.concat(boxes.filter(({ kind }) => kind === "ftyp" || kind === "moov").map(({ start, end }) => data.subarray(start, end)));
  const { body } = find(data, ["moov", "trak", "mdia", "mdhd"]);
  const timescale = data.readUInt32BE(body + (data[body] === 1 ? 20 : 12));
  const samples = boxes.filter(({ kind }) => kind === "moof").flatMap((moof) => samplesOf(data, moof));
  return { init, timescale, samples };
}

function samplesOf(data, moof) {
  const header = find(data, ["traf", "tfhd"], moof.body, moof.end);
  const usual = defaultsOf(data, header.body);
  const run = find(data, ["traf", "trun"], moof.body, moof.end);
  const flags = data.readUInt32BE(run.body) & 0xffffff;
  if (!(flags & HAS_DATA_OFFSET)) throw new Error("a trun without a data offset is not supported");
  const count = data.readUInt32BE(run.body + 4);
  let media = moof.start + data.readInt32BE(run.body + 8);
  let at = run.body + 12;
  const next = () => data.readUInt32BE((at += 4) - 4);
  const first = flags & HAS_FIRST_FLAGS ? next() : null;
  return Array.from({ length: count }, (_, index) => {
    const ticks = flags & HAS_DURATION ? next() : usual.ticks;
    const size = flags & HAS_SIZE ? next() : usual.size;
    const own = flags & HAS_FLAGS ? next() : index === 0 && first !== null ? first : usual.flags;
    if (flags & HAS_COMPOSITION) throw new Error("composition times are not supported: the clip has no B frames");
    media += size;
    return { ticks, flags: own, bytes: data.subarray(media - size, media) };
  });
}

function defaultsOf(data, body) {
  const flags = data.readUInt32BE(body) & 0xffffff;
  if (flags & BASE_DATA_OFFSET) throw new Error("a tfhd with a base data offset is not supported");
  let at = body + 8 + (flags & SAMPLE_DESCRIPTION ? 4 : 0);
  const next = (flag) => (flags & flag ? data.readUInt32BE((at += 4) - 4) : 0);
  return { ticks: next(DEFAULT_DURATION), size: next(DEFAULT_SIZE), flags: next(DEFAULT_FLAGS) };
}

const box = (kind, ...parts) => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(8 + parts.reduce((sum, part) => sum + part.length, 0));
  return Buffer.concat([size, Buffer.from(kind, "latin1"), ...parts]);
};
const words = (...numbers) => {
  const out = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, at) => out.writeUInt32BE(number, 4 * at));
  return out;
};
const VERSION_1 = 0x01000000;

/** A `moof` and its `mdat` with `samples` from `ticks` on. */
export function fragment(sequence, ticks, samples) {
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(ticks));
  const rows = words(...samples.flatMap((sample) => [sample.ticks, sample.bytes.length, sample.flags]));
  const moof = (dataOffset) =>
    box(
      "moof",
      box("mfhd", words(0, sequence)),
      box(
        "traf",
        box("tfhd", words(DEFAULT_BASE_IS_MOOF, 1)),
        box("tfdt", words(VERSION_1), time),
        box("trun", words(HAS_DATA_OFFSET | HAS_DURATION | HAS_SIZE | HAS_FLAGS, samples.length, dataOffset), rows),
      ),
    );
  const mdat = box("mdat", ...samples.map(({ bytes }) => bytes));
  return Buffer.concat([moof(moof(0).length + 8), mdat]);
}
