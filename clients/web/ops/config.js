// @ts-check
/** The editor of the server's configuration: shows what a save would change, and undoes it. */

import { Notice } from "/static/shared/components/notice.js";
import { Problem } from "/static/shared/api.js";
import { h, must } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { language, t } from "/static/shared/i18n.js";

const TYPED_MS = 500;

export class ConfigEditor {
  #text = must("#config", HTMLTextAreaElement);
  #notice = must("#config-notice", Notice);
  #errors = must("#config-errors", HTMLElement);
  #diff = must("#config-diff", HTMLElement);
  #save = must("#config-save", HTMLButtonElement);
  #undo = must("#config-undo", HTMLButtonElement);
  #timer = 0;
  #asked = 0;

  /**
   * @param {import("/static/shared/api.js").Api} api
   * @param {import("/static/ops/feed.js").Feed} feed
   */
  constructor(api, feed) {
    this.api = api;
    this.feed = feed;
    this.#save.addEventListener("click", () => this.#saveText());
    this.#undo.addEventListener("click", () => this.#undoLast());
    must("#config-reload", HTMLElement).addEventListener("click", () => this.load());
    this.#text.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#preview(), TYPED_MS);
    });
  }

  async load() {
    try {
      this.#text.value = await this.api.configText();
      this.#say(null);
      this.#diff.replaceChildren();
      await this.#drawHistory();
    } catch (error) {
      this.#say(error);
    }
  }

  /** What saving would change, while it is typed. */
  async #preview() {
    const asked = ++this.#asked;
    try {
      const { changes } = await this.feed.diff(this.#text.value);
      if (asked === this.#asked) {
        this.#say(null);
        this.#drawChanges(changes);
      }
    } catch (error) {
      if (asked === this.#asked) {
        this.#diff.replaceChildren();
        this.#say(error);
      }
    }
  }

  /** @param {import("/static/ops/feed.js").Change[]} changes */
  #drawChanges(changes) {
    const rows = changes.map((change) =>
      h(
        "li",
        { "data-testid": "config-change" },
        h("code", {}, change.key),
        " ",
        h("del", {}, change.old),
        " → ",
        h("ins", {}, change.new),
        change.live ? null : ` ${t("ops.config.restart")}`,
      ),
    );
    this.#diff.replaceChildren(
      ...(rows.length ? rows : [h("li", { class: "soft" }, t("ops.config.same"))]),
    );
  }

  async #saveText() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    await this.#apply(() => this.api.saveConfig(this.#text.value), "ops.config.saved");
  }

  async #undoLast() {
    const undone = await this.#apply(() => this.feed.undo(), "ops.config.undone");
    if (undone) {
      this.#text.value = await this.api.configText();
    }
  }

  /**
   * @param {() => Promise<unknown>} action
   * @param {string} words
   */
  async #apply(action, words) {
    this.#save.disabled = true;
    this.#undo.disabled = true;
    let done = false;
    try {
      await action();
      this.#say(null);
      this.#diff.replaceChildren();
      this.#notice.show(
        { kind: "saved", what: t(words), todo: t("ops.config.saved.todo") },
        { tone: "info" },
      );
      done = true;
    } catch (error) {
      this.#say(error);
    }
    this.#save.disabled = false;
    await this.#drawHistory();
    return done;
  }

  async #drawHistory() {
    const { history, undo } = await this.feed.history();
    this.#undo.disabled = undo === null;
    must("#config-history", HTMLElement).replaceChildren(
      ...history.map((one) =>
        h(
          "li",
          { "data-testid": "config-snapshot" },
          `#${one.n} · ${new Date(one.at * 1000).toLocaleString(language())} · ${one.role} `,
          one.token ? h("code", {}, one.token) : null,
          one.restores === null ? "" : ` · ${t("ops.config.restores", { n: one.restores })}`,
          h("span", { class: "soft" }, one.changes.length ? ` ${one.changes.join("; ")}` : ""),
        ),
      ),
    );
  }

  /** @param {unknown} error */
  #say(error) {
    this.#notice.show(error === null ? null : explain(error));
    const errors = error instanceof Problem ? (error.document.errors ?? []) : [];
    this.#errors.replaceChildren(
      ...errors.map(({ key, value, allowed }) =>
        h(
          "li",
          { "data-testid": "config-error" },
          h("code", {}, key),
          " ",
          t("ops.config.error", { value: JSON.stringify(value), allowed }),
        ),
      ),
    );
    this.#text.setAttribute("aria-invalid", String(errors.length > 0));
  }
}
