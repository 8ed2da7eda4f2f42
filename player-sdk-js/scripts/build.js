import { readdir, rm } from 'node:fs/promises';
import { bundleModules, bundleScript } from './bundle.js';

const dist = new URL('../dist/', import.meta.url);

// The shared file's name holds a hash: an old one would stay for ever.
for (const file of await readdir(dist)) {
  if (/^core-.*\.js$/.test(file)) {
    await rm(new URL(file, dist));
  }
}
await Promise.all([bundleModules(), bundleScript()]);
