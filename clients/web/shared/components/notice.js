// @ts-check
/** `<tk-notice>`: says what happened and what to do, with the buttons to do it; spoken at once. */

import { h, icon } from "/static/shared/dom.js";

/** @typedef {{label: string, act: () => void}} Action */
/** @typedef {{kind: string, what: string, todo: string}} Message */

export class Notice extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "alert");
  }

  /**
   * @param {Message | null} message
   * @param {{tone?: "error" | "info", actions?: Action[]}} [options]
   */
  show(message, { tone = "error", actions = [] } = {}) {
    const said = JSON.stringify([message, tone, actions.map((action) => action.label)]);
    if (said === this.dataset.said) {
      return;
    }
    this.dataset.said = said;
    this.dataset.kind = message?.kind ?? "";
    if (!message) {
      this.replaceChildren();
      return;
    }
    const buttons = actions.map(({ label, act }) =>
      h("button", { type: "button", class: "button slim", onclick: act }, label),
    );
    this.replaceChildren(
      h(
        "div",
        { class: "notice", "data-tone": tone },
        icon(tone === "error" ? "fair" : "good"),
        h(
          "div",
          {},
          h("p", { class: "what" }, message.what),
          h("p", { class: "todo" }, message.todo),
          buttons.length > 0 ? h("div", { class: "actions" }, ...buttons) : null,
        ),
      ),
    );
  }
}

customElements.define("tk-notice", Notice);
