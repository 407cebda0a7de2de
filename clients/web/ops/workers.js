// @ts-check
/** What the media workers do: counters of `/stats` turned into rates between two looks. */

import { h, must, patchList, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";

/**
 * @typedef {object} WorkerStats the members of `/api/v1/stats` that the page shows
 * @property {number} worker
 * @property {number | null} [cpu_seconds]
 * @property {number | null} [rss_bytes]
 * @property {boolean} [ready]
 * @property {number} [restarts]
 * @property {number} [sessions] that it carries now
 * @property {Record<string, number> | null} [counters]
 */

/** @typedef {{cpuS: number, packets: number, bytes: number, atS: number}} Sample */

export class WorkersTable {
  /** @type {Map<string, Sample>} */
  #last = new Map();

  /**
   * @param {WorkerStats[]} workers
   * @param {number} nowS
   */
  draw(workers, nowS) {
    patchList(
      must("#workers", HTMLElement),
      workers,
      (worker) => String(worker.worker),
      () =>
        h(
          "tr",
          { "data-testid": "worker-row" },
          h("th", { scope: "row", class: "worker" }),
          h("td", { class: "number cpu" }),
          h("td", { class: "number sessions" }),
          h("td", { class: "number packets" }),
          h("td", { class: "number rate" }),
          h("td", { class: "number memory" }),
        ),
      (element, worker) => this.#update(element, worker, nowS),
    );
  }

  /**
   * @param {HTMLElement} element
   * @param {WorkerStats} worker
   * @param {number} nowS
   */
  #update(element, worker, nowS) {
    const id = String(worker.worker);
    const counters = worker.counters ?? {};
    /** @type {Sample} */
    const sample = {
      cpuS: worker.cpu_seconds ?? 0,
      packets: counters.rtp_packets_forwarded ?? 0,
      bytes: counters.rtp_bytes_forwarded ?? 0,
      atS: nowS,
    };
    const before = this.#last.get(id);
    const elapsedS = before ? nowS - before.atS : 0;
    if (before && elapsedS < 0.5) {
      return;
    }
    this.#last.set(id, sample);
    const rate = (/** @type {"cpuS" | "packets" | "bytes"} */ name) =>
      before ? Math.max(0, sample[name] - before[name]) / elapsedS : null;
    const cell = (/** @type {string} */ selector) => must(selector, HTMLElement, element);
    const cpu = rate("cpuS");
    const packets = rate("packets");
    const bytes = rate("bytes");
    const words = worker.ready === false ? "ops.worker.down" : "ops.worker.up";
    setText(cell(".worker"), t(words, { id, restarts: worker.restarts ?? 0 }));
    setText(cell(".cpu"), cpu === null ? "…" : `${(cpu * 100).toFixed(0)} %`);
    setText(cell(".sessions"), String(worker.sessions ?? 0));
    setText(cell(".packets"), packets === null ? "…" : packets.toFixed(0));
    setText(cell(".rate"), bytes === null ? "…" : ((bytes * 8) / 1e6).toFixed(2));
    setText(cell(".memory"), ((worker.rss_bytes ?? 0) / 1048576).toFixed(0));
  }
}
