// @ts-check
/** The floor as the teacher conducts it, without any drawing: who is on it, the wall, its sounds. */

import { Problem } from "/static/shared/api.js";
import { WhepReceiver } from "/static/shared/whep.js";

/** @typedef {import("/static/shared/types.js").Floor} Floor */
/** @typedef {import("/static/shared/types.js").Wall} Wall */
/** @typedef {import("/static/shared/types.js").Layout} Layout */
/** @typedef {import("/static/shared/events.js").LessonEvent} LessonEvent */
/** @typedef {"wall" | "teacher-mix" | "return"} Source what an element plays */

/** How long a warning of a howl stays; it is told when it begins. */
const HOWL_SHOWN_MS = 10_000;

export class TeacherFloor {
  /** @type {Floor | null} */
  state = null;
  /** @type {Wall | null} */
  wall = null;
  /** @type {{layout: string, seat: string | null} | null} what the stage shows now */
  stage = null;
  /** @type {{seat: string | null} | null} who howls */
  howl = null;
  /** @type {"none" | "wall" | "stage"} what the server gives up, its CPU being short */
  shed = "none";
  /** @type {Problem | null} why the last action was refused */
  refusal = null;
  /** @type {string | null} the seat that is looked at closely */
  enlarged = null;

  /** @type {Map<Source, WhepReceiver>} */
  #receivers = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #howlTimer;
  #over = false;

  /**
   * @param {object} options
   * @param {string} options.lesson
   * @param {string} options.token
   * @param {RTCIceServer[]} options.iceServers
   * @param {(message: LessonEvent) => boolean} options.send
   * @param {() => void} options.onChange
   * @param {(source: Source, media: MediaStream | null) => void} options.onMedia
   */
  constructor(options) {
    this.options = options;
  }

  /** Whether the lesson's mode lets classrooms speak at all. */
  get offered() {
    return (this.state?.size ?? 0) > 0;
  }

  /** Whether the wall is there to be looked at. */
  get showing() {
    return this.#receivers.has("wall");
  }

  /** @param {string} seat */
  has(seat) {
    return this.state?.seats.includes(seat) ?? false;
  }

  /** @param {string} seat */
  isMuted(seat) {
    return this.state?.muted.includes(seat) ?? false;
  }

  /** @param {LessonEvent} event */
  hear(event) {
    switch (event.type) {
      case "floor":
        this.state = /** @type {any} */ (event);
        this.refusal = null;
        break;
      case "wall":
        this.wall = /** @type {any} */ (event);
        if (this.enlarged && !this.wall?.tiles.some((tile) => tile.seat === this.enlarged)) {
          this.enlarge(null);
        }
        break;
      case "stage":
        this.stage = { layout: event.layout, seat: event.seat };
        break;
      case "howl":
        this.#warn(event.seat);
        break;
      case "mixer":
        this.shed = event.shed;
        break;
      case "error":
        this.refusal = new Problem(kindOf(event.problem), event.problem.status, event.problem);
        break;
      case "rejoin":
        for (const receiver of this.#receivers.values()) {
          if (event.streams.includes(receiver.stream)) {
            receiver.rejoin();
          }
        }
        break;
    }
  }

  /** @param {string | null} seat */
  #warn(seat) {
    clearTimeout(this.#howlTimer);
    this.howl = { seat };
    this.#howlTimer = setTimeout(() => {
      this.howl = null;
      this.options.onChange();
    }, HOWL_SHOWN_MS);
  }

  /**
   * Receive wall and sound once returns are there. The server mixes only what somebody receives, so
   * a lesson in which nobody sends costs nothing.
   *
   * @param {import("/static/shared/types.js").Lesson} lesson
   */
  follow(lesson) {
    const returns = "stage" in lesson.streams || (this.wall?.tiles.length ?? 0) > 0;
    if (!this.#over && this.offered && returns && !this.#receivers.has("wall")) {
      this.#receive("wall", "wall", "video");
      this.#receive("teacher-mix", "teacher-mix", "audio");
    }
  }

  renew() {
    for (const receiver of this.#receivers.values()) {
      receiver.renewIfSilent();
    }
  }

  /**
   * @param {Source} source
   * @param {string} stream
   * @param {"audio" | "video"} kind
   */
  #receive(source, stream, kind) {
    const { lesson, token, iceServers, onChange, onMedia } = this.options;
    const receiver = new WhepReceiver({
      lesson,
      stream,
      token,
      iceServers,
      silenceS: 8,
      kinds: [kind],
      onChange,
      onMedia: (media) => onMedia(source, media),
    });
    this.#receivers.set(source, receiver);
    receiver.start();
  }

  /** Look at one return closely, or at all of them again. @param {string | null} seat */
  enlarge(seat) {
    if (seat === this.enlarged) {
      return;
    }
    this.#receivers.get("return")?.close();
    this.#receivers.delete("return");
    this.options.onMedia("return", null);
    this.enlarged = seat;
    if (seat !== null) {
      this.#receive("return", `return~${seat}`, "video");
    }
    this.options.onChange();
  }

  /** @param {string} seat */
  toggleFloor(seat) {
    this.#act({ type: this.has(seat) ? "revoke" : "grant", seat });
  }

  /** @param {string} seat */
  toggleMute(seat) {
    this.#act({ type: this.isMuted(seat) ? "unmute" : "mute", seat });
  }

  /** @param {boolean} muted */
  muteAll(muted) {
    this.#act({ type: muted ? "mute-all" : "unmute-all" });
  }

  toggleAnswer() {
    this.#act({ type: "all-answer", on: !this.state?.all_answer });
  }

  /** @param {Layout} layout */
  show(layout) {
    this.#act({ type: "layout", layout });
  }

  /** The refusal has been read. */
  forgive() {
    this.refusal = null;
  }

  /** @param {LessonEvent} message */
  #act(message) {
    this.refusal = null;
    if (!this.options.send(message)) {
      this.refusal = new Problem("unreachable");
    }
    this.options.onChange();
  }

  /** @param {{tellServer?: boolean}} [options] false where the server ended it */
  close(options = {}) {
    this.#over = true;
    clearTimeout(this.#howlTimer);
    for (const receiver of this.#receivers.values()) {
      receiver.close(options);
    }
    this.#receivers.clear();
  }
}

/** @param {{type?: string}} problem */
function kindOf(problem) {
  return problem.type?.split("/").pop() ?? "internal";
}
