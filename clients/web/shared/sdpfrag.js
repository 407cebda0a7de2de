// @ts-check
/** ICE restarts as `application/trickle-ice-sdpfrag` (RFC 8840): offer to fragment and back. */

/**
 * The fragment that announces the new ICE credentials of `sdp` (RFC 9725 section 4.3.3). With BUNDLE
 * one transport carries all media, so only its first media section is named.
 *
 * @param {string} sdp
 */
export function restartFragment(sdp) {
  const lines = sdp.split(/\r?\n/);
  const media = lines.findIndex((line) => line.startsWith("m="));
  const section = lines.slice(media);
  const wanted = ["a=mid:", "a=ice-ufrag:", "a=ice-pwd:"].map((prefix) =>
    section.find((line) => line.startsWith(prefix)),
  );
  const group = lines.find((line) => line.startsWith("a=group:BUNDLE"));
  const parts = [group, lines[media], ...wanted].filter((line) => line !== undefined);
  return `${parts.join("\r\n")}\r\n`;
}

/**
 * The answer `sdp` with the credentials and candidates that the server's `fragment` gave.
 *
 * @param {string} sdp
 * @param {string} fragment
 */
export function applyFragment(sdp, fragment) {
  const given = fragment.split(/\r?\n/);
  const ufrag = given.find((line) => line.startsWith("a=ice-ufrag:"));
  const password = given.find((line) => line.startsWith("a=ice-pwd:"));
  const candidates = given.filter((line) => line.startsWith("a=candidate:"));
  /** @type {string[]} */
  const result = [];
  for (const line of sdp.split(/\r?\n/)) {
    if (line.startsWith("a=ice-ufrag:") && ufrag) {
      result.push(ufrag);
    } else if (line.startsWith("a=ice-pwd:") && password) {
      result.push(password);
    } else if (!(line.startsWith("a=candidate:") && candidates.length > 0)) {
      result.push(line);
    }
  }
  if (candidates.length > 0) {
    const media = result.findIndex((line) => line.startsWith("m="));
    const next = result.findIndex((line, at) => at > media && line.startsWith("m="));
    const end = next < 0 ? result.length - (result.at(-1) === "" ? 1 : 0) : next;
    result.splice(end, 0, ...new Set(candidates));
  }
  return result.join("\r\n");
}
