// @ts-check
/** The teaching point's page: a code and a name, then nothing but the lesson. */

import "/static/shared/components/language-switch.js";
import { Notice } from "/static/shared/components/notice.js";
import { Api, Problem } from "/static/shared/api.js";
import { must, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { onLanguage, startI18n, t } from "/static/shared/i18n.js";
import { lasting, perTab } from "/static/shared/storage.js";
import { Store } from "/static/shared/store.js";
import { keepAwake } from "/static/shared/wakelock.js";
import { Classroom } from "/static/join/classroom.js";
import { LineTestPanel } from "/static/join/linetest-panel.js";
import { Room } from "/static/join/room.js";

/**
 * @typedef {object} JoinState
 * @property {boolean} busy
 * @property {unknown} error
 * @property {Classroom | null} classroom
 */

/** The code of the lesson that this tab is in: a reload goes straight back to it. */
const INSIDE = "join-inside";
/** The codes whose seats this browser remembers, newest first. */
const SEATS_KEPT = 8;

/** @type {Store<JoinState>} */
const store = new Store(
  /** @type {JoinState} */ ({ busy: false, error: null, classroom: null }),
);

await startI18n();
const notice = must("#notice", Notice);
const codeInput = must("#code", HTMLInputElement);
const nameInput = must("#name", HTMLInputElement);
const room = new Room({ onLeave: leave, onAgain: again });
/** Joining anew after a lost seat is tried once, so that two pages cannot chase each other. */
let retried = false;

codeInput.value = codeOfAddress() ?? "";
nameInput.value = lasting.get("join-name") ?? "";
must("#form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  enter();
});
codeInput.addEventListener("input", () => {
  codeInput.value = codeInput.value.replace(/[^0-9A-Za-z]/g, "");
});
must("#linetest", LineTestPanel).start(sitDownToTest);
store.subscribe(draw);
onLanguage(() => store.redraw());
window.addEventListener("pagehide", () => store.state.classroom?.leave());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});
if (codeInput.value && nameInput.value && perTab.get(INSIDE) === codeInput.value) {
  await enter();
}
if (!store.state.classroom) {
  (codeInput.value ? nameInput : codeInput).focus();
}

function codeOfAddress() {
  const match = location.pathname.match(/^\/join\/([0-9A-Za-z]+)\/?$/);
  return match?.[1] ?? null;
}

/** What was typed; null, with a word about it, when something is missing. */
function typed() {
  const code = codeInput.value.trim();
  const name = nameInput.value.trim();
  if (!code || !name) {
    store.update({ error: new Problem(code ? "no-name" : "no-code") });
    (code ? nameInput : codeInput).focus();
    return null;
  }
  return { code, name };
}

/** The line is tested from the seat that the lesson will be received on. */
async function sitDownToTest() {
  const entry = typed();
  if (!entry) {
    return null;
  }
  store.update({ error: null });
  const joined = await sitDown(new Api(null), entry.code, entry.name);
  lasting.set("join-name", entry.name);
  rememberSeat(entry.code, joined.token);
  return { lesson: joined.lesson.id, token: joined.token };
}

async function enter() {
  if (store.state.busy) {
    return;
  }
  const entry = typed();
  if (!entry) {
    return;
  }
  const { code, name } = entry;
  store.update({ busy: true, error: null });
  try {
    const api = new Api(null);
    const [joined, hello] = await Promise.all([sitDown(api, code, name), api.hello()]);
    lasting.set("join-name", name);
    rememberSeat(code, joined.token);
    perTab.set(INSIDE, code);
    history.replaceState(null, "", `/join/${code}`);
    store.update({
      busy: false,
      classroom: new Classroom({
        lesson: joined.lesson,
        token: joined.token,
        name: joined.seat.name,
        iceServers: hello.ice_servers ?? [],
        onChange: () => store.redraw(),
        onMedia: (stream, media) => room.play(stream, media),
      }),
    });
  } catch (error) {
    perTab.remove(INSIDE);
    store.update({ busy: false, error });
    codeInput.focus();
  }
}

/**
 * Join, on the seat of last time if the server still knows it.
 *
 * @param {Api} api
 * @param {string} code
 * @param {string} name
 */
async function sitDown(api, code, name) {
  const seat = lasting.get(`join-seat-${code}`);
  try {
    return await api.join(code, name, seat);
  } catch (error) {
    const stale =
      error instanceof Problem && [400, 401, 403].includes(error.status) && seat !== null;
    if (!stale) {
      throw error;
    }
    forgetSeat(code);
    return api.join(code, name, null);
  }
}

/**
 * @param {string} code
 * @param {string} token
 */
function rememberSeat(code, token) {
  const codes = (lasting.get("join-seats") ?? "").split(",").filter((one) => one && one !== code);
  for (const old of codes.splice(SEATS_KEPT - 1)) {
    lasting.remove(`join-seat-${old}`);
  }
  lasting.set("join-seats", [code, ...codes].join());
  lasting.set(`join-seat-${code}`, token);
}

/** @param {string} code */
function forgetSeat(code) {
  lasting.remove(`join-seat-${code}`);
}

function leave() {
  const { classroom } = store.state;
  classroom?.leave();
  perTab.remove(INSIDE);
  if (document.fullscreenElement) {
    document.exitFullscreen();
  }
  room.clear();
  store.update({ classroom: null, error: null });
}

/** Sit down again after the seat was taken away. */
async function again() {
  leave();
  await enter();
}

/** @param {JoinState} state */
function draw({ busy, error, classroom }) {
  const lost = classroom?.camera.problem;
  if (classroom?.state === "failed" && lost && !retried && isLostSeat(lost)) {
    retried = true;
    forgetSeat(codeInput.value);
    again();
    return;
  }
  if (classroom?.state === "failed" && lost && isOver(lost)) {
    classroom.ended = true;
  }
  if (classroom?.state === "live") {
    retried = false;
  }
  if (classroom?.ended) {
    perTab.remove(INSIDE);
  }
  document.title = `${classroom?.lesson.title ?? t("join.page")} · ${t("app.name")}`;
  must("#entrance", HTMLElement).hidden = classroom !== null;
  must("#submit", HTMLButtonElement).disabled = busy;
  setText(must("#submit-text", HTMLElement), t(busy ? "join.joining" : "join.submit"));
  room.draw(classroom);
  keepAwake(classroom !== null && !classroom.ended);
  notice.show(error === null ? null : explainForm(error));
}

/** @param {Problem} problem */
function isLostSeat(problem) {
  return ["no-such-seat", "invalid-token", "forbidden"].includes(problem.kind);
}

/** @param {Problem} problem */
function isOver(problem) {
  return ["lesson-ended", "no-such-lesson"].includes(problem.kind);
}

/** @param {unknown} error */
function explainForm(error) {
  const kind = error instanceof Problem ? error.kind : "";
  if (kind === "no-code") {
    return { kind, what: t("join.no-code.what"), todo: t("join.no-code.todo") };
  }
  if (kind === "no-name") {
    return { kind, what: t("join.no-name.what"), todo: t("join.no-name.todo") };
  }
  return explain(error);
}
