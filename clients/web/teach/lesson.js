// @ts-check
/** The teacher's running lesson, without any drawing: publishes, listens to events, ends. */

import { LessonEvents } from "/static/shared/events.js";
import { openScreen, stopMedia } from "/static/shared/media.js";
import { WhipPublisher } from "/static/shared/whip.js";
import { TeacherFloor } from "/static/teach/floor.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Seat} Seat */
/** @typedef {import("/static/shared/events.js").LessonEvent} LessonEvent */

/** What a 720p picture of a person at a blackboard needs, and a rural line can carry. */
const CAMERA = { maxKbps: 1_800, maxFps: 30 };
/** Slides change seldom, and letters must stay sharp. */
const SLIDES = { maxKbps: 1_500, maxFps: 15 };

export class TeacherLesson {
  /** @type {Seat[]} */
  seats = [];
  connected = true;
  ended = false;
  /** Another tab of this browser took the lesson over. */
  moved = false;
  /** @type {WhipPublisher | null} */
  slides = null;
  micOn = true;
  cameraOn = true;
  /** Server clock minus ours, in seconds. */
  clockOffsetS = 0;

  /** @type {LessonEvents} */
  #events;
  /** Whether the server has greeted us before: then we come back after a time without it. */
  #welcomed = false;
  #tabs = new BroadcastChannel("tongke-teach");

  /**
   * @param {object} options
   * @param {import("/static/shared/api.js").Api} options.api
   * @param {Lesson} options.lesson
   * @param {MediaStream} options.media
   * @param {RTCIceServer[]} options.iceServers
   * @param {() => void} options.onChange
   * @param {(source: import("/static/teach/floor.js").Source, media: MediaStream | null) => void} options.onMedia
   */
  constructor({ api, lesson, media, iceServers, onChange, onMedia }) {
    this.api = api;
    this.lesson = lesson;
    this.media = media;
    this.iceServers = iceServers;
    this.onChange = onChange;
    this.camera = this.#publisher("camera", media, CAMERA, "maintain-framerate");
    this.floor = new TeacherFloor({
      lesson: lesson.id,
      token: api.token ?? "",
      iceServers,
      send: (message) => this.#events.send(message),
      onChange,
      onMedia,
    });
    this.#events = new LessonEvents(
      lesson.id,
      api.token ?? "",
      (event) => this.#heard(event),
      (connected) => {
        this.connected = connected;
        onChange();
      },
    );
    // Two tabs publishing the same lesson would replace each other for ever: the newer one wins.
    this.#tabs.addEventListener("message", ({ data }) => {
      if (data === this.lesson.id) {
        this.moved = true;
        this.stop({ tellServer: false });
      }
    });
    this.#tabs.postMessage(lesson.id);
    this.camera.start();
  }

  /**
   * @param {string} stream
   * @param {MediaStream} media
   * @param {{maxKbps: number, maxFps: number}} limits
   * @param {RTCDegradationPreference} degradation
   */
  #publisher(stream, media, limits, degradation) {
    const { iceServers, onChange } = this;
    const token = this.api.token ?? "";
    const lesson = this.lesson.id;
    return new WhipPublisher({
      lesson,
      stream,
      token,
      media,
      iceServers,
      onChange,
      degradation,
      ...limits,
    });
  }

  /** @param {LessonEvent} event */
  #heard(event) {
    switch (event.type) {
      case "welcome":
        this.lesson = event.lesson;
        this.clockOffsetS = event.now - Date.now() / 1000;
        if (this.#welcomed) {
          this.#republish();
          this.floor.renew();
        }
        this.#welcomed = true;
        break;
      case "lesson":
        this.lesson = event.lesson;
        break;
      case "seats":
        this.seats = event.seats;
        break;
      case "rejoin":
        for (const publisher of [this.camera, this.slides]) {
          if (publisher && event.streams.includes(publisher.stream)) {
            publisher.rejoin();
          }
        }
        break;
      case "ended":
        this.#finish();
        break;
    }
    this.floor.hear(event);
    this.floor.follow(this.lesson);
    if (this.lesson.state === "ended") {
      this.#finish();
    }
    this.onChange();
  }

  /** After a time without the server: what it does not receive any more is published again. */
  #republish() {
    for (const publisher of [this.camera, this.slides]) {
      publisher?.retryNow();
      if (publisher?.state === "connected" && !this.lesson.streams[publisher.stream]?.live) {
        publisher.rejoin();
      }
    }
  }

  /** Hands that are up, the longest first. */
  get hands() {
    return this.seats
      .filter((seat) => seat.hand !== null && seat.hand !== undefined)
      .sort((one, other) => (one.hand ?? 0) - (other.hand ?? 0));
  }

  /** Who is in the room: those who left are no longer of interest. */
  get present() {
    return this.seats.filter((seat) => seat.state !== "left");
  }

  get elapsedS() {
    const since = this.lesson.started_at ?? this.lesson.created_at;
    return Math.max(0, Date.now() / 1000 + this.clockOffsetS - since);
  }

  /** @param {string} seat */
  lowerHand(seat) {
    this.#events.send({ type: "lower-hand", seat });
  }

  toggleMic() {
    this.micOn = !this.micOn;
    this.#applySwitches();
  }

  toggleCamera() {
    this.cameraOn = !this.cameraOn;
    this.#applySwitches();
  }

  /** A switched-off track goes on as silence or black, so that the line stays open. */
  #applySwitches() {
    for (const track of this.media.getTracks()) {
      track.enabled = track.kind === "audio" ? this.micOn : this.cameraOn;
    }
    this.onChange();
  }

  /** @param {MediaStream} media */
  async changeMedia(media) {
    const old = this.media;
    this.media = media;
    this.#applySwitches();
    await this.camera.replaceMedia(media);
    stopMedia(old);
  }

  /** Share a screen; resolves when the teacher has picked one, throws when they did not. */
  async shareSlides() {
    const media = await openScreen();
    if (this.ended || this.moved) {
      stopMedia(media);
      return;
    }
    const slides = this.#publisher("slides", media, SLIDES, "maintain-resolution");
    this.slides = slides;
    // The browser's own "stop sharing" button ends the track.
    media.getVideoTracks()[0]?.addEventListener("ended", () => {
      if (this.slides === slides) {
        this.stopSlides();
      }
    });
    slides.start();
    this.onChange();
  }

  /** @param {{tellServer?: boolean}} [options] false where the server ended it */
  stopSlides(options = {}) {
    stopMedia(this.slides?.media ?? null);
    this.slides?.close(options);
    this.slides = null;
    this.onChange();
  }

  /** End the lesson for everyone. */
  async end() {
    this.lesson = await this.api.endLesson(this.lesson.id);
    this.#finish();
    this.onChange();
  }

  #finish() {
    if (!this.ended) {
      this.ended = true;
      this.stop({ tellServer: false });
    }
  }

  /**
   * Stop sending and listening, and leave the lesson as it is.
   *
   * @param {{tellServer?: boolean}} [options]
   */
  stop(options = {}) {
    this.#events.close();
    this.#tabs.close();
    this.camera.close(options);
    this.floor.close(options);
    this.stopSlides(options);
    this.onChange();
  }
}
