// Cells about views: what every suite measures of a player.

import { harmedIn, startupOf } from "./video.mjs";

/** A cell about a view. */
export const cell = (view, name, metric, value, unit, context = {}) => ({
  player: view.player,
  protocol: view.protocol,
  case: name,
  metric,
  value,
  unit,
  context,
});

/** How long the video of each view stood still from `from` to now. */
export async function harmedCells(views, name, from, context = () => ({})) {
  const to = Date.now();
  const watched_s = (to - from) / 1_000;
  return Promise.all(
    views.map(async (view) => {
      const value = harmedIn(await view.samples(), from, to);
      return cell(view, name, "harmed", value, "s", { watched_s, ...context(view) });
    }),
  );
}

/** How long each view took to start. */
export const startupCells = (views, name) =>
  Promise.all(views.map(async (view) => cell(view, name, "startup", startupOf(await view.samples(), view.asked), "s")));
