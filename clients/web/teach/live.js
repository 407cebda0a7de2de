// @ts-check
/** Draws the running lesson: the code to join by, who is here, whose hand is up, what is sent. */

import { LevelMeter } from "/static/shared/components/level-meter.js";
import { h, icon, must, patchList, setIcon, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";
import { drawSeat, makeSeat } from "/static/teach/seat.js";
import { WallView } from "/static/teach/wall.js";

/** @typedef {import("/static/teach/lesson.js").TeacherLesson} TeacherLesson */

/** @type {Record<import("/static/shared/persistent.js").State, [string, string]>} */
const AIR = {
  idle: ["teach.air.connecting", "none"],
  connecting: ["teach.air.connecting", "fair"],
  connected: ["teach.air.live", "good"],
  reconnecting: ["teach.air.reconnecting", "fair"],
  waiting: ["teach.air.connecting", "fair"],
  failed: ["teach.air.failed", "poor"],
};

export class LiveView {
  /** @type {TeacherLesson | null} */
  #lesson = null;
  /** @type {MediaStream | null} */
  #shown = null;
  /** @type {Set<string>} */
  #raised = new Set();

  #video = must("#self", HTMLVideoElement);
  #level = must("#self-level", LevelMeter);
  #wall = new WallView();
  #announce = must("#announce", HTMLElement);

  /** @param {(error: unknown) => void} onError */
  constructor(onError) {
    this.onError = onError;
    must("#mute", HTMLElement).addEventListener("click", () => this.#lesson?.toggleMic());
    must("#blind", HTMLElement).addEventListener("click", () => this.#lesson?.toggleCamera());
    must("#share", HTMLElement).addEventListener("click", () => this.#toggleSlides());
    setInterval(() => this.#drawClock(), 1000);
  }

  /**
   * @param {import("/static/teach/floor.js").Source} source
   * @param {MediaStream | null} media
   */
  play(source, media) {
    this.#wall.play(source, media);
  }

  async #toggleSlides() {
    if (this.#lesson?.slides) {
      this.#lesson.stopSlides();
      return;
    }
    try {
      await this.#lesson?.shareSlides();
      this.onError(null);
    } catch (error) {
      // Closing the browser's picker is an answer, not a failure.
      const cancelled = error instanceof DOMException && error.name === "NotAllowedError";
      this.onError(cancelled ? null : error);
    }
  }

  /** @param {TeacherLesson | null} lesson */
  draw(lesson) {
    this.#lesson = lesson;
    const running = lesson !== null && !lesson.ended && !lesson.moved;
    must("#live", HTMLElement).hidden = !running;
    must("#air", HTMLElement).hidden = !running;
    must("#end", HTMLElement).hidden = !running;
    must("#elapsed", HTMLElement).hidden = !running;
    this.#drawRecording(running && lesson.lesson.recording);
    setText(must("#bar-title", HTMLElement), lesson && running ? lesson.lesson.title : "");
    this.#drawSelf(running ? lesson : null);
    this.#wall.draw(running ? lesson : null);
    if (running) {
      this.#drawCode(lesson);
      this.#drawControls(lesson);
      this.#drawSeats(lesson);
      this.#drawHands(lesson);
      this.#drawClock();
    } else {
      this.#raised.clear();
    }
  }

  /** @param {boolean} on */
  #drawRecording(on) {
    const sign = must("#recording", HTMLElement);
    sign.hidden = !on;
    setText(sign, on ? t("lesson.recording") : "");
  }

  /** @param {TeacherLesson | null} lesson */
  #drawSelf(lesson) {
    const media = lesson?.media ?? null;
    if (media !== this.#shown) {
      this.#shown = media;
      this.#video.srcObject = media;
      this.#level.listen(media);
    }
    if (!lesson) {
      return;
    }
    const hasPicture = lesson.media.getVideoTracks().length > 0;
    const note = !hasPicture
      ? t("teach.preview.sound-only")
      : lesson.cameraOn
        ? ""
        : t("teach.camera.is-off");
    setText(must("#self-note", HTMLElement), note);
    const air = must("#air", HTMLElement);
    const [key, level] = AIR[lesson.camera.state];
    air.dataset.level = level;
    air.dataset.state = lesson.camera.state;
    setText(air, t(key));
  }

  /** @param {TeacherLesson} lesson */
  #drawCode({ lesson }) {
    const code = must("#code", HTMLElement);
    if (code.textContent !== lesson.join_code) {
      const half = Math.ceil(lesson.join_code.length / 2);
      code.replaceChildren(
        h("span", {}, lesson.join_code.slice(0, half)),
        h("span", {}, lesson.join_code.slice(half)),
      );
    }
    const { origin } = new URL(lesson.join_url, location.href);
    setText(must("#code-hint", HTMLElement), t("teach.code.hint", { address: `${origin}/join` }));
    const qr = must("#qr", HTMLImageElement);
    if (qr.getAttribute("src") !== lesson.join_qr) {
      qr.src = lesson.join_qr;
      qr.hidden = false;
    }
  }

  /** @param {TeacherLesson} lesson */
  #drawControls(lesson) {
    toggle("#mute", !lesson.micOn, lesson.micOn ? "mic" : "mic-off", [
      "teach.mic.off",
      "teach.mic.on",
    ]);
    toggle("#blind", !lesson.cameraOn, lesson.cameraOn ? "camera" : "camera-off", [
      "teach.camera.off",
      "teach.camera.on",
    ]);
    must("#blind", HTMLButtonElement).disabled = lesson.media.getVideoTracks().length === 0;
    const slides = lesson.slides;
    toggle("#share", slides !== null, slides ? "stop" : "screen", [
      "teach.share.start",
      "teach.share.stop",
    ]);
    const sharing = slides
      ? slides.state === "connected"
        ? t("teach.share.live")
        : slides.state === "failed"
          ? t("teach.share.failed")
          : t("teach.share.connecting")
      : "";
    setText(must("#share-note", HTMLElement), sharing);
    const { state, limited } = lesson.camera;
    const slow = state === "connected" && limited === "bandwidth";
    const busy = state === "connected" && limited === "cpu";
    const words = slow ? t("teach.uplink.slow") : busy ? t("teach.uplink.cpu") : "";
    setText(must("#uplink", HTMLElement), words);
  }

  /** @param {TeacherLesson} lesson */
  #drawSeats(lesson) {
    const present = lesson.present;
    setText(must("#seats-title", HTMLElement), t("teach.seats", { count: present.length }));
    must("#no-seats", HTMLElement).hidden = present.length > 0;
    patchList(
      must("#seats", HTMLElement),
      present,
      (seat) => seat.id,
      makeSeat,
      (item, seat) => drawSeat(item, seat, lesson.floor),
    );
  }

  /** @param {TeacherLesson} lesson */
  #drawHands(lesson) {
    const { hands } = lesson;
    must("#no-hands", HTMLElement).hidden = hands.length > 0;
    patchList(
      must("#hands", HTMLElement),
      hands,
      (seat) => seat.id,
      (seat) =>
        h(
          "li",
          { class: "hand" },
          icon("hand"),
          h("strong", {}),
          h("button", {
            type: "button",
            class: "button slim hand-lower",
            onclick: () => this.#lesson?.lowerHand(seat.id),
          }),
          h("button", {
            type: "button",
            class: "button slim primary hand-grant",
            onclick: () => this.#lesson?.floor.toggleFloor(seat.id),
          }),
        ),
      (item, seat) => {
        setText(must("strong", HTMLElement, item), seat.name);
        const grant = must(".hand-grant", HTMLButtonElement, item);
        grant.hidden = !lesson.floor.offered;
        setText(grant, t("floor.grant"));
        grant.setAttribute("aria-label", t("floor.grant-of", { name: seat.name }));
        const button = must(".hand-lower", HTMLButtonElement, item);
        setText(button, t("teach.hands.lower"));
        button.setAttribute("aria-label", t("teach.hands.lower-of", { name: seat.name }));
      },
    );
    for (const seat of hands) {
      if (!this.#raised.has(seat.id)) {
        setText(this.#announce, t("teach.hands.raised", { name: seat.name }));
      }
    }
    this.#raised = new Set(hands.map((seat) => seat.id));
  }

  #drawClock() {
    if (this.#lesson && !this.#lesson.ended) {
      const seconds = Math.floor(this.#lesson.elapsedS);
      const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
      const shown = parts.map((part) => String(part).padStart(2, "0")).join(":");
      setText(must("#elapsed", HTMLElement), shown);
    }
  }
}

/**
 * @param {string} selector
 * @param {boolean} pressed
 * @param {string} symbol
 * @param {[string, string]} labels when not pressed, when pressed
 */
function toggle(selector, pressed, symbol, labels) {
  const button = must(selector, HTMLButtonElement);
  button.dataset.on = String(pressed);
  setIcon(button, symbol);
  // The words change with the state; aria-pressed would say it a second time.
  setText(must("span", HTMLElement, button), t(labels[pressed ? 1 : 0]));
}
