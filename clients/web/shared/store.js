// @ts-check
/** A page's state in one place: shallow patches in, one redraw per turn of the event loop out. */

/** @template {object} S */
export class Store {
  /** @type {S} */
  #state;
  /** @type {Set<(state: S) => void>} */
  #listeners = new Set();
  #scheduled = false;

  /** @param {S} initial */
  constructor(initial) {
    this.#state = initial;
  }

  get state() {
    return this.#state;
  }

  /** @param {Partial<S>} patch */
  update(patch) {
    this.#state = { ...this.#state, ...patch };
    this.redraw();
  }

  /** Call the listeners soon; several calls in one turn make one redraw. */
  redraw() {
    if (this.#scheduled) {
      return;
    }
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      for (const listener of this.#listeners) {
        listener(this.#state);
      }
    });
  }

  /** @param {(state: S) => void} listener called now and after every change */
  subscribe(listener) {
    this.#listeners.add(listener);
    listener(this.#state);
  }
}
