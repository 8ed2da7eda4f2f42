// Whether a steering answer is one that every player takes.

import { isValidSteeringManifest } from "@svta/common-media-library/contentsteering";

/** What is wrong with an answer, in words; and what it says. */
export function faultsOf(status, headers, body) {
  const faults = [];
  const expect = (holds, text) => holds || faults.push(text);
  expect(status === 200, `status ${status}`);
  expect(headers["content-type"] === "application/vnd.apple.steering-list", `content-type ${headers["content-type"]}`);
  expect(/\bno-store\b/.test(headers["cache-control"]), `cache-control ${headers["cache-control"]}`);
  expect(headers["access-control-allow-origin"] === "*", `access-control-allow-origin ${headers["access-control-allow-origin"]}`);
  let answer = {};
  try {
    answer = JSON.parse(body);
  } catch (error) {
    faults.push(`no JSON: ${error.message}`);
  }
  expect(isValidSteeringManifest(answer), "not valid for @svta/common-media-library");
  faults.push(...faultsForMedia3(answer));
  const order = answer["PATHWAY-PRIORITY"] ?? [];
  expect(body.length <= 1024, `${body.length} bytes`);
  return { faults, ttl_s: answer.TTL, order };
}

/** What androidx/media3's reader throws at or does wrong (nextInt, no duplicates, no empty clones), and R1's bounds. */
export function faultsForMedia3(answer) {
  const faults = [];
  const expect = (holds, text) => holds || faults.push(text);
  const { TTL: ttl_s, "PATHWAY-PRIORITY": order = [], "PATHWAY-CLONES": clones, "RELOAD-URI": reload } = answer;
  expect(Number.isInteger(ttl_s) && ttl_s >= 2 && ttl_s <= 300, `TTL ${ttl_s} is not an integer from 2 to 300`);
  expect(order.length >= 2 && new Set(order).size === order.length, `pathways ${order}: less than two, or one twice`);
  expect(order.every((id) => /^[A-Za-z0-9._-]+$/.test(id)), `pathways ${order}: not the letters of an id`);
  expect(clones === undefined || clones.length > 0, "empty PATHWAY-CLONES");
  expect(reload === undefined || /^https?:\/\/[^/]+\//.test(reload), `RELOAD-URI ${reload} is not absolute`);
  expect(!/_(HLS|DASH)_/.test(reload ?? ""), `RELOAD-URI ${reload} holds a player's own parameters`);
  return faults;
}
