// @ts-check
/** A teaching point in a lesson, without any drawing: receives, answers events, reports quality. */

import { LessonEvents } from "/static/shared/events.js";
import { WhepReceiver } from "/static/shared/whep.js";
import { Returning } from "/static/join/returning.js";
import { connectionState } from "/static/join/state.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/events.js").LessonEvent} LessonEvent */
/** @typedef {import("/static/join/state.js").Line} Line */
/** @typedef {import("/static/shared/types.js").Floor} Floor */

const QUALITY_EVERY_MS = 5_000;
/** A camera sends all the time; a still slide may pause between its frames. */
const SILENCE_S = { camera: 3, slides: 8, class: 8 };

export class Classroom {
  ended = false;
  /** @type {string | null} why our seat was taken away */
  released = null;
  hand = false;
  connected = false;
  /** @type {WhepReceiver} */
  camera;
  /** @type {WhepReceiver | null} opened when slides are first shown */
  slides = null;
  /** @type {WhepReceiver | null} the sound of teacher and floor together, without our own */
  voices = null;
  /** @type {Floor | null} */
  floor = null;
  /** @type {string | null} our seat's id */
  seat = null;
  /** @type {Returning} what we send back */
  returning;

  /** @type {LessonEvents} */
  #events;
  #reporting;
  /** Whether the server has greeted us before: then we come back after a time without it. */
  #welcomed = false;
  #over = false;

  /**
   * @param {object} options
   * @param {Lesson} options.lesson
   * @param {string} options.token
   * @param {string} options.name
   * @param {RTCIceServer[]} options.iceServers
   * @param {() => void} options.onChange
   * @param {(stream: "camera" | "slides" | "class", media: MediaStream) => void} options.onMedia
   */
  constructor({ lesson, token, name, iceServers, onChange, onMedia }) {
    this.lesson = lesson;
    this.token = token;
    this.name = name;
    this.iceServers = iceServers;
    this.onChange = onChange;
    this.onMedia = onMedia;
    this.camera = this.#receiver("camera");
    this.returning = new Returning({ lesson: lesson.id, token, iceServers, onChange });
    this.#events = new LessonEvents(
      lesson.id,
      token,
      (event) => this.#heard(event),
      (connected) => {
        this.connected = connected;
        onChange();
      },
    );
    this.#reporting = setInterval(() => this.#report(), QUALITY_EVERY_MS);
    this.camera.start();
    this.#follow(lesson);
  }

  /** @param {"camera" | "slides" | "class"} stream */
  #receiver(stream) {
    return new WhepReceiver({
      lesson: this.lesson.id,
      stream,
      token: this.token,
      iceServers: this.iceServers,
      silenceS: SILENCE_S[stream],
      kinds: stream === "class" ? ["audio"] : ["audio", "video"],
      onChange: () => this.onChange(),
      onMedia: (media) => this.onMedia(stream, media),
    });
  }

  get state() {
    return connectionState({
      ended: this.ended,
      released: this.released !== null,
      camera: line(this.camera),
      slides: this.slides && line(this.slides),
    });
  }

  /** @param {LessonEvent} event */
  #heard(event) {
    switch (event.type) {
      case "welcome":
        this.seat = event.seat;
        this.#follow(event.lesson);
        if (this.#welcomed) {
          this.camera.renewIfSilent();
          this.slides?.renewIfSilent();
          this.voices?.renewIfSilent();
          this.returning.retryNow();
        }
        this.#welcomed = true;
        break;
      case "lesson":
        this.#follow(event.lesson);
        break;
      case "rejoin":
        for (const stream of event.streams) {
          this.#stream(stream)?.rejoin();
          if (stream === "return") {
            this.returning.rejoin();
          }
        }
        break;
      case "waiting":
        this.#stream(event.stream)?.moveTo(event.position);
        break;
      case "seat-offered":
        this.#stream(event.stream)?.offered();
        break;
      case "hand":
        this.hand = event.raised;
        break;
      case "floor":
        this.floor = /** @type {any} */ (event);
        this.#listen();
        break;
      case "return":
        this.returning.follow(/** @type {any} */ (event));
        this.#listen();
        break;
      case "released":
        this.released = event.reason;
        this.hand = false;
        this.leave({ tellServer: false });
        break;
      case "ended":
        this.ended = true;
        this.leave({ tellServer: false });
        break;
    }
    this.onChange();
  }

  /** @param {string} name */
  #stream(name) {
    const mixed = name === "class" ? this.voices : null;
    return name === "camera" ? this.camera : name === "slides" ? this.slides : mixed;
  }

  /** @param {Lesson} lesson */
  #follow(lesson) {
    this.lesson = lesson;
    if (lesson.state === "ended") {
      this.ended = true;
      this.leave({ tellServer: false });
      return;
    }
    this.camera.live = lesson.streams.camera?.live ?? false;
    const slidesLive = lesson.streams.slides?.live ?? false;
    if (slidesLive && !this.slides && !this.#over) {
      this.slides = this.#receiver("slides");
      this.slides.start();
    }
    if (this.slides) {
      this.slides.live = slidesLive;
    }
    this.#listen();
  }

  /**
   * Receive the mixed sound as soon as anybody sends a return, so that it is there before the first
   * word of a child: the stage is a stream of the lesson from the first return on.
   */
  #listen() {
    const mixed = "stage" in this.lesson.streams || this.othersSpeak;
    if (mixed && this.returning.offered && !this.voices && !this.#over) {
      this.voices = this.#receiver("class");
      this.voices.start();
    }
  }

  get onFloor() {
    return this.seat !== null && (this.floor?.seats.includes(this.seat) ?? false);
  }

  get muted() {
    return this.seat !== null && (this.floor?.muted.includes(this.seat) ?? false);
  }

  /** Whether all would hear us now, if we send sound. */
  get audible() {
    return (this.onFloor || (this.floor?.all_answer ?? false)) && !this.muted;
  }

  /** Whether somebody beside the teacher may be heard. */
  get othersSpeak() {
    const { floor, seat } = this;
    return floor !== null && (floor.all_answer || floor.seats.some((one) => one !== seat));
  }

  /**
   * Whether the mixed sound is to be heard in place of the teacher's own, which has less delay and
   * stays in step with the lips. Both together would be an echo.
   */
  get mixedSound() {
    return this.othersSpeak && (this.voices?.flowing ?? false);
  }

  /** Our place among the raised hands, from 1; null while our hand is down. */
  get place() {
    const at = this.seat === null ? -1 : (this.floor?.queue.indexOf(this.seat) ?? -1);
    return at < 0 ? null : at + 1;
  }

  handBack() {
    return this.#events.send({ type: "hand-back" });
  }

  /** Says whether the server can hear it now. */
  toggleHand() {
    return this.#events.send({ type: "hand", raised: !this.hand });
  }

  async #report() {
    for (const receiver of [this.camera, this.slides]) {
      const quality = receiver?.live ? await receiver.measure() : null;
      if (receiver && quality) {
        this.#events.send({ type: "quality", stream: receiver.stream, ...quality });
      }
    }
  }

  /**
   * Give the seat back and stop everything.
   *
   * @param {{tellServer?: boolean}} [options] false where the server ended it
   */
  leave(options = {}) {
    this.#over = true;
    clearInterval(this.#reporting);
    this.#events.close();
    this.camera.close(options);
    this.slides?.close(options);
    this.voices?.close(options);
    this.returning.close(options);
  }
}

/**
 * @param {WhepReceiver} receiver
 * @returns {Line}
 */
function line({ state, live, flowing, seen, problem }) {
  return { state, live, flowing, seen, troubled: problem !== null && state !== "waiting" };
}
