'use strict';

/* A player as a page would have it: hls.js, steered by its own content steering, measured by the SDK. All else here
   only shows what these two do. */

const $ = (id) => document.getElementById(id);
const show = (id, text) => {
  if ($(id).textContent !== text) $(id).textContent = text;
};

const LOG_LINES = 30;

function say(text) {
  const line = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = new Date().toLocaleTimeString();
  line.append(time, text);
  $('log').prepend(line);
  while ($('log').children.length > LOG_LINES) $('log').lastChild.remove();
}

function problem(text) {
  $('problem').textContent = text;
  $('problem').hidden = !text;
}

function mintId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return 'watch-' + Array.from(bytes, (byte) => byte.toString(36).padStart(2, '0')).join('');
}

/** The default loader, which also tells the epoch of each steering answer: hls.js keeps headers to itself. */
function loaderWithEpoch(onEpoch) {
  return class extends Hls.DefaultConfig.loader {
    load(context, config, callbacks) {
      if (!context.url.includes('/v1/steer/')) return super.load(context, config, callbacks);
      const onSuccess = (response, stats, sameContext, network) => {
        const epoch = network?.getResponseHeader?.('x-spillway-epoch');
        if (epoch) onEpoch(epoch);
        callbacks.onSuccess(response, stats, sameContext, network);
      };
      return super.load(context, config, { ...callbacks, onSuccess });
    }
  };
}

function showRegions(config, region) {
  for (const name of ['', ...config.regions]) {
    const link = document.createElement('a');
    link.href = name ? '/watch?region=' + encodeURIComponent(name) : '/watch';
    link.textContent = name || 'by address';
    if (name === region) link.setAttribute('aria-current', 'page');
    $('regions').append(link);
  }
  show('region', region || 'by address');
  $('dashboard').href = config.dashboard;
  $('dashboard').hidden = false;
}

function showPriority(priority, pathway) {
  $('priority').replaceChildren(
    ...priority.map((id) => {
      const item = document.createElement('li');
      item.textContent = id;
      item.classList.toggle('now', id === pathway);
      return item;
    }),
  );
}

function play(config, region) {
  const sid = mintId();
  const url = new URL(config.playlist);
  url.searchParams.set('sid', sid);
  if (region) url.searchParams.set('region', region);

  const view = { pathway: '', priority: [], pollAt: 0, stalls: 0, beacons: 0, steered: false };
  const hls = new Hls({
    enableWorker: false,
    liveSyncDurationCount: 4,
    loader: loaderWithEpoch((epoch) => show('epoch', epoch)),
  });
  window.Spillway.attach(hls, {
    endpoint: config.collector,
    key: config.key,
    contentId: config.content,
    title: 'The river, live',
    streamType: 'live',
    viewId: sid,
    onBeacon: () => show('beacons', String(++view.beacons)),
  });

  hls.on(Hls.Events.STEERING_MANIFEST_LOADED, (_event, { steeringManifest }) => {
    const priority = steeringManifest['PATHWAY-PRIORITY'] ?? [];
    view.steered = priority[0] !== view.pathway;
    view.priority = priority;
    view.pollAt = performance.now() + steeringManifest.TTL * 1000;
    show('ttl', steeringManifest.TTL + ' s');
    showPriority(priority, view.pathway);
  });
  hls.on(Hls.Events.FRAG_LOADED, (_event, { frag }) => {
    if (frag.type !== 'main') return;
    const base = Object.entries(config.pathways).find(([, url]) => frag.url.startsWith(url + '/'));
    const pathway = base ? base[0] : new URL(frag.url).host;
    if (pathway === view.pathway) return;
    const why = !view.pathway ? 'start' : view.steered ? 'steering' : 'the player itself';
    say(view.pathway ? `${view.pathway} → ${pathway} (${why})` : `starts on ${pathway}`);
    view.pathway = pathway;
    show('pathway', pathway);
    show('reason', why === 'start' ? 'the playlist put it first' : `moved by ${why}`);
    showPriority(view.priority, pathway);
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_event, { level }) => {
    const { height, bitrate } = hls.levels[level];
    show('rendition', `${height}p · ${Math.round(bitrate / 1000)} kbit/s`);
  });
  hls.on(Hls.Events.ERROR, (_event, { type, details, fatal, response }) => {
    if (details !== 'bufferStalledError') say(details + (response?.code ? ` (${response.code})` : ''));
    if (!fatal) return;
    problem(`Playback stopped: ${details}. Trying again.`);
    if (type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else setTimeout(() => hls.startLoad(), 2000);
  });

  const video = $('video');
  video.addEventListener('waiting', () => {
    if (video.currentTime > 0) show('stalls', String(++view.stalls));
  });
  video.addEventListener('playing', () => problem(''));
  setInterval(() => {
    const { buffered, currentTime } = video;
    let ahead = 0;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) > currentTime) ahead = buffered.end(i) - currentTime;
    }
    show('buffer', ahead.toFixed(1) + ' s');
    if (view.pollAt) show('poll', Math.max(0, (view.pollAt - performance.now()) / 1000).toFixed(0) + ' s');
  }, 250);

  hls.loadSource(url.href);
  hls.attachMedia(video);
  // Muted playback may start without a click; where it may not, the controls are there.
  video.play().catch(() => {});
}

async function main() {
  if (!window.Hls || !window.Spillway) {
    problem('hls.js or the SDK is not built: run "cargo xtask demo", which builds both.');
    return;
  }
  if (!Hls.isSupported()) {
    problem('This browser has no Media Source Extensions.');
    return;
  }
  const config = await (await fetch('/watch/config.json')).json();
  const asked = new URLSearchParams(location.search).get('region') ?? '';
  const region = config.regions.includes(asked) ? asked : '';
  showRegions(config, region);
  play(config, region);
}

main().catch((error) => problem('The page could not start: ' + error.message));
