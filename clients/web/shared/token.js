// @ts-check
/** Takes the page's token out of its address (`#token=…`) and keeps it for the next visit. */

import { lasting, perTab } from "/static/shared/storage.js";

/**
 * The token of the fragment, else the remembered one. The fragment is removed from the address bar,
 * so that a screen seen by a class, or a copied address, does not give the token away.
 *
 * @param {string} page whose token it is: `teach` or `ops`
 */
export function takeToken(page) {
  const key = `token.${page}`;
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    perTab.set(key, given);
    lasting.set(key, given);
    return given;
  }
  return perTab.get(key) ?? lasting.get(key);
}

/** @param {string} page */
export function forgetToken(page) {
  perTab.remove(`token.${page}`);
  lasting.remove(`token.${page}`);
}
