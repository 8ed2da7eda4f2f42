// Shaka with CMCD v2 in event mode and no SDK. The runner calls `play`; what it returns ends the view.
window.play = async ({ url, target, sid, cid, impatient }) => {
  const video = document.getElementById("video");
  const player = new shaka.Player();
  player.configure({
    cmcd: {
      enabled: true,
      version: 2,
      sessionId: sid,
      contentId: cid,
      includeKeys: ["v"], // as little as possible with media requests; an empty list would mean all keys
      eventTargets: [
        {
          enabled: true,
          url: target.url,
          events: target.events,
          interval: target.interval,
          batchSize: target.batchSize,
          includeKeys: target.keys,
        },
      ],
    },
  });
  if (impatient) {
    const { request_ms, progress_ms } = impatient;
    const retryParameters = { timeout: request_ms, connectionTimeout: progress_ms, stallTimeout: progress_ms };
    player.configure({ streaming: { retryParameters }, manifest: { retryParameters } });
  }
  window.fatal = [];
  player.addEventListener("error", (event) => {
    const { code, severity } = event.detail;
    if (severity === shaka.util.Error.Severity.CRITICAL) window.fatal.push(code);
  });
  await player.attach(video);
  await player.load(url);
  await video.play();
  // Any call of `configure` makes a new reporter.
  window.again = () => player.configure({ streaming: { bufferingGoal: 12 } });
  return () => player.destroy();
};
