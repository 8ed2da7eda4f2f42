// dash.js with CMCD v2 in event mode and no SDK. The runner calls `play`; what it returns ends the view.
window.play = ({ url, target, sid, cid, impatient, lowLatency }) => {
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({
    debug: { logLevel: dashjs.Debug.LOG_LEVEL_FATAL },
    streaming: {
      ...(impatient && { fragmentRequestTimeout: impatient.request_ms, fragmentRequestProgressTimeout: impatient.progress_ms }),
      // How late it plays stands in the MPD (ServiceDescription); that segments come in chunks, too.
      ...(lowLatency && { liveCatchup: { enabled: true } }),
      ...(target && {
        cmcd: {
          enabled: true,
          version: 2,
          sid,
          cid,
          // Nothing with media requests, only events. Not `includeInRequests: []`: that switches targets off, too.
          enabledKeys: [],
          eventTargets: [
            {
              enabled: true,
              url: target.url,
              events: target.events,
              interval: target.interval,
              batchSize: target.batchSize,
              enabledKeys: target.keys,
            },
          ],
        },
      }),
    },
  });
  window.fatal = [];
  player.on(dashjs.MediaPlayer.events.PLAYBACK_ERROR, (event) => window.fatal.push(String(event.error?.message)));
  player.initialize(document.getElementById("video"), url, true);
  window.again = () => player.attachSource(`${url}?again`);
  return () => player.destroy();
};
