import type { EventError } from '../wire.js';

const CLASSES = ['client', 'client', 'path', 'content', 'content'] as const;

/** A media element's error in our words; its codes are 1 aborted, 2 network, 3 decode, 4 source not supported. */
export function mediaError(error: MediaError | null): Omit<EventError, 'severity'> {
  const code = error?.code ?? 0;
  return {
    class: CLASSES[code] ?? 'client',
    code: 'media_' + code,
    message: error?.message,
  };
}
