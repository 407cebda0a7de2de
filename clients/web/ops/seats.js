// @ts-check
/** The seats of one lesson, with how each receives and a way to release it. */

import { h, must, patchList, setText, icon, setIcon } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";
import { receptionOf } from "/static/shared/quality-words.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Seat} Seat */

// More are hardly looked through; the figures of all are in the row of their lesson.
const MOST_ROWS = 300;

export class SeatsTable {
  #card = must("#seats-card", HTMLElement);

  /**
   * @param {object} actions
   * @param {(seat: Seat) => void} actions.release
   * @param {(seat: Seat) => void} actions.watch show its series
   * @param {() => void} actions.close
   */
  constructor(actions) {
    this.actions = actions;
    must("#seats-close", HTMLElement).addEventListener("click", actions.close);
  }

  /**
   * @param {Lesson | null} lesson
   * @param {Seat[]} seats
   */
  draw(lesson, seats) {
    this.#card.hidden = lesson === null;
    if (!lesson) {
      return;
    }
    const present = seats.filter((seat) => seat.state !== "left").slice(0, MOST_ROWS);
    setText(must("#seats-title", HTMLElement), t("ops.seats.of", { lesson: lesson.title }));
    must("#no-seats", HTMLElement).hidden = present.length > 0;
    must("#seats-table", HTMLElement).hidden = present.length === 0;
    patchList(
      must("#seats", HTMLElement),
      present,
      (seat) => seat.id,
      (seat) => this.#create(seat),
      update,
    );
  }

  /** @param {Seat} seat */
  #create(seat) {
    return h(
      "tr",
      { "data-testid": "ops-seat" },
      h("td", { class: "name" }),
      h("td", {}, h("span", { class: "pill state" }, icon("pending"), h("span", {}))),
      h("td", { class: "streams" }),
      h("td", { class: "number fps" }),
      h("td", { class: "number loss" }),
      h("td", { class: "number rtt" }),
      h("td", { class: "number kbps" }),
      h(
        "td",
        { class: "row-actions" },
        h("button", {
          type: "button",
          class: "button slim watch",
          "data-testid": "seat-watch",
          onclick: () => this.actions.watch(seat),
        }),
        h("button", {
          type: "button",
          class: "button slim danger",
          "data-testid": "seat-release",
          onclick: () => this.actions.release(seat),
        }),
      ),
    );
  }
}

/**
 * @param {HTMLElement} element
 * @param {Seat} seat
 */
function update(element, seat) {
  const cell = (/** @type {string} */ selector) => must(selector, HTMLElement, element);
  const reception = receptionOf(seat);
  const { quality } = seat;
  element.dataset.state = seat.state;
  setText(cell(".name"), seat.name);
  const pill = cell(".state");
  pill.dataset.level = reception.level;
  setIcon(pill, reception.icon);
  setText(must("span", HTMLElement, pill), t(reception.key));
  setText(cell(".streams"), seat.streams.join(", "));
  setText(cell(".fps"), quality ? quality.fps.toFixed(0) : "–");
  setText(cell(".loss"), quality ? `${(quality.loss * 100).toFixed(1)} %` : "–");
  setText(cell(".rtt"), quality?.rtt_ms != null ? `${quality.rtt_ms.toFixed(0)} ms` : "–");
  setText(cell(".kbps"), quality ? quality.kbps.toFixed(0) : "–");
  setText(cell(".watch"), t("ops.watch"));
  const button = cell("button.danger");
  setText(button, t("ops.release"));
  button.setAttribute("aria-label", t("ops.release.of", { name: seat.name }));
}
