// Puts each board that the server sends in the place of the one shown, changing only what differs: focus, selection
// and scroll position stay, and a screen reader hears new lines of the log only. Elements that come and go, and those
// beside them, have a data-key that says which is which.
"use strict";

const STALE_MS = 10_000;
const SILENT_MS = 20_000;
const RETRY_MS = 5_000;

const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const alike = (a, b) => a.nodeName === b.nodeName && key(a) === key(b);

function patch(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.hasAttribute("data-keep")) return;
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  patchChildren(from, to);
}

function patchChildren(from, to) {
  const keyed = new Map([...from.children].map((child) => [key(child), child]));
  const staying = new Set([...to.children].map(key));
  let at = from.firstChild;
  const drop = () => {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  };
  for (const next of [...to.childNodes]) {
    if (key(next) !== null) {
      // What is in the way and won't be needed goes first: else all that follows would have to move.
      while (at && (key(at) === null || !staying.has(key(at)))) drop();
    }
    const wanted = key(next) === null ? at : keyed.get(key(next));
    if (!wanted || !alike(wanted, next)) {
      from.insertBefore(next, at);
      continue;
    }
    if (wanted === at) at = at.nextSibling;
    else from.insertBefore(wanted, at);
    patch(wanted, next);
  }
  while (at) drop();
}

let heardAt = performance.now();
let source = null;

function show(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const next = template.content.querySelector("#board");
  const board = document.getElementById("board");
  if (!next || !board) return;
  patch(board, next);
  document.title = board.dataset.tab;
  heardAt = performance.now();
  sayConnected(board.classList.contains("l-stale") ? "connected" : "live");
}

function sayConnected(how) {
  const live = document.getElementById("live");
  live.textContent = how ?? "reconnecting";
  live.className = how ? "live on" : "live off";
  if (how) document.getElementById("offline").hidden = true;
}

function words(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s}\u202fs`;
  if (s < 600 && s % 60) return `${Math.floor(s / 60)}\u202fmin ${s % 60}\u202fs`;
  if (s < 3600) return `${Math.floor(s / 60)}\u202fmin`;
  return `${Math.floor(s / 3600)}\u202fh ${Math.floor((s % 3600) / 60)}\u202fmin`;
}

// Between events the age goes on, so that a page without a server does not look fresh.
function tick() {
  const silentMs = performance.now() - heardAt;
  for (const age of document.querySelectorAll(".age")) {
    age.textContent = words(Number(age.dataset.ageMs) + silentMs);
  }
  if (silentMs > STALE_MS) {
    const offline = document.getElementById("offline");
    offline.textContent = `This page has lost its server for ${words(silentMs)} and is trying to reconnect. ` +
      "What stands below is the last that it heard.";
    offline.hidden = false;
    document.getElementById("board").classList.add("l-stale");
  }
  if (silentMs > SILENT_MS && source && source.readyState === EventSource.OPEN) {
    source.close();
    connect();
  }
}

function connect() {
  source = new EventSource("/events");
  source.addEventListener("board", (event) => show(event.data));
  source.addEventListener("error", () => {
    sayConnected(null);
    // The browser retries by itself unless the answer was no stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}

connect();
setInterval(tick, 1000);
