/** Name and version as they stand in every beacon. */
export const SDK = 'spillway-js/0.1.0';
