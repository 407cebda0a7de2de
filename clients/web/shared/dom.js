// @ts-check
/** Builds and finds elements: the few lines of DOM plumbing that every page shares. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. Attributes that are `false`, `null` or `undefined` are left out, `true` gives an
 * empty attribute; `onclick` and the like take a function.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number | boolean | null | undefined | EventListener>} [attributes]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * An icon of `shared/icons.svg`; decorative, so the words beside it carry the meaning.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/shared/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * Point an icon at another symbol.
 *
 * @param {Element} parent
 * @param {string} name
 */
export function setIcon(parent, name) {
  parent.querySelector("use")?.setAttribute("href", `/static/shared/icons.svg#${name}`);
}

/**
 * The element that a page must have; a missing one is a mistake of ours, said at once.
 *
 * @template {Element} E
 * @param {string} selector
 * @param {new () => E} kind
 * @param {ParentNode} [root]
 * @returns {E}
 */
export function must(selector, kind, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) {
    throw new Error(`the page has no ${kind.name} at ${selector}`);
  }
  return found;
}

/**
 * Set text only when it differs, so that live regions do not speak the same words again.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/**
 * Make the children of `list` those of `items`, keeping the element of an item that stays, so that
 * focus and typed text survive a redraw.
 *
 * @template T
 * @template {HTMLElement} E
 * @param {HTMLElement} list
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => E} create
 * @param {(element: E, item: T) => void} update
 */
export function patchList(list, items, keyOf, create, update) {
  /** @type {Map<string, E>} */
  const old = new Map();
  for (const child of list.children) {
    const element = /** @type {E} */ (child);
    old.set(element.dataset.key ?? "", element);
  }
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const element = old.get(key) ?? create(item);
    old.delete(key);
    element.dataset.key = key;
    update(element, item);
    if (element === place) {
      place = place.nextElementSibling;
    } else {
      list.insertBefore(element, place);
    }
  }
  for (const element of old.values()) {
    element.remove();
  }
}

/**
 * @param {number} milliseconds
 * @returns {Promise<void>}
 */
export function sleep(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
