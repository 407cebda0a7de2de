// @ts-check
/** `<tk-language-switch>`: 中文 / English, each in its own words, remembered. */

import { h } from "/static/shared/dom.js";
import { language, onLanguage, setLanguage, t } from "/static/shared/i18n.js";

/** @type {{code: import("/static/shared/i18n.js").Language, name: string}[]} */
const LANGUAGES = [
  { code: "zh-CN", name: "中文" },
  { code: "en", name: "English" },
];

class LanguageSwitch extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "group");
    this.replaceChildren(
      ...LANGUAGES.map(({ code, name }) =>
        h("button", { type: "button", lang: code, onclick: () => setLanguage(code) }, name),
      ),
    );
    onLanguage(() => this.#mark());
    this.#mark();
  }

  #mark() {
    this.setAttribute("aria-label", t("app.language"));
    for (const button of this.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.lang === language()));
    }
  }
}

customElements.define("tk-language-switch", LanguageSwitch);
