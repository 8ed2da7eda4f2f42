import { LIMITS_BYTES, sizes } from './sizes.js';

for (const [name, bytes] of Object.entries(await sizes())) {
  const limit = LIMITS_BYTES[name];
  console.log(`${name}: ${bytes} bytes gzip${limit ? ` (limit ${limit})` : ''}`);
}
