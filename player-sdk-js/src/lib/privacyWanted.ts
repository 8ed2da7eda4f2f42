/** Whether the viewer asked not to be followed (Global Privacy Control). */
export function privacyWanted(): boolean {
  return !!(navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl;
}
