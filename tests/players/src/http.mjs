// Small helpers over node:http.

/** Opens `server` on a free loopback port; its address. */
export function listen(server) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

/** The whole body of a message. */
export async function bodyOf(message) {
  const parts = [];
  for await (const part of message) parts.push(part);
  return Buffer.concat(parts);
}

/** Opens `server` at `host` and `port`. */
export function listenAt(server, host, port) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(server.address().port));
  });
}

/** Ends `server` and all that is connected to it. */
export function closed(server) {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves with the first truthy thing that `find` gives, asked every `everyMs`; with null after `timeoutMs`. */
export async function until(find, timeoutMs, everyMs = 100) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() >= end) return null;
    await sleep(everyMs);
  }
}
