// @ts-check
/** What the media workers do, and a way to give one nothing new before it is replaced. */

import { h, must, patchList, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";

/** @typedef {import("/static/ops/feed.js").WorkerRow} WorkerRow */

export class WorkersTable {
  /** @param {(worker: number, drain: boolean) => void} drain */
  constructor(drain) {
    this.drain = drain;
  }

  /** @param {WorkerRow[]} workers */
  draw(workers) {
    patchList(
      must("#workers", HTMLElement),
      workers,
      (worker) => String(worker.worker),
      (worker) => this.#create(worker),
      update,
    );
  }

  /** @param {WorkerRow} worker */
  #create({ worker }) {
    /** @type {HTMLButtonElement} */
    const button = h("button", {
      type: "button",
      class: "button slim",
      "data-testid": "worker-drain",
      onclick: () => this.drain(worker, button.dataset.drained !== "true"),
    });
    return h(
      "tr",
      { "data-testid": "worker-row" },
      h("th", { scope: "row", class: "worker" }),
      h("td", { class: "number cpu" }),
      h("td", { class: "number sessions" }),
      h("td", { class: "number packets" }),
      h("td", { class: "number rate" }),
      h("td", { class: "number memory" }),
      h("td", { class: "row-actions" }, button),
    );
  }
}

/**
 * @param {HTMLElement} element
 * @param {WorkerRow} worker
 */
function update(element, worker) {
  const cell = (/** @type {string} */ selector) => must(selector, HTMLElement, element);
  const words = worker.ready ? "ops.worker.up" : "ops.worker.down";
  setText(cell(".worker"), t(words, { id: worker.worker, restarts: worker.restarts }));
  setText(cell(".cpu"), worker.cpu_percent === null ? "…" : `${worker.cpu_percent.toFixed(0)} %`);
  setText(cell(".sessions"), String(worker.sessions));
  setText(cell(".packets"), worker.packets_per_s === null ? "…" : worker.packets_per_s.toFixed(0));
  setText(cell(".rate"), worker.kbps === null ? "…" : (worker.kbps / 1000).toFixed(2));
  setText(cell(".memory"), ((worker.rss_bytes ?? 0) / 1048576).toFixed(0));
  const button = cell("button");
  button.dataset.drained = String(worker.drained);
  setText(button, t(worker.drained ? "ops.undrain" : "ops.drain"));
}
