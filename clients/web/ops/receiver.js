// @ts-check
/** One receiver closely: the last hour of each of its sessions as plots. */

import { h, must, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";
import { plot } from "/static/ops/plot.js";

const EVERY_MS = 5_000;

/** @type {[string, string, string][]} field, words, unit */
const PLOTS = [
  ["loss_percent", "ops.plot.loss", "%"],
  ["rtt_ms", "ops.plot.rtt", "ms"],
  ["jitter_ms", "ops.plot.jitter", "ms"],
  ["layer", "ops.plot.layer", ""],
  ["freezes", "ops.plot.freezes", "/min"],
  ["fps", "ops.plot.fps", "/s"],
  ["remb_kbps", "ops.plot.remb", "kbit/s"],
  ["kbps", "ops.plot.kbps", "kbit/s"],
];

export class ReceiverCard {
  #card = must("#receiver-card", HTMLElement);
  #plots = must("#receiver-plots", HTMLElement);
  /** @type {import("/static/ops/feed.js").Receiver[]} */
  #shown = [];
  #nextMs = 0;
  #busy = false;

  /**
   * @param {import("/static/ops/feed.js").Feed} feed
   * @param {(receivers: import("/static/ops/feed.js").Receiver[]) => void} rejoin
   */
  constructor(feed, rejoin) {
    this.feed = feed;
    must("#receiver-close", HTMLElement).addEventListener("click", () => this.show([]));
    must("#receiver-rejoin", HTMLElement).addEventListener("click", () => rejoin(this.#shown));
  }

  /** The seat that is shown, null for none. */
  get seat() {
    return this.#shown[0]?.[1] ?? null;
  }

  /** @param {import("/static/ops/feed.js").Receiver[]} receivers the sessions of one seat */
  show(receivers) {
    const ids = (/** @type {import("/static/ops/feed.js").Receiver[]} */ rows) =>
      rows.map((row) => row[0]).join();
    if (ids(receivers) !== ids(this.#shown)) {
      this.#nextMs = 0;
    }
    this.#shown = receivers;
    this.#card.hidden = receivers.length === 0;
    if (receivers[0]) {
      setText(must("#receiver-title", HTMLElement), t("ops.receiver", { name: receivers[0][2] }));
    } else {
      this.#plots.replaceChildren();
    }
  }

  /** Fetch and draw again when it is time. */
  async look() {
    const nowMs = performance.now();
    if (this.#busy || this.#shown.length === 0 || nowMs < this.#nextMs) {
      return;
    }
    this.#busy = true;
    this.#nextMs = nowMs + EVERY_MS;
    const receivers = this.#shown;
    try {
      const found = await Promise.all(receivers.map((row) => this.feed.series(row[0])));
      if (receivers.map((row) => row[0]).join() === this.#shown.map((row) => row[0]).join()) {
        this.#plots.replaceChildren(
          ...found.map((series, index) => streamPlots(receivers[index]?.[3] ?? "", series)),
        );
      }
    } catch {
      // A receiver of a moment ago has no series yet: the next look finds it.
    }
    this.#busy = false;
  }
}

/**
 * @param {string} stream
 * @param {import("/static/ops/feed.js").Series} series
 */
function streamPlots(stream, series) {
  const words = t(`stream.${stream}`);
  return h(
    "section",
    {},
    h("h3", {}, words === `stream.${stream}` ? stream : words),
    h(
      "div",
      { class: "plots" },
      ...PLOTS.map(([field, key, unit]) => plot(t(key), series.fields[field] ?? [], unit)),
    ),
  );
}
