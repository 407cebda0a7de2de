// @ts-check
/** Publishes one media stream by WHIP (RFC 9725) and keeps it published. */

import { PersistentSession } from "/static/shared/persistent.js";
import { UplinkMeter } from "/static/shared/quality.js";

/** Every session begins below its bandwidth and grows; only what lasts is worth a word. */
const LIMITED_SAMPLES = 10;

/** What is sent beside the full size, for thin lines. Writing must stay legible: fewer frames, not fewer lines. */
/** @type {Record<string, {rid: string, height: number, kbps: number, fps: number}[]>} */
const SMALLER_LAYERS = {
  camera: [
    { rid: "l", height: 180, kbps: 150, fps: 15 },
    { rid: "m", height: 360, kbps: 500, fps: 30 },
  ],
  slides: [{ rid: "m", height: 540, kbps: 350, fps: 5 }],
};

/**
 * @typedef {object} PublishOptions
 * @property {string} lesson
 * @property {string} stream
 * @property {string} token
 * @property {MediaStream} media
 * @property {number} maxKbps
 * @property {number} maxFps
 * @property {number} [maxHeight] of the picture in pixels; a larger one is scaled down
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
    for (const track of this.media.getTracks()) {
      const { sender } = pc.addTransceiver(track, {
        direction: "sendonly",
        streams: [this.media],
        sendEncodings:
          track.kind === "video" ? this.#layers(track.getSettings().height) : [{}],
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
   * The layers of the picture, the smallest first, so that the server can give each classroom the
   * one that its line carries; the smaller ones as far as the picture has the lines for them.
   *
   * @param {number | undefined} height of the picture, pixels
   * @returns {RTCRtpEncodingParameters[]}
   */
  #layers(height) {
    const { maxKbps, maxFps, stream } = this.options;
    const full = {
      maxBitrate: maxKbps * 1000,
      maxFramerate: maxFps,
      scaleResolutionDownBy: this.#scale(height),
    };
    const possible = SMALLER_LAYERS[stream] ?? [];
    const smaller = possible.filter((layer) => height && height >= 1.9 * layer.height);
    if (!height || !smaller.length) return [full];
    return [
      ...smaller.map((layer) => ({
        rid: layer.rid,
        scaleResolutionDownBy: height / layer.height,
        maxBitrate: Math.min(layer.kbps, maxKbps / 2) * 1000,
        maxFramerate: Math.min(layer.fps, maxFps),
      })),
      { rid: "h", ...full },
    ];
  }

  /** @param {number | undefined} height of the picture, pixels */
  #scale(height) {
    const { maxHeight } = this.options;
    return height && maxHeight ? Math.max(1, height / maxHeight) : 1;
  }

  /**
   * Send in another quality from now on, without a new session.
   *
   * @param {{maxKbps: number, maxFps: number, maxHeight: number}} limits
   */
  async limit(limits) {
    Object.assign(this.options, limits);
    const sender = this.pc?.getSenders().find((candidate) => candidate.track?.kind === "video");
    const parameters = sender?.getParameters();
    if (!sender || parameters?.encodings.length !== 1) {
      return;
    }
    const [encoding] = this.#layers(sender.track?.getSettings().height);
    parameters.encodings = [{ ...parameters.encodings[0], ...encoding }];
    // The server holds the sender to the bit rate in any case.
    await sender.setParameters(parameters).catch(() => undefined);
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
