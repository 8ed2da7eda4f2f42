import type { BeaconContext } from '../wire.js';

type Client = Pick<BeaconContext, 'device_class' | 'os' | 'browser'>;

const DEVICES: [RegExp, BeaconContext['device_class']][] = [
  [/PlayStation|Xbox|Nintendo/, 'console'],
  [/Web0S|WebOS|Tizen.*TV|SMART-TV|SmartTV|AppleTV|Roku|BRAVIA|HbbTV|GoogleTV|Android TV|CrKey|AFT[A-Z]/i, 'tv'],
  [/STB|SetTop/i, 'stb'],
  [/iPad|Tablet|Android(?!.*Mobile)/i, 'tablet'],
  [/Mobi|iPhone/i, 'mobile'],
  [/Windows|Macintosh|CrOS|Linux|X11/, 'desktop'],
];

const SYSTEMS: [RegExp, string][] = [
  [/Web0S|WebOS/, 'webos'],
  [/Tizen/, 'tizen'],
  [/Android/, 'android'],
  [/iPhone|iPad|iPod/, 'ios'],
  [/Windows/, 'windows'],
  [/Mac OS X/, 'macos'],
  [/CrOS/, 'chromeos'],
  [/Linux/, 'linux'],
];

const BROWSERS: [RegExp, string][] = [
  [/Edg/, 'edge'],
  [/OPR\//, 'opera'],
  [/SamsungBrowser/, 'samsung'],
  [/Firefox|FxiOS/, 'firefox'],
  [/HeadlessChrome|Chromium/, 'chromium'],
  [/Chrome|CriOS/, 'chrome'],
  [/Safari/, 'safari'],
];

function first<T>(table: [RegExp, T][], text: string): T | undefined {
  return table.find(([pattern]) => pattern.test(text))?.[1];
}

/** Device class, system and browser in coarse words: enough to compare, too little to recognise anybody. */
export function client(agent: string): Client {
  return {
    device_class: first(DEVICES, agent) ?? 'other',
    os: first(SYSTEMS, agent),
    browser: first(BROWSERS, agent),
  };
}
