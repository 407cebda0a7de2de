// @ts-check
/** `<tk-level-meter>`: a bar that follows the teacher's voice, so that a dead microphone shows. */

import { h, icon } from "/static/shared/dom.js";
import { onLanguage, t } from "/static/shared/i18n.js";
import { LoudnessMeter } from "/static/shared/media.js";

const EVERY_MS = 80;

export class LevelMeter extends HTMLElement {
  /** @type {LoudnessMeter | null} */
  #meter = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #fill = h("div", { class: "fill" });
  #track = h("div", {
    class: "track",
    role: "meter",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-valuenow": 0,
  });

  connectedCallback() {
    this.#track.replaceChildren(this.#fill);
    this.replaceChildren(icon("mic"), this.#track);
    onLanguage(() => this.#label());
    this.#label();
  }

  #label() {
    this.#track.setAttribute("aria-label", t("media.level"));
  }

  /** @param {MediaStream | null} media */
  listen(media) {
    this.#meter?.close();
    this.#meter = null;
    clearInterval(this.#timer);
    this.#draw(0);
    if (media && media.getAudioTracks().length > 0) {
      const meter = new LoudnessMeter(media);
      this.#meter = meter;
      this.#timer = setInterval(() => this.#draw(meter.read()), EVERY_MS);
    }
  }

  /** @param {number} level 0 to 1 */
  #draw(level) {
    this.#fill.style.transform = `scaleX(${level.toFixed(3)})`;
    this.#track.setAttribute("aria-valuenow", String(Math.round(level * 100)));
  }
}

customElements.define("tk-level-meter", LevelMeter);
