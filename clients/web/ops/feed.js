// @ts-check
/** Fetches what the operations page shows; an overview that has not changed is not sent again. */

import { Problem, request } from "/static/shared/api.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */

/**
 * A receiver of the overview: session, seat, name, stream, state, loss (%), round trip (ms), layer,
 * freezes in the last minute, kbit/s.
 *
 * @typedef {[string, string | null, string, string, string, number | null, number | null,
 *   number | null, number, number | null]} Receiver
 *
 * @typedef {Lesson & {receivers: Receiver[], loss_percent: number | null, freezes: number,
 *   kbps: number}} OpsLesson
 *
 * @typedef {object} WorkerRow
 * @property {number} worker
 * @property {boolean} ready
 * @property {boolean} drained it gets nothing new
 * @property {number} restarts
 * @property {number} sessions
 * @property {number | null} cpu_percent of a core
 * @property {number | null} kbps
 * @property {number | null} packets_per_s
 * @property {number | null} rss_bytes
 *
 * @typedef {object} ServerFigures
 * @property {boolean} refusing_lessons
 * @property {number} uplink_kbps
 * @property {number} uplink_limit_kbps
 * @property {number} target_cpu_percent
 * @property {number | null} disk_free_mb
 *
 * @typedef {object} Alarm
 * @property {number} id
 * @property {string} kind
 * @property {string} subject ids only
 * @property {number} value
 * @property {number} limit
 * @property {number} since seconds since 1970
 * @property {boolean} acknowledged
 *
 * @typedef {{at: number, alarm: number, kind: string, subject: string, what: string,
 *   value: number, limit: number, by: string}} AlarmNote
 *
 * @typedef {{server: ServerFigures, workers: WorkerRow[], lessons: OpsLesson[],
 *   alarms: Alarm[]}} Overview
 *
 * @typedef {{key: string, old: string, new: string, live: boolean}} Change
 *
 * @typedef {{grain_s: number, age_s: number, fields: Record<string, (number | null)[]>}} Series
 *
 * @typedef {{n: number, at: number, role: string, token: string, changes: string[],
 *   restores: number | null}} Snapshot
 */

export class Feed {
  #tag = "";

  /** @param {string | null} token */
  constructor(token) {
    this.token = token;
  }

  /**
   * The overview, or null when it is what it was.
   *
   * @returns {Promise<Overview | null>}
   */
  async overview() {
    try {
      const response = await this.#send("GET", "/ops/overview", undefined, this.#tag);
      this.#tag = response.headers.get("ETag") ?? "";
      return await response.json();
    } catch (error) {
      if (error instanceof Problem && error.status === 304) {
        return null;
      }
      throw error;
    }
  }

  /**
   * @param {string} session
   * @returns {Promise<Series>}
   */
  series(session) {
    return this.#json("GET", `/ops/sessions/${encodeURIComponent(session)}/series`);
  }

  /** @param {string} session */
  async rejoin(session) {
    await this.#send("POST", `/ops/sessions/${encodeURIComponent(session)}/rejoin`);
  }

  /**
   * @param {number | null} worker null is the whole server
   * @param {boolean} drain
   */
  async drain(worker, drain) {
    await this.#send("POST", "/ops/drain", { worker, drain });
  }

  /** @param {number} alarm */
  async acknowledge(alarm) {
    await this.#send("POST", `/ops/alarms/${alarm}/ack`);
  }

  /** @returns {Promise<{alarms: Alarm[], log: AlarmNote[]}>} */
  alarms() {
    return this.#json("GET", "/ops/alarms");
  }

  /**
   * The planned cap of each stream by mode and name.
   *
   * @returns {Promise<{plans: {mode: string, streams: Record<string, {cap: number}>}[]}>}
   */
  plan() {
    return this.#json("GET", "/plan");
  }

  /**
   * @param {string} toml
   * @returns {Promise<{changes: Change[]}>}
   */
  diff(toml) {
    return this.#json("POST", "/ops/config/diff", { toml });
  }

  /** @returns {Promise<{history: Snapshot[], undo: number | null}>} */
  history() {
    return this.#json("GET", "/ops/config/history");
  }

  async undo() {
    await this.#send("POST", "/ops/config/undo");
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async #json(method, path, body) {
    return (await this.#send(method, path, body)).json();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {string} [tag]
   */
  #send(method, path, body, tag) {
    const headers = new Headers();
    if (this.token) {
      headers.set("Authorization", `Bearer ${this.token}`);
    }
    if (body) {
      headers.set("Content-Type", "application/json");
    }
    if (tag) {
      headers.set("If-None-Match", tag);
    }
    const init = { method, headers, body: body ? JSON.stringify(body) : null };
    return request(`/api/v1${path}`, { ...init, cache: "no-store" });
  }
}
