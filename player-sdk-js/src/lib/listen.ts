import { guard } from './guard.js';

/** Listens, guarded; returns how to stop. A missing target is no error: old televisions lack some. */
export function listen<E extends Event>(
  target: EventTarget | null | undefined,
  type: string,
  hook: (event: E) => void,
): () => void {
  const listener = guard(hook) as (event: Event) => void;
  target?.addEventListener?.(type, listener);
  return () => target?.removeEventListener?.(type, listener);
}
