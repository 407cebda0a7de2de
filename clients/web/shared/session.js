// @ts-check
/** One negotiated WHIP or WHEP session: offer posted, ICE restarted, resource deleted. */

import { Problem, request } from "/static/shared/api.js";
import { applyFragment, restartFragment } from "/static/shared/sdpfrag.js";

export class MediaSession {
  /**
   * Post the offer of `pc` (its transceivers are already there) and apply the answer. The offer goes
   * out at once: the server is ICE-lite, has its candidates in the answer and learns ours from our
   * checks, so waiting for gathering would only delay the picture.
   *
   * @param {{url: string, token: string, pc: RTCPeerConnection, ticket?: string | null}} options
   */
  static async open({ url, token, pc, ticket }) {
    await pc.setLocalDescription(await pc.createOffer());
    const headers = new Headers({
      "Content-Type": "application/sdp",
      Authorization: `Bearer ${token}`,
    });
    if (ticket) {
      headers.set("Tongke-Ticket", ticket);
    }
    const response = await request(url, {
      method: "POST",
      headers,
      body: pc.localDescription?.sdp ?? "",
    });
    const place = response.headers.get("Location");
    if (!place) {
      throw new Problem("no-location", response.status);
    }
    const session = new MediaSession(pc, new URL(place, response.url).href, token);
    await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
    return session;
  }

  /**
   * @param {RTCPeerConnection} pc
   * @param {string} location
   * @param {string} token
   */
  constructor(pc, location, token) {
    this.pc = pc;
    this.location = location;
    this.token = token;
  }

  /** Move the session to another path of the network (RFC 9725 section 4.3.3). */
  async restartIce() {
    const answer = this.pc.remoteDescription?.sdp ?? "";
    await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
    const response = await request(this.location, {
      method: "PATCH",
      headers: {
        "Content-Type": "application/trickle-ice-sdpfrag",
        "If-Match": '"*"',
        Authorization: `Bearer ${this.token}`,
      },
      body: restartFragment(this.pc.localDescription?.sdp ?? ""),
    });
    const sdp = applyFragment(answer, await response.text());
    await this.pc.setRemoteDescription({ type: "answer", sdp });
  }

  /**
   * Delete the resource on the server, then close the connection: a connection that closes first
   * looks like a lost line, for which the server holds the place a while. Works while the page is
   * being left.
   */
  delete() {
    // The page may be gone before an answer comes, and the server frees silent sessions by itself.
    fetch(this.location, {
      method: "DELETE",
      headers: { Authorization: `Bearer ${this.token}` },
      keepalive: true,
    })
      .catch(() => undefined)
      .finally(() => this.pc.close());
  }
}
