// @ts-check
/** Remembers small strings, and carries on without where the browser forbids storage. */

/** @type {Map<string, string>} */
const fallback = new Map();

/** What outlives the tab. */
export const lasting = remember(() => window.localStorage);
/** What lives as long as the tab, reloads included. */
export const perTab = remember(() => window.sessionStorage);

/** @param {() => Storage} storage a getter, because reading the property itself may throw */
function remember(storage) {
  return {
    /** @param {string} key */
    get(key) {
      try {
        return storage().getItem(`tongke.${key}`);
      } catch {
        return fallback.get(key) ?? null;
      }
    },
    /**
     * @param {string} key
     * @param {string} value
     */
    set(key, value) {
      try {
        storage().setItem(`tongke.${key}`, value);
      } catch {
        fallback.set(key, value);
      }
    },
    /** @param {string} key */
    remove(key) {
      try {
        storage().removeItem(`tongke.${key}`);
      } catch {
        fallback.delete(key);
      }
    },
  };
}
