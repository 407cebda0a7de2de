// @ts-check
/** Publishes one media stream by WHIP (RFC 9725) and keeps it published. */

import { PersistentSession } from "/static/shared/persistent.js";
import { UplinkMeter } from "/static/shared/quality.js";

/** Every session begins below its bandwidth and grows; only what lasts is worth a word. */
const LIMITED_SAMPLES = 10;

/**
 * @typedef {object} PublishOptions
 * @property {string} lesson
 * @property {string} stream
 * @property {string} token
 * @property {MediaStream} media
 * @property {number} maxKbps
 * @property {number} maxFps
 * @property {RTCDegradationPreference} degradation what to give up first on a slow line
 * @property {RTCIceServer[]} [iceServers]
 * @property {() => void} onChange
 */

export class WhipPublisher extends PersistentSession {
  #meter = new UplinkMeter();
  /** @type {import("/static/shared/quality.js").Uplink["limited"]} what has held the picture back for long */
  limited = "none";
  #limitedSamples = 0;

  /** @param {PublishOptions} options */
  constructor(options) {
    super({ protocol: "whip", ...options });
    this.options = options;
    this.media = options.media;
  }

  /**
   * @override
   * @param {RTCPeerConnection} pc
   */
  prepare(pc) {
    this.#meter = new UplinkMeter();
    this.#limitedSamples = 0;
    const { maxKbps, maxFps } = this.options;
    for (const track of this.media.getTracks()) {
      const encoding =
        track.kind === "video" ? { maxBitrate: maxKbps * 1000, maxFramerate: maxFps } : {};
      const { sender } = pc.addTransceiver(track, {
        direction: "sendonly",
        streams: [this.media],
        sendEncodings: [encoding],
      });
      if (track.kind === "video") {
        const parameters = sender.getParameters();
        parameters.degradationPreference = this.options.degradation;
        // A browser that cannot be told what to give up first decides for itself.
        sender.setParameters(parameters).catch(() => undefined);
      }
    }
  }

  /**
   * @override
   * @param {RTCPeerConnection} pc
   */
  async watch(pc) {
    const { limited } = this.#meter.sample(await pc.getStats(), performance.now());
    this.#limitedSamples = limited === "none" ? 0 : this.#limitedSamples + 1;
    const lasting = this.#limitedSamples > LIMITED_SAMPLES ? limited : "none";
    if (lasting !== this.limited) {
      this.limited = lasting;
      this.onChange();
    }
    return false;
  }

  /**
   * Send another camera or microphone from now on, without a new session where there is one of that
   * kind already.
   *
   * @param {MediaStream} media
   */
  async replaceMedia(media) {
    const kinds = (/** @type {MediaStream} */ stream) =>
      stream
        .getTracks()
        .map((track) => track.kind)
        .sort()
        .join();
    const same = kinds(media) === kinds(this.media);
    this.media = media;
    if (!same || !this.pc) {
      this.rejoin();
      return;
    }
    const senders = this.pc.getSenders();
    for (const track of media.getTracks()) {
      const sender = senders.find((candidate) => candidate.track?.kind === track.kind);
      await sender?.replaceTrack(track);
    }
  }
}
