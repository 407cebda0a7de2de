// @ts-check
/**
 * Keeps one WHIP or WHEP session alive: posts, watches, restarts ICE, posts again with growing delay,
 * and waits in line when the stream is full. `whip.js` and `whep.js` say what is sent or received.
 *
 * A new POST replaces the session that it follows (same seat, or same output), so a lost session is
 * not deleted first: that would cost a round trip while the class sees a frozen picture.
 */

import { Problem } from "/static/shared/api.js";
import { hideConnection, showConnection } from "/static/shared/inspect.js";
import { MediaSession } from "/static/shared/session.js";

/** @typedef {"idle" | "connecting" | "connected" | "reconnecting" | "waiting" | "failed"} State */
/** @typedef {"rejoin" | "offered" | "lost" | "stalled" | "closed"} Ending */

const FIRST_DELAY_MS = 300;
const LAST_DELAY_MS = 5_000;
const CONNECT_LIMIT_MS = 10_000;
/** A connection may come back by itself after a lost check or two. */
const DISCONNECTED_GRACE_MS = 700;
/** After an ICE restart; then a new session is quicker than more patience. */
const RESTART_LIMIT_MS = 2_500;
const WATCH_EVERY_MS = 1_000;
/** The server offers a free seat by itself; this is only for when its events do not arrive. */
const ASK_AGAIN_MS = 20_000;

/** Asking again cannot help with these. */
const FINAL = new Set([
  "invalid-token",
  "forbidden",
  "invalid-sdp",
  "unsupported-media-type",
  "no-such-lesson",
  "no-such-stream",
  "no-such-seat",
  "lesson-ended",
]);

export class PersistentSession {
  /** @type {State} */
  state = "idle";
  /** @type {Problem | null} why the last try was refused */
  problem = null;
  /** @type {number | null} the place in the line while `waiting` */
  position = null;
  /** @type {RTCPeerConnection | null} */
  pc = null;

  /** @type {MediaSession | null} */
  #session = null;
  /** @type {string | null} */
  #ticket = null;
  #running = false;
  /** Whether the present session ever connected: then its loss is news, not one more failure. */
  #everConnected = false;
  /** @type {((ending: Ending) => void) | null} ends whatever the loop waits for */
  #wake = null;
  #pausing = false;

  /**
   * @param {object} options
   * @param {"whip" | "whep"} options.protocol
   * @param {string} options.lesson
   * @param {string} options.stream
   * @param {string} options.token
   * @param {RTCIceServer[]} [options.iceServers]
   * @param {() => void} options.onChange called after every change of what is public here
   */
  constructor({ protocol, lesson, stream, token, iceServers, onChange }) {
    this.url = `/${protocol}/${encodeURIComponent(lesson)}/${encodeURIComponent(stream)}`;
    this.stream = stream;
    this.token = token;
    this.iceServers = iceServers ?? [];
    this.onChange = onChange;
  }

  /**
   * Add the transceivers of a new connection.
   *
   * @param {RTCPeerConnection} _pc
   */
  prepare(_pc) {}

  /**
   * Look at a running connection, once a second; `true` ends it as stalled.
   *
   * @param {RTCPeerConnection} _pc
   * @returns {Promise<boolean>}
   */
  async watch(_pc) {
    return false;
  }

  start() {
    if (!this.#running) {
      this.#running = true;
      this.#loop();
    }
  }

  /** Open the session again now: the server said that the old one is gone. */
  rejoin() {
    this.#wake?.("rejoin");
  }

  /** The server can be reached again: do not sit out the delay before the next try. */
  retryNow() {
    if (this.#pausing && this.state !== "waiting") {
      this.#wake?.("rejoin");
    }
  }

  /** A seat is held for us: take it. */
  offered() {
    if (this.state === "waiting") {
      this.#wake?.("offered");
    }
  }

  /** @param {number} position */
  moveTo(position) {
    if (this.state === "waiting") {
      this.#become("waiting", { position });
    }
  }

  /**
   * End the session for good.
   *
   * @param {{tellServer?: boolean}} [options] false where the server ended it
   */
  close({ tellServer = true } = {}) {
    this.#running = false;
    if (tellServer && this.#session) {
      this.#session.delete();
      this.pc = null;
    }
    this.#session = null;
    this.#drop();
    this.#wake?.("closed");
    this.#become("idle");
  }

  async #loop() {
    let failures = 0;
    this.#become("connecting");
    while (this.#running) {
      const pc = new RTCPeerConnection({ iceServers: this.iceServers, bundlePolicy: "max-bundle" });
      this.#adopt(pc);
      try {
        this.prepare(pc);
        const { url, token } = this;
        const session = await MediaSession.open({ url, token, pc, ticket: this.#ticket });
        if (!this.#running) {
          session.delete();
          return;
        }
        this.#session = session;
        this.#ticket = null;
      } catch (error) {
        if (!this.#running) {
          return;
        }
        failures = await this.#refused(error, failures);
        continue;
      }
      const ending = await this.#untilEnded(pc);
      if (!this.#running) {
        return;
      }
      failures = ending === "rejoin" ? 0 : this.#everConnected ? 1 : failures + 1;
      this.#session = null;
      this.#become("reconnecting");
      if (failures > 0) {
        await this.#pause(delayMs(failures));
      }
    }
  }

  /**
   * What to do after a refused POST; the number of failures so far.
   *
   * @param {unknown} error
   * @param {number} failures
   */
  async #refused(error, failures) {
    const problem =
      error instanceof Problem ? error : new Problem("not-negotiated", 0, { detail: String(error) });
    if (FINAL.has(problem.kind)) {
      this.#running = false;
      this.#drop();
      this.#become("failed", { problem });
      return failures;
    }
    if (problem.kind === "receiver-cap-reached") {
      this.#drop();
      this.#ticket = problem.document.ticket ?? this.#ticket;
      this.#become("waiting", { problem, position: problem.document.position ?? 1 });
      await this.#pause(Math.max((problem.retryAfterS ?? 0) * 1000, ASK_AGAIN_MS));
      this.#become("connecting");
      return 0;
    }
    this.#become(this.state === "connecting" ? "connecting" : "reconnecting", { problem });
    // A worker restarts in a moment, and the class is looking at a frozen picture.
    const asked = problem.kind === "worker-unavailable" ? 0 : (problem.retryAfterS ?? 0);
    const ending = await this.#pause(Math.max(delayMs(failures + 1), asked * 1000));
    return ending === "rejoin" ? 0 : failures + 1;
  }

  /**
   * Watch a connection until it is lost or replaced.
   *
   * @param {RTCPeerConnection} pc
   * @returns {Promise<Ending>}
   */
  #untilEnded(pc) {
    return new Promise((resolve) => {
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let patience = setTimeout(() => end("lost"), CONNECT_LIMIT_MS);
      const watching = setInterval(async () => {
        if (pc.connectionState === "connected" && (await this.watch(pc))) {
          end("stalled");
        }
      }, WATCH_EVERY_MS);

      /** @param {Ending} ending */
      const end = (ending) => {
        clearTimeout(patience);
        clearInterval(watching);
        pc.removeEventListener("connectionstatechange", changed);
        this.#wake = null;
        resolve(ending);
      };
      const restart = () => {
        patience = setTimeout(() => end("lost"), RESTART_LIMIT_MS);
        this.#session?.restartIce().catch(() => end("lost"));
      };
      const changed = () => {
        if (pc.connectionState === "connected") {
          clearTimeout(patience);
          this.#everConnected = true;
          this.#become("connected");
        } else if (pc.connectionState === "disconnected") {
          this.#become("reconnecting");
          clearTimeout(patience);
          patience = setTimeout(restart, DISCONNECTED_GRACE_MS);
        } else if (pc.connectionState === "failed" || pc.connectionState === "closed") {
          end("lost");
        }
      };
      this.#wake = end;
      pc.addEventListener("connectionstatechange", changed);
      changed();
    });
  }

  /**
   * @param {number} milliseconds
   * @returns {Promise<Ending>}
   */
  #pause(milliseconds) {
    return new Promise((resolve) => {
      /** @param {Ending} ending */
      const end = (ending) => {
        clearTimeout(timer);
        this.#wake = null;
        this.#pausing = false;
        resolve(ending);
      };
      const timer = setTimeout(() => end("lost"), milliseconds);
      this.#wake = end;
      this.#pausing = true;
    });
  }

  /** @param {RTCPeerConnection} pc */
  #adopt(pc) {
    this.pc?.close();
    this.pc = pc;
    this.#everConnected = false;
    showConnection(this.stream, pc);
  }

  #drop() {
    this.pc?.close();
    this.pc = null;
    hideConnection(this.stream);
  }

  /**
   * @param {State} state
   * @param {{problem?: Problem | null, position?: number | null}} [more]
   */
  #become(state, { problem = null, position = null } = {}) {
    this.state = state;
    this.problem = problem;
    this.position = position;
    this.onChange();
  }
}

/**
 * 0.3 s, growing to 5 s, with a spread so that forty classrooms do not knock at the same instant.
 *
 * @param {number} failures
 */
function delayMs(failures) {
  const grown = Math.min(FIRST_DELAY_MS * 1.8 ** (failures - 1), LAST_DELAY_MS);
  return grown * (0.8 + 0.4 * Math.random());
}
