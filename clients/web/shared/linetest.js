// @ts-check
/** Tests the line to the server in some ten seconds: both ways, round trip, loss, devices, decoder. */

import { request } from "/static/shared/api.js";

/**
 * @typedef {object} LineResult
 * @property {number} down_kbps
 * @property {number} up_kbps
 * @property {number | null} rtt_ms
 * @property {number | null} loss 0 to 1, an estimate
 * @property {boolean | null} camera
 * @property {boolean | null} microphone
 * @property {"smooth" | "slow" | "none" | "unknown"} decode
 *
 * @typedef {object} Verdict
 * @property {"full" | "smaller" | "too-slow"} verdict
 * @property {number} full_kbps what the lesson needs in full
 * @property {number} least_kbps and in its smallest picture
 *
 * @typedef {"ping" | "down" | "up" | "devices"} Step
 */

const PINGS = 30;
const PING_PAUSE_MS = 50;
const PING_TIMEOUT_MS = 2000;
/** How long a direction is measured; with pings and the rest, ten seconds in all. */
const DIRECTION_MS = 3500;
const FIRST_BYTES = 32 * 1024;
const MOST_BYTES = 4 * 1024 * 1024;
/** A minute's budget at the server is 64 MiB; this leaves room for a second try. */
const DIRECTION_BYTES = 12 * 1024 * 1024;
/** What a transfer should take: short enough to stop in time, long enough to tell. */
const AIM_MS = 900;
/** TCP sends a lost segment again after 200 ms at the earliest (RFC 6298 with Linux' lower bound). */
const RESEND_MS = 180;
/** What browsers may hand to `getRandomValues` at once. */
const RANDOM_BYTES = 65_536;

/**
 * Run the whole test and hand the result in. Throws a `Problem`.
 *
 * @param {string} lesson
 * @param {string} token
 * @param {(step: Step) => void} onStep
 * @returns {Promise<{result: LineResult, verdict: Verdict}>}
 */
export async function testLine(lesson, token, onStep) {
  const line = new Line(`/api/v1/lessons/${encodeURIComponent(lesson)}/linetest`, token);
  onStep("ping");
  const { rtt_ms, loss } = judgePings(await line.pings());
  onStep("down");
  const down_kbps = await measure((bytes) => line.down(bytes));
  onStep("up");
  const up_kbps = await measure((bytes) => line.up(bytes));
  onStep("devices");
  const result = { down_kbps, up_kbps, rtt_ms, loss, ...(await devices()), decode: await decoding() };
  return { result, verdict: await line.report(result) };
}

class Line {
  /**
   * @param {string} base
   * @param {string} token
   */
  constructor(base, token) {
    this.base = base;
    this.headers = { Authorization: `Bearer ${token}` };
  }

  /** @returns {Promise<(number | null)[]>} milliseconds of each, null for one that never came back */
  async pings() {
    /** @type {(number | null)[]} */
    const times = [];
    await this.#ping(); // opens the connection: not counted
    for (let number = 0; number < PINGS; number += 1) {
      times.push(await this.#ping());
      await new Promise((resolve) => setTimeout(resolve, PING_PAUSE_MS));
    }
    return times;
  }

  async #ping() {
    const started = performance.now();
    try {
      await fetch(`${this.base}/ping`, {
        headers: this.headers,
        cache: "no-store",
        signal: AbortSignal.timeout(PING_TIMEOUT_MS),
      });
    } catch {
      return null;
    }
    return performance.now() - started;
  }

  /** @param {number} bytes */
  async down(bytes) {
    const response = await request(`${this.base}/down?bytes=${bytes}`, {
      headers: this.headers,
      cache: "no-store",
      signal: AbortSignal.timeout(25_000),
    });
    return (await response.arrayBuffer()).byteLength;
  }

  /** @param {number} bytes */
  async up(bytes) {
    const response = await request(`${this.base}/up`, {
      method: "POST",
      headers: { ...this.headers, "Content-Type": "application/octet-stream" },
      body: noise(bytes),
      signal: AbortSignal.timeout(25_000),
    });
    /** @type {{bytes: number}} */
    const { bytes: received } = await response.json();
    return received;
  }

  /**
   * @param {LineResult} result
   * @returns {Promise<Verdict>}
   */
  async report(result) {
    const response = await request(`${this.base}/result`, {
      method: "POST",
      headers: { ...this.headers, "Content-Type": "application/json" },
      body: JSON.stringify(result),
    });
    return response.json();
  }
}

/**
 * Growing transfers until the time or the bytes are used up; the fastest is what the line can do.
 * The first ones are TCP getting up to speed and never the fastest on a line that matters.
 *
 * @param {(bytes: number) => Promise<number>} transfer
 */
async function measure(transfer) {
  const ends = performance.now() + DIRECTION_MS;
  let bytes = FIRST_BYTES;
  let spent = 0;
  let best = 0;
  do {
    const started = performance.now();
    const moved = await transfer(bytes);
    const elapsed = Math.max(1, performance.now() - started);
    best = Math.max(best, (moved * 8) / elapsed);
    spent += bytes;
    const wanted = (bytes * AIM_MS) / elapsed;
    bytes = Math.round(Math.min(Math.max(wanted, bytes / 2, FIRST_BYTES), bytes * 8, MOST_BYTES));
  } while (performance.now() < ends && spent + bytes <= DIRECTION_BYTES);
  return Math.round(best);
}

/**
 * The median round trip, and the share of pings that took so much longer that a segment must have
 * been sent again. A page cannot see packets: this is an estimate, in steps of a thirtieth.
 *
 * @param {(number | null)[]} times
 */
export function judgePings(times) {
  const came = times.filter((time) => time !== null).sort((a, b) => a - b);
  const median = came[Math.floor(came.length / 2)];
  if (median === undefined) {
    return { rtt_ms: null, loss: 1 };
  }
  const late = times.filter((time) => time === null || time > median + RESEND_MS).length;
  return { rtt_ms: Math.round(median * 10) / 10, loss: late / times.length };
}

/** Whether there are a camera and a microphone; asks for no permission. */
async function devices() {
  try {
    const kinds = (await navigator.mediaDevices.enumerateDevices()).map((device) => device.kind);
    return { camera: kinds.includes("videoinput"), microphone: kinds.includes("audioinput") };
  } catch {
    return { camera: null, microphone: null };
  }
}

/** Whether this computer decodes the lesson's picture smoothly. */
async function decoding() {
  /** @type {LineResult["decode"]} */
  let found = "unknown";
  try {
    const { supported, smooth } = await navigator.mediaCapabilities.decodingInfo({
      type: "webrtc",
      video: {
        contentType: "video/VP8",
        width: 1280,
        height: 720,
        bitrate: 1_500_000,
        framerate: 25,
      },
    });
    found = supported ? (smooth ? "smooth" : "slow") : "none";
  } catch {
    // Older browsers know no decodingInfo for WebRTC: it stays unknown.
  }
  return found;
}

/** @param {number} bytes */
function noise(bytes) {
  const block = crypto.getRandomValues(new Uint8Array(Math.min(bytes, RANDOM_BYTES)));
  const parts = [];
  for (let left = bytes; left > 0; left -= block.length) {
    parts.push(left >= block.length ? block : block.subarray(0, left));
  }
  return new Blob(parts);
}
