// @ts-check
/** Says everything in the reader's language: loads `locales/*.json` and fills `data-i18n` marks. */

import { lasting } from "/static/shared/storage.js";

/** @typedef {"zh-CN" | "en"} Language */

/** @type {Record<string, string>} */
let strings = {};
/** @type {Language} */
let current = preferred();
/** @type {Set<() => void>} */
const listeners = new Set();

/** @returns {Language} */
function preferred() {
  const chosen = lasting.get("language");
  if (chosen === "zh-CN" || chosen === "en") {
    return chosen;
  }
  const wanted = navigator.languages?.length ? navigator.languages : [navigator.language];
  for (const language of wanted) {
    if (/^zh\b/i.test(language)) {
      return "zh-CN";
    }
    if (/^en\b/i.test(language)) {
      return "en";
    }
  }
  return "zh-CN";
}

export function language() {
  return current;
}

/** Load the strings and fill the page; every page awaits this before anything else. */
export async function startI18n() {
  await load(current);
  document.documentElement.dataset.ready = "";
}

/** @param {Language} wanted */
export async function setLanguage(wanted) {
  lasting.set("language", wanted);
  await load(wanted);
  for (const listener of listeners) {
    listener();
  }
}

/** @param {() => void} listener called after every change of language */
export function onLanguage(listener) {
  listeners.add(listener);
}

/** @param {Language} wanted */
async function load(wanted) {
  const response = await fetch(`/static/locales/${wanted}.json`);
  strings = await response.json();
  current = wanted;
  document.documentElement.lang = wanted;
  translate(document);
}

/**
 * The text of a key, with `{name}` replaced by `values.name`.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = strings[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (mark, name) => String(values[name] ?? mark));
}

/**
 * Fill `data-i18n="key"` (text) and `data-i18n-attr="placeholder:key; title:key"` (attributes).
 *
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.getAttribute("data-i18n") ?? "");
  }
  for (const element of root.querySelectorAll("[data-i18n-attr]")) {
    for (const pair of (element.getAttribute("data-i18n-attr") ?? "").split(";")) {
      const [name, key] = pair.split(":").map((part) => part.trim());
      if (name && key) {
        element.setAttribute(name, t(key));
      }
    }
  }
}
