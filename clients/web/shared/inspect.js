// @ts-check
/**
 * `window.__tongke`: what the tests look at. `pcs` holds the current RTCPeerConnection of each
 * stream by its name (`camera`, `slides`), so that `getStats()` can judge pictures and sound.
 */

/** @type {{pcs: Record<string, RTCPeerConnection>}} */
const inspected = { pcs: {} };

/** @type {any} */ (window).__tongke = inspected;

/**
 * @param {string} stream
 * @param {RTCPeerConnection} pc
 */
export function showConnection(stream, pc) {
  inspected.pcs[stream] = pc;
}

/** @param {string} stream */
export function hideConnection(stream) {
  delete inspected.pcs[stream];
}
