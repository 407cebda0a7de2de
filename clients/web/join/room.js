// @ts-check
/** Draws the lesson in a classroom: slides large with the teacher beside them, and one line of state. */

import { must, setIcon, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { t } from "/static/shared/i18n.js";
import { ReturnPanel } from "/static/join/return-panel.js";
import { shows, STATE_WORDS } from "/static/join/state.js";

/** @typedef {import("/static/join/classroom.js").Classroom} Classroom */

/** In full screen the bar hides after this long without a movement. */
const IDLE_MS = 3_000;
/** States that show the picture, or its last frame, rather than the curtain. */
const OPEN = new Set(["live"]);

/** @type {Record<string, string>} */
const RELEASED = {
  teacher: "join.released.teacher",
  ops: "join.released.ops",
  replaced: "join.released.replaced",
};

export class Room {
  /** @type {Classroom | null} */
  #classroom = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idle;

  #room = must("#room", HTMLElement);
  #camera = must("#camera", HTMLVideoElement);
  #slides = must("#slides", HTMLVideoElement);
  #voices = must("#voices", HTMLAudioElement);
  #return = new ReturnPanel();
  #sound = must("#sound", HTMLButtonElement);

  /** @param {{onLeave: () => void, onAgain: () => void}} actions */
  constructor({ onLeave, onAgain }) {
    must("#leave", HTMLElement).addEventListener("click", onLeave);
    must("#again", HTMLElement).addEventListener("click", onAgain);
    must("#hand", HTMLElement).addEventListener("click", () => this.#classroom?.toggleHand());
    must("#fullscreen", HTMLElement).addEventListener("click", () => this.#toggleFullscreen());
    this.#sound.addEventListener("click", () => this.#unmute());
    document.addEventListener("fullscreenchange", () => {
      this.#stir();
      this.draw(this.#classroom);
    });
    for (const type of ["pointermove", "keydown", "focusin"]) {
      document.addEventListener(type, () => this.#stir());
    }
  }

  /** Show the bar again, and hide it later where the picture fills the screen. */
  #stir() {
    clearTimeout(this.#idle);
    delete this.#room.dataset.idle;
    if (document.fullscreenElement) {
      this.#idle = setTimeout(() => {
        this.#room.dataset.idle = "";
      }, IDLE_MS);
    }
  }

  async #toggleFullscreen() {
    try {
      if (document.fullscreenElement) {
        await document.exitFullscreen();
      } else {
        await document.documentElement.requestFullscreen();
      }
    } catch {
      // Kiosk browsers forbid it, and fill the screen already.
    }
  }

  /**
   * Show a new session's media.
   *
   * @param {"camera" | "slides" | "class"} stream
   * @param {MediaStream} media
   */
  async play(stream, media) {
    const others = stream === "slides" ? this.#slides : this.#voices;
    const video = stream === "camera" ? this.#camera : others;
    if (video.srcObject === media) {
      return;
    }
    video.srcObject = media;
    try {
      await video.play();
    } catch (error) {
      if (error instanceof DOMException && error.name === "NotAllowedError") {
        // No gesture yet, as after a reload: a silent picture is allowed, and a button brings sound.
        video.muted = true;
        this.#sound.hidden = false;
        video.play().catch(() => undefined);
      }
    }
  }

  #unmute() {
    this.#sound.hidden = true;
    for (const video of [this.#camera, this.#slides, this.#voices]) {
      video.muted = false;
      video.play().catch(() => undefined);
    }
    this.#chooseSound();
  }

  /** The mixed sound holds the teacher's too: never both, and neither before a needed gesture. */
  #chooseSound() {
    if (this.#sound.hidden) {
      const mixed = this.#classroom?.mixedSound ?? false;
      this.#camera.muted = mixed;
      this.#voices.muted = !mixed;
    }
  }

  clear() {
    this.#camera.srcObject = null;
    this.#slides.srcObject = null;
    this.#voices.srcObject = null;
    this.#sound.hidden = true;
    this.#camera.muted = false;
    this.#slides.muted = false;
  }

  /** @param {Classroom | null} classroom */
  draw(classroom) {
    this.#classroom = classroom;
    this.#room.hidden = classroom === null;
    this.#return.draw(classroom);
    if (!classroom) {
      return;
    }
    const { state } = classroom;
    const words = STATE_WORDS[state];
    const pill = must("#state", HTMLElement);
    pill.dataset.state = state;
    pill.dataset.level = words.level;
    const position = classroom.camera.position ?? 1;
    setText(pill, t(words.what, { position }));
    setText(must("#room-title", HTMLElement), classroom.lesson.title);
    const recording = must("#recording", HTMLElement);
    recording.hidden = !classroom.lesson.recording;
    setText(recording, classroom.lesson.recording ? t("lesson.recording") : "");
    setText(must("#room-seat", HTMLElement), classroom.name);

    const slides = classroom.slides;
    const withSlides = slides !== null && slides.live && shows(slides);
    this.#room.dataset.layout = withSlides ? "slides" : "camera";
    this.#slides.hidden = !withSlides;
    const inLine = slides?.live && slides.state === "waiting" && state === "live";
    setText(
      must("#slides-note", HTMLElement),
      inLine ? t("join.slides.waiting", { position: slides.position ?? 1 }) : "",
    );
    this.#chooseSound();
    this.#drawCurtain(classroom);
    this.#drawButtons(classroom);
  }

  /** @param {Classroom} classroom */
  #drawCurtain(classroom) {
    const { state } = classroom;
    const words = STATE_WORDS[state];
    const curtain = must("#curtain", HTMLElement);
    curtain.hidden = OPEN.has(state);
    curtain.dataset.state = state;
    setIcon(curtain, words.icon);
    must(".curtain-icon", SVGElement, curtain).classList.toggle("spin", state === "reconnecting");
    const position = classroom.camera.position ?? 1;
    const place = must("#position", HTMLElement);
    place.hidden = state !== "full";
    setText(place, state === "full" ? String(position) : "");
    let what = t(words.what, { position });
    let todo = t(words.todo);
    if (state === "released") {
      todo = t(RELEASED[classroom.released ?? ""] ?? words.todo);
    } else if (state === "failed" && classroom.camera.problem) {
      ({ what, todo } = explain(classroom.camera.problem));
    }
    setText(must("#curtain-what", HTMLElement), what);
    setText(must("#curtain-todo", HTMLElement), todo);
    must("#again", HTMLElement).hidden = state !== "released" && state !== "failed";
    must("#home", HTMLElement).hidden = state !== "ended";
  }

  /** @param {Classroom} classroom */
  #drawButtons(classroom) {
    const over = classroom.ended || classroom.released !== null;
    const hand = must("#hand", HTMLButtonElement);
    hand.disabled = over || !classroom.connected;
    hand.setAttribute("aria-pressed", String(classroom.hand));
    setText(must("#hand-text", HTMLElement), t(classroom.hand ? "join.hand.up" : "join.hand"));
    const place = over ? null : classroom.place;
    const queue = must("#queue-place", HTMLElement);
    queue.hidden = place === null;
    setText(queue, place === null ? "" : t("join.hand.place", { place }));
    const full = document.fullscreenElement !== null;
    setText(
      must("#fullscreen-text", HTMLElement),
      t(full ? "join.fullscreen.leave" : "join.fullscreen"),
    );
  }
}
