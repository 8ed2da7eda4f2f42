// A view: one player in a tab of its own, whose requests carry its name.

import { MANIFESTS, PLAYERS, settings } from "../players.mjs";
import { openTab } from "../tabs.mjs";
import { WRITE_KEY } from "./config.mjs";

const MARK = "view/";

/** Which view asks: its name stands in the browser's name, which needs no preflight. */
export const viewOf = (asked) => asked.headers["user-agent"]?.split(MARK)[1] ?? null;

/**
 * Opens a tab for `player` and lets it play `content` in `protocol`. Nothing is awaited but the call itself; `view.asked`
 * is when it was made, ms since epoch. It starts on the stage's first pathway, or `anywhere`.
 */
export async function openView({ browser, pages, stage, player, protocol, name, content = "live/river", anywhere = false, impatient }) {
  const view = await openTab({ browser, pages, player, protocol, name, agent: `${browser.agent} ${MARK}${name}` });
  const sid = anywhere ? crypto.randomUUID() : await stage.sidOnFirst();
  const url = `${stage.tap.url}/v1/playlists/${protocol}/${content}/${MANIFESTS[protocol]}?sid=${sid}`;
  await view.play(settings(PLAYERS[player], url, stage.collector, WRITE_KEY, { sid, cid: content, impatient }));
  stage.views.push(view);
  return view;
}
