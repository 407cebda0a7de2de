// @ts-check
/** Speaks the JSON API (`docs/protocol.md`) and turns every failure into one `Problem`. */

import { language } from "/static/shared/i18n.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Seat} Seat */
/** @typedef {import("/static/shared/types.js").Me} Me */
/** @typedef {import("/static/shared/types.js").Joined} Joined */
/** @typedef {import("/static/shared/types.js").Mode} Mode */
/** @typedef {import("/static/shared/types.js").ProblemDocument} ProblemDocument */

const TIMEOUT_MS = 10_000;

/** A refusal by the server (`kind` is the last segment of its type), or `unreachable`. */
export class Problem extends Error {
  /**
   * @param {string} kind
   * @param {number} status 0 when there was no answer
   * @param {ProblemDocument} document
   * @param {number | null} retryAfterS
   */
  constructor(kind, status = 0, document = {}, retryAfterS = null) {
    super(document.detail ?? document.title ?? kind);
    this.name = "Problem";
    this.kind = kind;
    this.status = status;
    this.document = document;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * `fetch` that gives up in time and throws a `Problem` for anything but success.
 *
 * @param {string} url
 * @param {RequestInit} [init]
 */
export async function request(url, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("Accept-Language", language());
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), ...init, headers });
  } catch {
    throw new Problem("unreachable");
  }
  if (!response.ok) {
    throw await problemOf(response);
  }
  return response;
}

/** @param {Response} response */
async function problemOf(response) {
  /** @type {ProblemDocument} */
  let document = {};
  try {
    document = (await response.json()) ?? {};
  } catch {
    document = { title: response.statusText };
  }
  const kind = document.type?.split("/").pop() || `http-${response.status}`;
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return new Problem(
    kind,
    response.status,
    document,
    Number.isFinite(retryAfter) ? retryAfter : null,
  );
}

/** The API as seen by the holder of one token. */
export class Api {
  /** @param {string | null} token */
  constructor(token) {
    this.token = token;
  }

  /** @returns {Promise<Me>} */
  me() {
    return this.#json("GET", "/me");
  }

  /** @returns {Promise<{ice_servers?: RTCIceServer[]}>} */
  hello() {
    return this.#json("GET", "/hello");
  }

  /**
   * @param {string} title
   * @param {Mode} mode
   * @returns {Promise<Lesson>}
   */
  createLesson(title, mode) {
    return this.#json("POST", "/lessons", { title, mode });
  }

  /**
   * @param {string} id
   * @returns {Promise<Lesson>}
   */
  lesson(id) {
    return this.#json("GET", `/lessons/${encodeURIComponent(id)}`);
  }

  /** @returns {Promise<{lessons: Lesson[]}>} */
  lessons() {
    return this.#json("GET", "/lessons");
  }

  /**
   * @param {string} id
   * @returns {Promise<Lesson>}
   */
  endLesson(id) {
    return this.#json("DELETE", `/lessons/${encodeURIComponent(id)}`);
  }

  /**
   * @param {string} id
   * @param {string} stream
   * @param {number} cap
   */
  setCap(id, stream, cap) {
    const path = `/lessons/${encodeURIComponent(id)}/streams/${encodeURIComponent(stream)}`;
    return this.#json("PATCH", path, { cap });
  }

  /**
   * @param {string} id
   * @returns {Promise<{seats: Seat[]}>}
   */
  seats(id) {
    return this.#json("GET", `/lessons/${encodeURIComponent(id)}/seats`);
  }

  /**
   * @param {string} id
   * @param {string} seat
   */
  releaseSeat(id, seat) {
    const path = `/lessons/${encodeURIComponent(id)}/seats/${encodeURIComponent(seat)}`;
    return this.#json("DELETE", path);
  }

  /**
   * @param {string} code
   * @param {string} name
   * @param {string | null} seat token of an earlier join, to sit down on the same seat
   * @returns {Promise<Joined>}
   */
  join(code, name, seat) {
    return this.#json("POST", "/join", seat ? { code, name, seat } : { code, name });
  }

  /** @returns {Promise<Record<string, any>>} */
  stats() {
    return this.#json("GET", "/stats");
  }

  async configText() {
    const response = await request("/api/v1/config/toml", { headers: this.#headers() });
    return response.text();
  }

  /** @param {string} toml */
  saveConfig(toml) {
    return this.#json("PUT", "/config", { toml });
  }

  #headers() {
    const headers = new Headers();
    if (this.token) {
      headers.set("Authorization", `Bearer ${this.token}`);
    }
    return headers;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async #json(method, path, body) {
    const headers = this.#headers();
    if (body) {
      headers.set("Content-Type", "application/json");
    }
    const response = await request(`/api/v1${path}`, {
      method,
      headers,
      body: body ? JSON.stringify(body) : null,
    });
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  }
}
