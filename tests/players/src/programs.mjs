// The real programs under test: started, waited for, ended.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Starts a program and gives its first line of output; what it says on stderr goes to `log` (a file descriptor). */
export function started(program, args, { env = {}, log = "inherit" } = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", log], env: { ...process.env, ...env } });
  const lines = createInterface({ input: child.stdout });
  return new Promise((resolve, reject) => {
    lines.once("line", (line) => resolve({ child, line }));
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`${program} ${args} ended at once: ${code ?? signal}`)));
  });
}

/** SIGTERM, then SIGKILL after 10 s; true if the program ended well by itself. */
export async function ended(child) {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode === 0;
  const gone = new Promise((resolve) => child.once("exit", (code) => resolve(code === 0)));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  const well = await gone;
  clearTimeout(timer);
  return well;
}
