import type { AttachOptions, Handle } from '../types.js';
import { isId } from './ids.js';
import { sampleRate } from './sampling.js';
import type { Source } from './source.js';
import { View } from './View.js';

/** Starts a view, unless it is one of those that aren't sampled. Whatever happens, there is a handle. */
export function attachView(options: AttachOptions, source: () => Source): Handle {
  try {
    const rate = sampleRate(options.sampleRate);
    if (Math.random() < rate) {
      return new View(options, source(), rate).handle;
    }
  } catch (error) {
    console.warn('spillway: this view is not measured:', error);
  }
  return {
    viewId: isId(options?.viewId) ? options.viewId : null,
    flush() {},
    detach() {},
  };
}
