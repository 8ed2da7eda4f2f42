// Playlists and MPD of the live stream, with parts and chunks (`low`) or without. All URIs but the clock's are relative.

import { PART_TARGET_S, PARTS, SEGMENT_MS } from "./live.mjs";

const SEGMENT_S = SEGMENT_MS / 1_000;
const WINDOW = 6;
/** Complete segments whose parts are still listed: RFC 8216bis wants them gone after three target durations. */
const WITH_PARTS = 2;
const HOLD_BACK_S = 1.25;
/** What low-latency DASH is to play behind the live edge, and how fast it may play to get there. */
const LATENCY_MS = 1_200;
const PLAIN_DELAY_S = 6;

export function multivariant({ renditions }) {
  const all = Object.values(renditions);
  const audio = all.find(({ video }) => !video);
  const lines = all
    .filter(({ video }) => video)
    .map(
      ({ name, codec, bitrate, width, height }) =>
        `#EXT-X-STREAM-INF:BANDWIDTH=${bitrate + audio.bitrate},CODECS="${codec},${audio.codec}",RESOLUTION=${width}x${height},` +
        `FRAME-RATE=25.000,AUDIO="audio"\n${name}.m3u8`,
    );
  const group = `#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Tone",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="${audio.name}.m3u8"`;
  return ["#EXTM3U", "#EXT-X-VERSION:9", "#EXT-X-INDEPENDENT-SEGMENTS", group, ...lines, ""].join("\n");
}

/** The media playlist of `rendition` at a moment. */
export function media({ renditions }, rendition, low, now) {
  const { name, video } = rendition;
  const newest = rendition.newest(now);
  const complete = Math.floor((newest + 1) / PARTS); // segments
  const first = complete - WINDOW;
  const lines = ["#EXTM3U", "#EXT-X-VERSION:9", `#EXT-X-TARGETDURATION:${SEGMENT_S}`, "#EXT-X-INDEPENDENT-SEGMENTS"];
  if (low) lines.push(`#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=${HOLD_BACK_S}`, `#EXT-X-PART-INF:PART-TARGET=${PART_TARGET_S}`);
  lines.push(`#EXT-X-MEDIA-SEQUENCE:${first}`, `#EXT-X-MAP:URI="${name}/init.mp4"`);
  const parts = (number) => {
    for (let part = number * PARTS; part < (number + 1) * PARTS && part <= newest; part++) {
      const independent = !video || part % PARTS === 0 ? ",INDEPENDENT=YES" : "";
      lines.push(`#EXT-X-PART:DURATION=${rendition.durationS(part).toFixed(5)},URI="${partUri(name, part)}"${independent}`);
    }
  };
  for (let number = first; number < complete; number++) {
    lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(rendition.startMs(number * PARTS)).toISOString()}`);
    if (low && number >= complete - WITH_PARTS) parts(number);
    lines.push(`#EXTINF:${rendition.durationS(number * PARTS, PARTS).toFixed(5)},`, `${name}/${number}.m4s`);
  }
  if (low) {
    parts(complete);
    lines.push(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${partUri(name, newest + 1)}"`);
    for (const other of Object.values(renditions)) {
      const last = other.newest(now);
      if (other !== rendition) lines.push(`#EXT-X-RENDITION-REPORT:URI="${other.name}.m3u8",LAST-MSN=${Math.floor(last / PARTS)},LAST-PART=${last % PARTS}`);
    }
  }
  return [...lines, ""].join("\n");
}

const partUri = (name, part) => `${name}/${Math.floor(part / PARTS)}.${part % PARTS}.m4s`;

/** The MPD; `clock` is the absolute URL of something that tells the time. */
export function mpd({ epoch, renditions }, low, now, clock) {
  const set = (id, kind, list) => {
    const [{ timescale }] = list;
    // All first chunks are there by then.
    const early = SEGMENT_S - (id === 0 ? SEGMENT_S / PARTS : PART_TARGET_S);
    const chunked = low ? ` availabilityTimeOffset="${early}" availabilityTimeComplete="false"` : "";
    const representations = list.map((each) => {
      const about = each.video ? `width="${each.width}" height="${each.height}" frameRate="25"` : `audioSamplingRate="${each.timescale}"`;
      return `      <Representation id="${each.name}" codecs="${each.codec}" bandwidth="${each.bitrate}" ${about}/>`;
    });
    return [
      `    <AdaptationSet id="${id}" contentType="${kind}" mimeType="${kind}/mp4" segmentAlignment="true" startWithSAP="1">`,
      `      <SegmentTemplate timescale="${timescale}" duration="${timescale * SEGMENT_S}" startNumber="0"${chunked} ` +
        `initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s"/>`,
      ...representations,
      "    </AdaptationSet>",
    ];
  };
  const all = Object.values(renditions);
  const iso = (ms) => new Date(ms).toISOString();
  const late = low
    ? `  <ServiceDescription id="0"><Latency target="${LATENCY_MS}" referenceId="0"/><PlaybackRate min="0.85" max="1.2"/></ServiceDescription>`
    : "";
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" ' +
      `availabilityStartTime="${iso(epoch)}" publishTime="${iso(now)}" minimumUpdatePeriod="PT10S" timeShiftBufferDepth="PT12S" ` +
      `minBufferTime="PT${low ? LATENCY_MS / 1_000 : SEGMENT_S}S" maxSegmentDuration="PT2.016S"${low ? "" : ` suggestedPresentationDelay="PT${PLAIN_DELAY_S}S"`}>`,
    ...(late ? [late] : []),
    '  <Period id="1" start="PT0S">',
    ...set(0, "video", all.filter(({ video }) => video)),
    ...set(1, "audio", all.filter(({ video }) => !video)),
    "  </Period>",
    `  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="${clock}"/>`,
    "</MPD>",
    "",
  ].join("\n");
}
