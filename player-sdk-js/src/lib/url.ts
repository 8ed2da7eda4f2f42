/** The URL without query and fragment: these may hold tokens and names. */
export function withoutQuery(url: string): string {
  return url.split(/[?#]/)[0] ?? '';
}

/** Host and port of a media URL; nothing for `blob:` and the like. */
export function hostOf(url: string): string | undefined {
  return /^(?:https?:)?\/\/(?:[^/?#]*@)?([^/?#]+)/i.exec(url)?.[1];
}

/** A text with the query and fragment of every URL in it removed. */
export function withoutQueries(text: string): string {
  return text.replace(/((?:\w+:)?\/[^\s?#"'<>)]*)[?#][^\s"'<>)]*/g, '$1');
}
