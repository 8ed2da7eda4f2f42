import type { ErrorClass } from '../wire.js';

/** Whose fault an hls.js error is, by its type, its details and the HTTP status. */
export function hlsErrorClass(type: string, details: string, status: number | undefined): ErrorClass {
  if (status === 401 || status === 403) {
    return 'entitlement';
  }
  if (type === 'keySystemError') {
    return 'drm';
  }
  if (type === 'mediaError' || type === 'muxError' || /pars|empty/i.test(details)) {
    return 'content';
  }
  return type === 'networkError' ? 'path' : 'client';
}
