// @ts-check
/** The one word for how a teaching point is connected, decided from what is known of its parts. */

/**
 * @typedef {"connecting" | "live" | "waiting-for-teacher" | "reconnecting" | "full" | "ended" |
 *   "released" | "failed"} ConnectionState
 *
 * @typedef {object} Line what is known of one received stream
 * @property {import("/static/shared/persistent.js").State} state
 * @property {boolean} live the lesson says that it has a publisher
 * @property {boolean} flowing packets arrive
 * @property {boolean} seen packets have arrived before
 * @property {boolean} troubled the last try was refused
 */

/**
 * @param {{ended: boolean, released: boolean, camera: Line, slides: Line | null}} known
 * @returns {ConnectionState}
 */
export function connectionState({ ended, released, camera, slides }) {
  if (ended) {
    return "ended";
  }
  if (released) {
    return "released";
  }
  if (camera.state === "failed") {
    return "failed";
  }
  if (camera.state === "waiting") {
    return "full";
  }
  if (shows(camera) || (slides !== null && shows(slides))) {
    return "live";
  }
  if (camera.state === "reconnecting" || camera.troubled) {
    return "reconnecting";
  }
  if (camera.state !== "connected") {
    return camera.seen ? "reconnecting" : "connecting";
  }
  if (!camera.live) {
    return "waiting-for-teacher";
  }
  return camera.seen ? "reconnecting" : "connecting";
}

/** @param {Pick<Line, "state" | "flowing">} line */
export function shows(line) {
  return line.state === "connected" && line.flowing;
}

/** What each state is called, what helps, and its icon. */
/** @type {Record<ConnectionState, {what: string, todo: string, icon: string, level: string}>} */
export const STATE_WORDS = {
  connecting: {
    what: "join.state.connecting",
    todo: "join.state.connecting.todo",
    icon: "pending",
    level: "none",
  },
  live: { what: "join.state.live", todo: "join.state.live.todo", icon: "good", level: "good" },
  "waiting-for-teacher": {
    what: "join.state.waiting-for-teacher",
    todo: "join.state.waiting-for-teacher.todo",
    icon: "clock",
    level: "none",
  },
  reconnecting: {
    what: "join.state.reconnecting",
    todo: "join.state.reconnecting.todo",
    icon: "reconnecting",
    level: "fair",
  },
  full: { what: "join.state.full", todo: "join.state.full.todo", icon: "people", level: "fair" },
  ended: { what: "join.state.ended", todo: "join.state.ended.todo", icon: "ended", level: "none" },
  released: {
    what: "join.state.released",
    todo: "join.state.released.todo",
    icon: "leave",
    level: "poor",
  },
  failed: {
    what: "join.state.failed",
    todo: "join.state.failed.todo",
    icon: "poor",
    level: "poor",
  },
};
