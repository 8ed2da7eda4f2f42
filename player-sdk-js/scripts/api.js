import { writeFile } from 'node:fs/promises';
import { surface } from './surface.js';

await writeFile(new URL('../player-sdk.api.md', import.meta.url), await surface());
