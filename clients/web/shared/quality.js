// @ts-check
/** Turns `getStats()` reports into the few numbers that say how a picture and its sound arrive. */

/**
 * @typedef {object} Downlink
 * @property {number} fps
 * @property {number} loss 0 to 1
 * @property {number | null} rtt_ms
 * @property {number} kbps
 * @property {number} freezes since the last sample
 * @property {number} audio_level 0 to 1
 */

/**
 * @typedef {object} Uplink
 * @property {number} fps
 * @property {number} kbps
 * @property {"none" | "cpu" | "bandwidth" | "other"} limited what holds the picture back
 */

/** How fast counters grow between two samples. */
class Rates {
  /** @type {Record<string, number>} */
  #last = {};
  #lastMs = 0;
  #elapsedS = 0;

  /** @param {number} nowMs */
  tick(nowMs) {
    this.#elapsedS = this.#lastMs ? (nowMs - this.#lastMs) / 1000 : 0;
    this.#lastMs = nowMs;
  }

  /** Whether there was a sample before this one: the first tells nothing about speed. */
  get known() {
    return this.#elapsedS > 0;
  }

  /**
   * Growth since the last sample; never negative, even if a counter began again.
   *
   * @param {string} name
   * @param {number} value
   */
  grown(name, value) {
    const before = this.#last[name] ?? (this.#elapsedS ? 0 : value);
    this.#last[name] = value;
    return Math.max(0, value - before);
  }

  /**
   * @param {string} name
   * @param {number} value
   */
  perSecond(name, value) {
    const grown = this.grown(name, value);
    return this.#elapsedS ? grown / this.#elapsedS : 0;
  }
}

export class DownlinkMeter {
  #rates = new Rates();

  /**
   * @param {RTCStatsReport} report
   * @param {number} nowMs
   * @returns {Downlink | null} null for the first sample, which has none to compare with
   */
  sample(report, nowMs) {
    const sum = { frames: 0, packets: 0, lost: 0, bytes: 0, freezes: 0 };
    let audioLevel = 0;
    /** @type {number | null} */
    let rttMs = null;
    report.forEach((entry) => {
      if (entry.type === "inbound-rtp") {
        sum.frames += entry.framesDecoded ?? 0;
        sum.packets += entry.packetsReceived ?? 0;
        sum.lost += entry.packetsLost ?? 0;
        sum.bytes += entry.bytesReceived ?? 0;
        sum.freezes += entry.freezeCount ?? 0;
        audioLevel = Math.max(audioLevel, entry.audioLevel ?? 0);
      } else if (entry.type === "candidate-pair" && entry.nominated) {
        rttMs = entry.currentRoundTripTime === undefined ? null : entry.currentRoundTripTime * 1000;
      }
    });
    this.#rates.tick(nowMs);
    const packets = this.#rates.grown("packets", sum.packets);
    const lost = this.#rates.grown("lost", sum.lost);
    const measured = {
      fps: round(this.#rates.perSecond("frames", sum.frames)),
      loss: packets + lost > 0 ? Math.min(1, lost / (packets + lost)) : 0,
      rtt_ms: rttMs === null ? null : round(rttMs),
      kbps: round((this.#rates.perSecond("bytes", sum.bytes) * 8) / 1000),
      freezes: this.#rates.grown("freezes", sum.freezes),
      audio_level: Math.min(1, audioLevel),
    };
    return this.#rates.known ? measured : null;
  }
}

export class UplinkMeter {
  #rates = new Rates();

  /**
   * @param {RTCStatsReport} report
   * @param {number} nowMs
   * @returns {Uplink}
   */
  sample(report, nowMs) {
    let frames = 0;
    let bytes = 0;
    /** @type {Uplink["limited"]} */
    let limited = "none";
    report.forEach((entry) => {
      if (entry.type === "outbound-rtp") {
        frames += entry.framesSent ?? 0;
        bytes += entry.bytesSent ?? 0;
        limited = entry.kind === "video" ? (entry.qualityLimitationReason ?? "none") : limited;
      }
    });
    this.#rates.tick(nowMs);
    return {
      fps: round(this.#rates.perSecond("frames", frames)),
      kbps: round((this.#rates.perSecond("bytes", bytes) * 8) / 1000),
      limited,
    };
  }
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
