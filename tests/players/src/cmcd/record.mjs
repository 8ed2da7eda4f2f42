// A second reader of CMCD records, of just what these players write: the collector's own is not to judge itself.

/** The keys of a record with their values as text, strings without their quotes. */
export function fieldsOf(line) {
  const fields = {};
  for (const member of membersOf(line)) {
    const [, key, value] = /^([a-z][a-z0-9_.*-]*)(?:=(.*))?$/s.exec(member) ?? [];
    if (key) fields[key] = value === undefined ? "?1" : plain(value);
  }
  return fields;
}

/** Splits at commas outside of strings and lists. */
function membersOf(line) {
  const members = [""];
  let [quoted, depth] = [false, 0];
  for (let at = 0; at < line.length; at++) {
    const letter = line[at];
    if (quoted && letter === "\\") {
      members[members.length - 1] += letter + line[++at];
      continue;
    }
    if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === "(") depth++;
    else if (!quoted && letter === ")") depth--;
    if (letter === "," && !quoted && depth === 0) members.push("");
    else members[members.length - 1] += letter;
  }
  return members.filter(Boolean);
}

const plain = (value) => (value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, "$1") : value);

/** Types that the events of CMCD become (docs/wire-protocol.md); those with several are told apart by state. */
const TYPES = {
  rr: ["segment"],
  t: ["heartbeat"],
  bc: ["rendition"],
  pr: ["rate"],
  m: ["mute"],
  um: ["mute"],
  b: ["visibility"],
  pe: ["resize"],
  pc: ["resize"],
  e: ["error", "warning"],
  ps: ["view_start", "first_frame", "playing", "stall_start", "stall_end", "seek_start", "pause", "view_end"],
};
const STATES = {
  s: ["view_start"],
  d: ["view_start"],
  p: ["first_frame", "playing", "stall_end"],
  r: ["stall_start"],
  k: ["seek_start"],
  a: ["pause"],
  w: ["pause"],
  e: ["view_end"],
  f: ["view_end"],
  q: ["view_end"],
};

/** Whether `row` is what became of the record with these fields. */
export function isRowOf(fields, row) {
  const types = (fields.e === "ps" && STATES[fields.sta]) || TYPES[fields.e] || ["other"];
  const number = (text) => (text === undefined ? null : Number(text));
  return (
    types.includes(row.type) &&
    row.view_id === fields.sid &&
    row.created_ms === Number(fields.ts) &&
    row.content_id === (fields.cid ?? null) &&
    Object.keys(fields).every((key) => !key.includes("-") || row.cmcd?.[key] === fields[key]) &&
    (fields.e !== "ce" || row.cmcd?.cen === fields.cen) &&
    (fields.e !== "rr" ||
      (row.request_status === number(fields.rc) &&
        row.request_ttfb_ms === number(fields.ttfb) &&
        row.request_ttlb_ms === number(fields.ttlb) &&
        row.request_host === new URL(fields.url).host))
  );
}
