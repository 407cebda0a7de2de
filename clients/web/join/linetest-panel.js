// @ts-check
/** `<tk-linetest>`: a button on the join form that tests the line before class, and says in words. */

import { h, icon, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { onLanguage, t } from "/static/shared/i18n.js";
import { testLine } from "/static/shared/linetest.js";

/** @typedef {import("/static/shared/linetest.js").Step} Step */
/** @typedef {import("/static/shared/linetest.js").LineResult} LineResult */
/** @typedef {import("/static/shared/linetest.js").Verdict} Verdict */

/** Of each verdict: how good it is, and its words. */
const VERDICTS = /** @type {const} */ ({
  full: { level: "good", key: "linetest.verdict.full" },
  smaller: { level: "fair", key: "linetest.verdict.smaller" },
  "too-slow": { level: "poor", key: "linetest.verdict.too-slow" },
});
/** The words of each step, in their order. */
const STEPS = /** @type {const} */ ({
  ping: "linetest.step.ping",
  down: "linetest.step.down",
  up: "linetest.step.up",
  devices: "linetest.step.devices",
});
const DECODING = /** @type {const} */ ({
  smooth: "linetest.decode.smooth",
  slow: "linetest.decode.slow",
  none: "linetest.decode.none",
  unknown: "linetest.decode.unknown",
});

export class LineTestPanel extends HTMLElement {
  /** @type {() => Promise<{lesson: string, token: string} | null>} */
  #sitDown = async () => null;
  /** @type {Step | null} */
  #step = null;
  /** @type {{result: LineResult, verdict: Verdict} | null} */
  #done = null;
  /** @type {unknown} */
  #error = null;
  #text = h("span", {});
  #button = h(
    "button",
    { type: "button", class: "button", "data-testid": "linetest-start", onclick: () => this.#run() },
    icon("reconnecting"),
    this.#text,
  );
  #said = h("div", { class: "linetest-said", role: "status", "data-testid": "linetest-result" });

  /**
   * Appear; the strings must have been loaded.
   *
   * @param {() => Promise<{lesson: string, token: string} | null>} sitDown gets a seat, or says why not
   */
  start(sitDown) {
    this.#sitDown = sitDown;
    this.replaceChildren(this.#button, this.#said);
    onLanguage(() => this.#draw());
    this.#draw();
  }

  get running() {
    return this.#step !== null;
  }

  async #run() {
    if (this.running) {
      return;
    }
    this.#step = "ping";
    this.#done = null;
    this.#error = null;
    this.#draw();
    try {
      const seat = await this.#sitDown();
      if (seat) {
        this.#done = await testLine(seat.lesson, seat.token, (step) => {
          this.#step = step;
          this.#draw();
        });
      }
    } catch (error) {
      this.#error = error;
    }
    this.#step = null;
    this.#draw();
  }

  #draw() {
    /** @type {HTMLButtonElement} */ (this.#button).disabled = this.running;
    setText(this.#text, t(this.running ? "linetest.running" : "linetest.start"));
    this.#said.dataset.state = this.running ? "running" : this.#done ? "done" : "idle";
    if (this.#step) {
      const names = Object.keys(STEPS);
      const part = { step: names.indexOf(this.#step) + 1, steps: names.length };
      this.#said.replaceChildren(h("p", { class: "soft small" }, t(STEPS[this.#step], part)));
    } else if (this.#error) {
      const { what, todo } = explain(this.#error);
      this.#said.replaceChildren(h("p", {}, `${what} ${todo}`));
    } else if (this.#done) {
      this.#said.replaceChildren(...describe(this.#done.result, this.#done.verdict));
    } else {
      this.#said.replaceChildren(h("p", { class: "soft small" }, t("linetest.hint")));
    }
  }
}

/**
 * @param {LineResult} result
 * @param {Verdict} verdict
 */
function describe(result, verdict) {
  const { level, key } = VERDICTS[verdict.verdict];
  const mbps = (/** @type {number} */ kbps) => (kbps / 1000).toFixed(kbps < 9950 ? 1 : 0);
  const remarks = [t(DECODING[result.decode])];
  if (result.camera === false) {
    remarks.push(t("linetest.no-camera"));
  }
  if (result.microphone === false) {
    remarks.push(t("linetest.no-microphone"));
  }
  return [
    h(
      "p",
      { class: "pill", "data-level": level, "data-verdict": verdict.verdict },
      icon(level),
      h("span", {}, t(key)),
    ),
    h(
      "p",
      {},
      t("linetest.figures", {
        down: mbps(result.down_kbps),
        up: mbps(result.up_kbps),
        need: mbps(verdict.full_kbps),
        rtt: result.rtt_ms === null ? "–" : Math.round(result.rtt_ms),
        loss: result.loss === null ? "–" : Math.round(result.loss * 100),
      }),
    ),
    h("p", { class: "soft small" }, remarks.join(" ")),
  ];
}

customElements.define("tk-linetest", LineTestPanel);
