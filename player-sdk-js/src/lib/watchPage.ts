import { listen } from './listen.js';

/** What the page goes through. */
export interface PageHooks {
  visibility(visible: boolean): void;
  /** The page goes; `kept` in the back/forward cache it may come back. */
  leaving(kept: boolean): void;
  network(): void;
}

/** Listens to the page; returns how to stop. Never to `unload`, which would keep pages out of the cache. */
export function watchPage({ visibility, leaving, network }: PageHooks): () => void {
  const { connection } = navigator as { connection?: EventTarget };
  const stops = [
    listen(document, 'visibilitychange', () => visibility(document.visibilityState !== 'hidden')),
    listen<PageTransitionEvent>(window, 'pagehide', ({ persisted }) => leaving(persisted)),
    listen(connection, 'change', network),
  ];
  return () => stops.forEach((stop) => stop());
}
