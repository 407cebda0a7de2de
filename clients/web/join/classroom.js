// @ts-check
/** A teaching point in a lesson, without any drawing: receives, answers events, reports quality. */

import { LessonEvents } from "/static/shared/events.js";
import { WhepReceiver } from "/static/shared/whep.js";
import { connectionState } from "/static/join/state.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/events.js").LessonEvent} LessonEvent */
/** @typedef {import("/static/join/state.js").Line} Line */

const QUALITY_EVERY_MS = 5_000;
/** A camera sends all the time; a still slide may pause between its frames. */
const SILENCE_S = { camera: 3, slides: 8 };

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
   * @param {(stream: "camera" | "slides", media: MediaStream) => void} options.onMedia
   */
  constructor({ lesson, token, name, iceServers, onChange, onMedia }) {
    this.lesson = lesson;
    this.token = token;
    this.name = name;
    this.iceServers = iceServers;
    this.onChange = onChange;
    this.onMedia = onMedia;
    this.camera = this.#receiver("camera");
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

  /** @param {"camera" | "slides"} stream */
  #receiver(stream) {
    return new WhepReceiver({
      lesson: this.lesson.id,
      stream,
      token: this.token,
      iceServers: this.iceServers,
      silenceS: SILENCE_S[stream],
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
        this.#follow(event.lesson);
        if (this.#welcomed) {
          this.camera.renewIfSilent();
          this.slides?.renewIfSilent();
        }
        this.#welcomed = true;
        break;
      case "lesson":
        this.#follow(event.lesson);
        break;
      case "rejoin":
        for (const stream of event.streams) {
          this.#stream(stream)?.rejoin();
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
    return name === "camera" ? this.camera : name === "slides" ? this.slides : null;
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
  }
}

/**
 * @param {WhepReceiver} receiver
 * @returns {Line}
 */
function line({ state, live, flowing, seen, problem }) {
  return { state, live, flowing, seen, troubled: problem !== null && state !== "waiting" };
}
