// @ts-check
/** One classroom in the teacher's list: name, reception, hand, and the buttons of the floor. */

import { h, icon, must, setIcon, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";
import { receptionOf } from "/static/shared/quality-words.js";

/** @typedef {import("/static/shared/types.js").Seat} Seat */
/** @typedef {import("/static/teach/floor.js").TeacherFloor} TeacherFloor */

export function makeSeat() {
  return h(
    "li",
    { class: "seat", "data-testid": "seat" },
    icon("pending"),
    h("strong", { class: "seat-name" }),
    h("span", { class: "seat-words" }),
  );
}

/**
 * @param {HTMLElement} item
 * @param {Seat} seat
 * @param {TeacherFloor} floor
 */
export function drawSeat(item, seat, floor) {
  const reception = receptionOf(seat);
  item.dataset.state = seat.state;
  item.dataset.level = reception.level;
  item.dataset.seat = seat.id;
  item.dataset.floor = String(floor.has(seat.id));
  setIcon(item, reception.icon);
  setText(must(".seat-name", HTMLElement, item), seat.name);
  const words = floor.has(seat.id) ? t("floor.on") : t(reception.key);
  setText(must(".seat-words", HTMLElement, item), words);
  drawFlag(item, seat);
  drawButtons(item, seat, floor);
}

/**
 * @param {HTMLElement} item
 * @param {Seat} seat
 */
function drawFlag(item, seat) {
  const flag = item.querySelector(".seat-hand");
  if (seat.hand === null || seat.hand === undefined) {
    flag?.remove();
    return;
  }
  const words = t("teach.hand");
  if (flag) {
    setText(must("span", HTMLElement, flag), words);
    return;
  }
  must(".seat-words", HTMLElement, item).after(
    h(
      "span",
      { class: "seat-hand", "data-testid": "raise-hand-flag" },
      icon("hand"),
      h("span", {}, words),
    ),
  );
}

/**
 * @param {HTMLElement} item
 * @param {Seat} seat
 * @param {TeacherFloor} floor
 */
function drawButtons(item, seat, floor) {
  let buttons = item.querySelector(".seat-buttons");
  if (!floor.offered || seat.role !== "point") {
    buttons?.remove();
    return;
  }
  if (!buttons) {
    buttons = h(
      "span",
      { class: "seat-buttons" },
      h("button", {
        type: "button",
        class: "button slim",
        onclick: () => floor.toggleFloor(seat.id),
      }),
      h(
        "button",
        { type: "button", class: "button slim seat-mute", onclick: () => floor.toggleMute(seat.id) },
        icon("mic"),
      ),
    );
    item.append(buttons);
  }
  const [grant, mute] = /** @type {HTMLButtonElement[]} */ ([...buttons.children]);
  if (!grant || !mute) {
    return;
  }
  const on = floor.has(seat.id);
  grant.dataset.testid = on ? "revoke-floor" : "grant-floor";
  grant.classList.toggle("primary", !on);
  setText(grant, t(on ? "floor.revoke" : "floor.grant"));
  const named = { name: seat.name };
  grant.setAttribute("aria-label", t(on ? "floor.revoke-of" : "floor.grant-of", named));
  const muted = floor.isMuted(seat.id);
  mute.dataset.on = String(muted);
  mute.dataset.testid = "mute-seat";
  setIcon(mute, muted ? "mic-off" : "mic");
  const label = t(muted ? "floor.unmute-of" : "floor.mute-of", named);
  mute.setAttribute("aria-label", label);
  mute.title = label;
}
