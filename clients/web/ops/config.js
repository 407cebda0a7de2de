// @ts-check
/** The editor of the server's configuration: saves as a whole, and says which key is wrong. */

import { Notice } from "/static/shared/components/notice.js";
import { Problem } from "/static/shared/api.js";
import { h, must } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { t } from "/static/shared/i18n.js";

export class ConfigEditor {
  #text = must("#config", HTMLTextAreaElement);
  #notice = must("#config-notice", Notice);
  #errors = must("#config-errors", HTMLElement);
  #save = must("#config-save", HTMLButtonElement);

  /** @param {import("/static/shared/api.js").Api} api */
  constructor(api) {
    this.api = api;
    this.#save.addEventListener("click", () => this.#saveText());
    must("#config-reload", HTMLElement).addEventListener("click", () => this.load());
  }

  async load() {
    try {
      this.#text.value = await this.api.configText();
      this.#say(null);
    } catch (error) {
      this.#say(error);
    }
  }

  async #saveText() {
    this.#save.disabled = true;
    try {
      await this.api.saveConfig(this.#text.value);
      this.#say(null);
      this.#notice.show(
        { kind: "saved", what: t("ops.config.saved"), todo: t("ops.config.saved.todo") },
        { tone: "info" },
      );
    } catch (error) {
      this.#say(error);
    }
    this.#save.disabled = false;
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
