import { readFile } from 'node:fs/promises';

const root = new URL('../', import.meta.url);

/** Declarations that a user of the package can reach, in reading order. */
const FILES = ['index', 'hls', 'attach', 'attachPlayer', 'types', 'hlsPlayer', 'wire'];

/** The public surface as text, from the built declarations. */
export async function surface() {
  const parts = await Promise.all(
    FILES.map(async (name) => {
      const text = await readFile(new URL(`dist/types/${name}.d.ts`, root), 'utf8');
      return `## ${name}.d.ts\n\n\`\`\`ts\n${text.trim()}\n\`\`\`\n`;
    }),
  );
  return `# Public surface of @spillway/player-sdk

A change here changes what users see. Written by \`npm run api\`, read by reviewers, compared by a test.

${parts.join('\n')}`;
}
