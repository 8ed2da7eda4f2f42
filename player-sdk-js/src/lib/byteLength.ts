const encoder = /* @__PURE__ */ new TextEncoder();

/** Bytes of `text` in UTF-8. */
export const byteLength = (text: string): number => encoder.encode(text).length;
