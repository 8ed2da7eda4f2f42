import { basename } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bundleModules, bundleScript } from './bundle.js';

/** Most bytes, gzip −9: a script that measures must weigh nothing beside the player. */
export const LIMITS_BYTES = { core: 8 * 1024, hls: 1.5 * 1024 };

const packed = (files) => files.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);

/** Bytes of the core, of what the hls.js adapter adds to it, and of the script for a page, gzip −9. */
export async function sizes() {
  const modules = (await bundleModules(false)).outputFiles;
  const script = (await bundleScript(false)).outputFiles;
  const isAdapter = ({ path }) => basename(path) === 'hls.js';
  return {
    core: packed(modules.filter((file) => !isAdapter(file))),
    hls: packed(modules.filter(isAdapter)),
    script: packed(script),
  };
}
