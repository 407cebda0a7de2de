// @ts-check
/** Receives one output stream by WHEP, knows whether packets flow, and asks again when they stop. */

import { PersistentSession } from "/static/shared/persistent.js";
import { DownlinkMeter } from "/static/shared/quality.js";

const FORGOTTEN_AFTER_MS = 500;

/**
 * @typedef {object} ReceiveOptions
 * @property {string} lesson
 * @property {string} stream
 * @property {string} token
 * @property {number} silenceS how long a live stream may be without a packet
 * @property {("audio" | "video")[]} [kinds] what to receive; both unless told
 * @property {RTCIceServer[]} [iceServers]
 * @property {() => void} onChange
 * @property {(media: MediaStream) => void} onMedia a new session's media
 */

export class WhepReceiver extends PersistentSession {
  /** Whether the lesson says that this stream has a publisher now. */
  live = false;
  /** Whether packets came within the last two seconds. */
  flowing = false;
  /** Whether they ever did. */
  seen = false;
  /** @type {import("/static/shared/quality.js").Downlink | null} */
  quality = null;

  #meter = new DownlinkMeter();
  #packets = 0;
  #lastPacketAt = 0;
  /** Doubles with each session that stayed silent, so that a still stream does not flicker. */
  #patienceS;

  /** @param {ReceiveOptions} options */
  constructor(options) {
    super({ protocol: "whep", ...options });
    this.options = options;
    this.#patienceS = options.silenceS;
  }

  /**
   * @override
   * @param {RTCPeerConnection} pc
   */
  prepare(pc) {
    this.#meter = new DownlinkMeter();
    this.#packets = 0;
    this.#lastPacketAt = 0;
    for (const kind of this.options.kinds ?? ["audio", "video"]) {
      pc.addTransceiver(kind, { direction: "recvonly" });
    }
    const media = new MediaStream();
    pc.addEventListener("track", (event) => {
      media.addTrack(event.track);
      this.options.onMedia(media);
      // The first packet should show at once, not at the next look at the statistics.
      event.track.addEventListener("unmute", () => this.watch(pc), { once: true });
    });
  }

  /**
   * @override
   * @param {RTCPeerConnection} pc
   */
  async watch(pc) {
    const now = performance.now();
    const report = await pc.getStats();
    if (pc !== this.pc) {
      return false;
    }
    const packets = packetsReceived(report);
    if (packets > this.#packets) {
      this.#packets = packets;
      this.#lastPacketAt = now;
      this.#patienceS = this.options.silenceS;
    }
    this.#lastPacketAt ||= now;
    const silentS = (now - this.#lastPacketAt) / 1000;
    const flowing = this.#packets > 0 && silentS < 2;
    if (flowing !== this.flowing) {
      this.flowing = flowing;
      this.seen ||= flowing;
      this.onChange();
    }
    if (this.live && silentS > this.#patienceS) {
      this.#patienceS = Math.min(this.#patienceS * 2, 30);
      this.flowing = false;
      return true;
    }
    return false;
  }

  /**
   * After a time without the server: a session in which nothing arrives is one that the server has
   * forgotten.
   */
  async renewIfSilent() {
    this.retryNow();
    const { pc } = this;
    if (pc && this.state === "connected") {
      await this.watch(pc);
      const silentMs = performance.now() - this.#lastPacketAt;
      if (pc === this.pc && this.state === "connected" && silentMs > FORGOTTEN_AFTER_MS) {
        this.rejoin();
      }
    }
  }

  /** Measure since the last call; for the `quality` message of the protocol. */
  async measure() {
    if (!this.pc || this.state !== "connected") {
      return null;
    }
    const report = await this.pc.getStats();
    this.quality = this.#meter.sample(report, performance.now());
    return this.quality;
  }
}

/** @param {RTCStatsReport} report */
function packetsReceived(report) {
  let packets = 0;
  report.forEach((entry) => {
    if (entry.type === "inbound-rtp") {
      packets += entry.packetsReceived ?? 0;
    }
  });
  return packets;
}
