// @ts-check
/** The table of lessons and their output streams, with the cap of each to change in place. */

import { h, must, patchList, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").StreamInfo} StreamInfo */
/** @typedef {import("/static/ops/feed.js").OpsLesson} OpsLesson */
/** @typedef {import("/static/ops/feed.js").Receiver} Receiver */
/**
 * @typedef {object} Row
 * @property {OpsLesson} lesson
 * @property {string} name
 * @property {StreamInfo} info
 * @property {boolean} first
 * @property {number | null} plan
 */

// A server has fewer; what a page draws must be bounded all the same.
const MOST_ROWS = 200;

/** @type {Record<string, string>} */
const STREAM_NAMES = { camera: "stream.camera", slides: "stream.slides", stage: "stream.stage" };
/** @type {Record<Lesson["state"], string>} */
const LESSON_STATES = {
  waiting: "lesson.waiting",
  live: "lesson.live",
  ended: "lesson.ended",
};

export class StreamsTable {
  #body = must("#streams", HTMLElement);

  /**
   * @param {object} actions
   * @param {(lesson: string, stream: string, cap: number) => Promise<void>} actions.setCap
   * @param {(lesson: Lesson) => void} actions.showSeats
   * @param {(lesson: Lesson) => void} actions.end
   */
  constructor(actions) {
    this.actions = actions;
  }

  /**
   * @param {OpsLesson[]} lessons
   * @param {Map<string, number>} plan the planned cap by `MODE/STREAM`
   */
  draw(lessons, plan) {
    /** @type {Row[]} */
    const rows = lessons
      .flatMap((lesson) =>
        Object.entries(lesson.streams).map(([name, info], index) => ({
          lesson,
          name,
          info,
          first: index === 0,
          plan: plan.get(`${lesson.mode}/${name}`) ?? null,
        })),
      )
      .slice(0, MOST_ROWS);
    must("#no-lessons", HTMLElement).hidden = rows.length > 0;
    must("#lessons-table", HTMLElement).hidden = rows.length === 0;
    patchList(
      this.#body,
      rows,
      (row) => `${row.lesson.id}/${row.name}`,
      (row) => this.#create(row),
      (element, row) => this.#update(element, row),
    );
  }

  /** @param {Row} row */
  #create({ lesson, name, info, first }) {
    const input = h("input", {
      type: "number",
      min: 0,
      max: 10000,
      step: 1,
      required: true,
      value: info.cap,
      "data-testid": "cap-input",
    });
    // What is being typed is not overwritten by the next poll.
    input.addEventListener("input", () => {
      input.dataset.dirty = "";
    });
    const form = h(
      "form",
      { class: "cap" },
      input,
      h("button", { class: "button slim", "data-testid": "cap-save" }),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await this.actions.setCap(lesson.id, name, Number(input.value));
      delete input.dataset.dirty;
    });
    return h(
      "tr",
      {
        "data-testid": "stream-row",
        "data-lesson": lesson.id,
        "data-stream": name,
        class: first ? "first" : null,
      },
      h("td", { class: "lesson" }),
      h("td", { class: "mono code" }),
      h("td", { class: "stream" }),
      h("td", {}, h("span", { class: "pill live" })),
      h("td", { class: "number seats" }),
      h("td", { class: "number plan" }),
      h("td", { class: "number waiting" }),
      h("td", { class: "number loss" }),
      h("td", { class: "number freezes" }),
      h("td", { class: "layers" }),
      h("td", {}, form),
      h(
        "td",
        { class: "row-actions" },
        first
          ? h("button", {
              type: "button",
              class: "button slim show-seats",
              onclick: () => this.actions.showSeats(lesson),
            })
          : null,
        first
          ? h("button", {
              type: "button",
              class: "button slim danger end",
              onclick: () => this.actions.end(lesson),
            })
          : null,
      ),
    );
  }

  /**
   * @param {HTMLElement} element
   * @param {Row} row
   */
  #update(element, { lesson, name, info, first, plan }) {
    const cell = (/** @type {string} */ selector) => must(selector, HTMLElement, element);
    const streamName = t(STREAM_NAMES[name] ?? name);
    const state = t(LESSON_STATES[lesson.state]);
    setText(cell(".lesson"), first ? `${lesson.title} · ${state}` : "");
    setText(cell(".code"), first ? lesson.join_code : "");
    setText(cell(".stream"), streamName);
    const live = cell(".live");
    live.dataset.level = info.live ? "good" : "none";
    setText(live, t(info.live ? "ops.live" : "ops.not-live"));
    setText(cell(".seats"), `${info.receivers} / ${info.cap}`);
    cell(".seats").dataset.bad = String(plan !== null && info.cap > plan);
    setText(cell(".plan"), plan === null ? "–" : String(plan));
    setText(cell(".waiting"), String(info.waiting));
    const figures = figuresOf(lesson.receivers, name);
    setText(cell(".loss"), figures.loss === null ? "–" : `${figures.loss.toFixed(1)} %`);
    setText(cell(".freezes"), String(figures.freezes));
    setText(cell(".layers"), figures.layers);
    const input = must("input", HTMLInputElement, element);
    if (input.dataset.dirty === undefined && document.activeElement !== input) {
      input.value = String(info.cap);
    }
    input.setAttribute("aria-label", t("ops.cap.of", { lesson: lesson.title, stream: streamName }));
    setText(cell("form button"), t("ops.cap.save"));
    if (first) {
      setText(cell(".show-seats"), t("ops.seats.show"));
      setText(cell(".end"), t("ops.end"));
      must(".end", HTMLButtonElement, element).disabled = lesson.state === "ended";
    }
  }
}

/**
 * How the receivers of one stream fare: mean loss, freezes in the last minute, and how many get
 * which layer (the largest first).
 *
 * @param {Receiver[]} receivers
 * @param {string} name
 */
function figuresOf(receivers, name) {
  let losses = 0;
  let measured = 0;
  let freezes = 0;
  /** @type {Map<number, number>} */
  const layers = new Map();
  for (const [, , , stream, , loss, , layer, frozen] of receivers) {
    if (stream !== name) {
      continue;
    }
    freezes += frozen;
    if (loss !== null) {
      losses += loss;
      measured += 1;
    }
    if (layer !== null) {
      layers.set(layer, (layers.get(layer) ?? 0) + 1);
    }
  }
  const words = [...layers]
    .sort((a, b) => b[0] - a[0])
    .map(([layer, count]) => `L${layer}×${count}`);
  return { loss: measured ? losses / measured : null, freezes, layers: words.join(" ") || "–" };
}
