// @ts-check
/** Keeps the screen from going dark while a lesson is on, where the browser can. */

/** @type {WakeLockSentinel | null} */
let lock = null;
let wanted = false;

/** @param {boolean} awake */
export function keepAwake(awake) {
  if (awake !== wanted) {
    wanted = awake;
    apply();
  }
}

async function apply() {
  if (!wanted) {
    await lock?.release();
    lock = null;
  } else if (navigator.wakeLock && !document.hidden) {
    try {
      lock = await navigator.wakeLock.request("screen");
    } catch {
      // Refused on low battery; the lesson goes on all the same.
      lock = null;
    }
  }
}

// The browser gives the lock up whenever the page is hidden.
document.addEventListener("visibilitychange", apply);
