// @ts-check
/** Asks a yes-or-no question in a dialog; the safe answer has the focus. */

import { h } from "/static/shared/dom.js";

/**
 * @param {{title: string, text: string, yes: string, no: string}} question
 * @returns {Promise<boolean>}
 */
export function confirmDialog({ title, text, yes, no }) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text" },
    h("h2", { id: "confirm-title" }, title),
    h("p", { id: "confirm-text" }, text),
    h(
      "form",
      { method: "dialog", class: "actions" },
      h("button", { class: "button", value: "no", autofocus: true }, no),
      h("button", { class: "button danger primary", value: "yes", "data-testid": "confirm-yes" }, yes),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
  });
}
