const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Whether the collector would take `value` as an id. */
export function isId(value: unknown): value is string {
  return typeof value === 'string' && /^[\w.-]{1,64}$/.test(value) && /[^.]/.test(value);
}

/** `length` random letters and digits. */
export function randomId(length: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => ALPHABET[byte % ALPHABET.length]).join('');
}

let session: string | undefined;

/** The tab's id: lives as long as the page, is stored nowhere. */
export function sessionId(): string {
  return (session ??= 'tab-' + randomId(8));
}
