import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Options of every bundle: televisions of 2021 run ES2020. */
const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  target: 'es2020',
  legalComments: 'none',
  logLevel: 'warning',
};

/** The two entry points as ES modules; what they share stands in a third file. */
export function bundleModules(write = true) {
  return build({
    ...common,
    entryPoints: { spillway: 'src/index.ts', hls: 'src/hls.ts' },
    format: 'esm',
    splitting: true,
    chunkNames: 'core-[hash]',
    outdir: 'dist',
    write,
  });
}

/** One file for a script tag: `window.Spillway.attach`, for hls.js and for `<video>`. */
export function bundleScript(write = true) {
  return build({
    ...common,
    entryPoints: { 'watch-sdk': 'src/hls.ts' },
    format: 'iife',
    globalName: 'Spillway',
    outdir: 'dist',
    write,
  });
}
