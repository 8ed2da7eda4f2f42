// hls.js with CMCD v2 in event mode and no SDK. The runner calls `play`; what it returns ends the view.
window.play = ({ url, target, sid, cid, lowLatency }) => {
  let report;
  const hls = new Hls({
    ...(lowLatency && { lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.5 }), // speed leads it back to the live edge
    ...(target && {
      cmcd: {
        version: 2,
        sessionId: sid,
        contentId: cid,
        includeKeys: [], // nothing with media requests, only events
        eventTargets: [
          {
            url: target.url,
            events: target.events,
            interval: target.interval,
            batchSize: target.batchSize,
            includeKeys: target.keys,
          },
        ],
        reporterCallback: (reporter) => (report = reporter),
      },
    }),
  });
  window.fatal = [];
  hls.on(Hls.Events.ERROR, (_event, data) => data.fatal && window.fatal.push(data.details));
  const video = document.getElementById("video");
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play());
  hls.loadSource(url);
  hls.attachMedia(video);
  window.custom = () => {
    report.recordCustomEvent("quiz-shown", {
      "com.example-round": 3,
      "com.example-who": 'says "hi", \\o/',
      "com.example-on": true,
      "com.example-ratio": 0.25,
    });
    // hls.js puts this into a string as it is, which structured fields don't allow. The collector takes it.
    report.recordCustomEvent("quiz-over", { "com.example-who": "Ünï" });
  };
  window.again = () => hls.loadSource(`${url}?again`);
  return () => hls.destroy();
};
