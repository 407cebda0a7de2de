// @ts-check
/** Puts any failure into two sentences: what happened, and what to do about it. */

import { Problem } from "/static/shared/api.js";
import { DeviceError, InsecureContextError } from "/static/shared/media.js";
import { t } from "/static/shared/i18n.js";

/** @typedef {{kind: string, what: string, todo: string}} Explanation */

/** @type {Record<string, [string, string]>} */
const PROBLEMS = {
  unreachable: ["error.unreachable.what", "error.unreachable.todo"],
  "unknown-join-code": ["error.wrong-code.what", "error.wrong-code.todo"],
  "receiver-cap-reached": ["error.full.what", "error.full.todo"],
  "lesson-ended": ["error.ended.what", "error.ended.todo"],
  "no-such-lesson": ["error.ended.what", "error.ended.todo"],
  "invalid-token": ["error.token.what", "error.token.todo"],
  forbidden: ["error.forbidden.what", "error.forbidden.todo"],
  "too-many-requests": ["error.too-many-requests.what", "error.too-many-requests.todo"],
  "too-many-lessons": ["error.too-many-lessons.what", "error.too-many-lessons.todo"],
  "too-many-sessions": ["error.busy.what", "error.busy.todo"],
  "worker-unavailable": ["error.busy.what", "error.busy.todo"],
  draining: ["error.busy.what", "error.busy.todo"],
  "config-invalid": ["error.config.what", "error.config.todo"],
};

/** @type {Record<string, [string, string]>} */
const DEVICES = {
  "NotAllowedError:both": ["error.denied.what", "error.denied.todo"],
  "NotAllowedError:camera": ["error.denied.what", "error.denied.todo"],
  "NotAllowedError:microphone": ["error.denied.what", "error.denied.todo"],
  "NotReadableError:both": ["error.busy-camera.what", "error.busy-camera.todo"],
  "NotReadableError:camera": ["error.busy-camera.what", "error.busy-camera.todo"],
  "NotReadableError:microphone": ["error.busy-microphone.what", "error.busy-microphone.todo"],
  "NotFoundError:both": ["error.no-devices.what", "error.no-devices.todo"],
  "NotFoundError:camera": ["error.no-camera.what", "error.no-camera.todo"],
  "NotFoundError:microphone": ["error.no-microphone.what", "error.no-microphone.todo"],
};

/**
 * @param {unknown} error
 * @returns {Explanation}
 */
export function explain(error) {
  if (error instanceof InsecureContextError) {
    return say("insecure", ["error.insecure.what", "error.insecure.todo"]);
  }
  if (error instanceof DeviceError) {
    const keys = DEVICES[`${error.reason}:${error.device}`];
    return say(error.reason, keys ?? ["error.device.what", "error.device.todo"]);
  }
  if (error instanceof Problem) {
    const keys = PROBLEMS[error.kind];
    if (keys) {
      return say(error.kind, keys, { seconds: error.retryAfterS ?? 30 });
    }
    // The server's own words are in the reader's language too.
    return { kind: error.kind, what: error.message, todo: t("error.other.todo") };
  }
  return say("other", ["error.other.what", "error.other.todo"]);
}

/**
 * @param {string} kind
 * @param {[string, string]} keys
 * @param {Record<string, string | number>} [values]
 */
function say(kind, [what, todo], values) {
  return { kind, what: t(what, values), todo: t(todo, values) };
}
