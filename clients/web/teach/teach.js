// @ts-check
/** The teacher's page: checks the token, sets up, starts or goes on with a lesson, and ends it. */

import "/static/shared/components/language-switch.js";
import "/static/shared/components/level-meter.js";
import { confirmDialog } from "/static/shared/components/confirm.js";
import { Notice } from "/static/shared/components/notice.js";
import { Api, Problem } from "/static/shared/api.js";
import { must, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { onLanguage, startI18n, t } from "/static/shared/i18n.js";
import { DeviceError } from "/static/shared/media.js";
import { lasting, perTab } from "/static/shared/storage.js";
import { Store } from "/static/shared/store.js";
import { forgetToken, takeToken } from "/static/shared/token.js";
import { keepAwake } from "/static/shared/wakelock.js";
import { LiveView } from "/static/teach/live.js";
import { TeacherLesson } from "/static/teach/lesson.js";
import { Setup } from "/static/teach/setup.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Mode} Mode */

/** Where the running lesson is remembered for a reload, or for tomorrow. */
const REMEMBERED = "teach-lesson";

/**
 * @typedef {object} TeachState
 * @property {"loading" | "blocked" | "setup" | "live" | "over"} phase
 * @property {unknown} error shown until the next success; null for none
 * @property {TeacherLesson | null} running
 */

/** @type {Store<TeachState>} */
const store = new Store(
  /** @type {TeachState} */ ({ phase: "loading", error: null, running: null }),
);

await startI18n();
const notice = must("#notice", Notice);
const api = new Api(takeToken("teach"));
/** @type {RTCIceServer[]} */
let iceServers = [];

/** @param {unknown} error */
const showError = (error) => store.update({ error });
const setup = new Setup(start, showError);
const live = new LiveView(showError);

store.subscribe(draw);
onLanguage(() => store.redraw());
must("#end", HTMLElement).addEventListener("click", askAndEnd);
must("#again", HTMLElement).addEventListener("click", () => enterSetup(null));
must("#blocked-retry", HTMLElement).addEventListener("click", () => location.reload());
window.addEventListener("pagehide", () => store.state.running?.stop());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});
await begin();

/** Find out who we are and whether a lesson of ours is still running. */
async function begin() {
  if (!api.token) {
    store.update({ phase: "blocked", error: new Problem("no-token") });
    return;
  }
  try {
    const [me, hello] = await Promise.all([api.me(), api.hello()]);
    if (me.role !== "teacher" && me.role !== "ops") {
      throw new Problem("forbidden", 403);
    }
    iceServers = hello.ice_servers ?? [];
    const resumable = await remembered(me.lesson);
    await enterSetup(resumable);
    const wasHere = resumable !== null && perTab.get(REMEMBERED) === resumable.id;
    if (wasHere && setup.media) {
      run(resumable);
    }
  } catch (error) {
    if (error instanceof Problem && error.kind === "invalid-token") {
      forgetToken("teach");
    }
    store.update({ phase: "blocked", error });
  }
}

/**
 * The lesson to go on with: the token's own, or the one that this browser remembers.
 *
 * @param {string | null} own
 * @returns {Promise<Lesson | null>}
 */
async function remembered(own) {
  const id = own ?? lasting.get(REMEMBERED);
  if (!id) {
    return null;
  }
  try {
    const lesson = await api.lesson(id);
    if (lesson.state !== "ended") {
      return lesson;
    }
  } catch (error) {
    if (!(error instanceof Problem) || error.kind === "unreachable" || error.status === 401) {
      throw error;
    }
  }
  forgetLesson();
  return null;
}

function forgetLesson() {
  lasting.remove(REMEMBERED);
  perTab.remove(REMEMBERED);
}

/** @param {Lesson | null} resumable */
async function enterSetup(resumable) {
  setup.resumable = resumable;
  store.update({ phase: "setup", error: null, running: null });
  await setup.open();
}

/** @param {{title: string, mode: Mode}} choice */
async function start({ title, mode }) {
  setup.setBusy(true);
  try {
    run(setup.resumable ?? (await api.createLesson(title, mode)));
  } catch (error) {
    store.update({ error });
  }
  setup.setBusy(false);
}

/** @param {Lesson} lesson */
function run(lesson) {
  const media = setup.release();
  if (!media) {
    return;
  }
  lasting.set(REMEMBERED, lesson.id);
  perTab.set(REMEMBERED, lesson.id);
  const running = new TeacherLesson({
    api,
    lesson,
    media,
    iceServers,
    onChange: () => store.redraw(),
    onMedia: (source, media) => live.play(source, media),
  });
  watchDevices(running, media);
  store.update({ phase: "live", error: null, running });
}

/**
 * A camera or microphone that is unplugged in mid-lesson: carry on with what there is.
 *
 * @param {TeacherLesson} running
 * @param {MediaStream} media
 */
function watchDevices(running, media) {
  for (const track of media.getTracks()) {
    track.addEventListener("ended", async () => {
      if (running.ended || running.moved || running.media !== media) {
        return;
      }
      store.update({
        error: new DeviceError("ended", track.kind === "audio" ? "microphone" : "camera"),
      });
    });
  }
}

/** Open the devices again in a running lesson, after one was lost. */
async function reopenDevices() {
  const { running } = store.state;
  await setup.open();
  const media = setup.release();
  if (running && media) {
    await running.changeMedia(media);
    watchDevices(running, media);
    store.update({ error: null });
  }
}

async function askAndEnd() {
  const { running } = store.state;
  if (!running) {
    return;
  }
  const sure = await confirmDialog({
    title: t("teach.end.title"),
    text: t("teach.end.text", { count: running.present.length }),
    yes: t("teach.end.yes"),
    no: t("teach.end.no"),
  });
  if (!sure) {
    return;
  }
  try {
    await running.end();
  } catch (error) {
    store.update({ error });
  }
}

/** @param {TeachState} state */
function draw({ phase, error, running }) {
  if (phase === "live" && running && (running.ended || running.moved)) {
    if (running.ended) {
      forgetLesson();
    }
    for (const track of running.media.getTracks()) {
      track.stop();
    }
    store.update({ phase: "over", error: null });
    return;
  }
  document.title = `${t("teach.page")} · ${t("app.name")}`;
  document.body.dataset.phase = phase;
  keepAwake(phase === "live");
  setup.show(phase === "setup");
  if (phase === "setup") {
    setup.draw();
  }
  live.draw(phase === "live" ? running : null);
  must("#over", HTMLElement).hidden = phase !== "over";
  setText(
    must("#over-text", HTMLElement),
    t(running?.moved ? "teach.over.moved" : "teach.over.text"),
  );
  drawBlocked(phase === "blocked" ? error : null);
  drawNotice(phase, error, running);
}

/** @param {unknown} error */
function drawBlocked(error) {
  must("#blocked", HTMLElement).hidden = error === null;
  if (error !== null) {
    const kind = error instanceof Problem ? error.kind : "";
    const missing = kind === "no-token";
    must("#blocked-retry", HTMLElement).hidden = missing || kind === "invalid-token";
    const { what, todo } = missing
      ? { what: t("teach.no-token.what"), todo: t("teach.no-token.todo") }
      : explain(error);
    setText(must("#blocked-what", HTMLElement), what);
    setText(must("#blocked-todo", HTMLElement), todo);
  }
}

/**
 * @param {TeachState["phase"]} phase
 * @param {unknown} error
 * @param {TeacherLesson | null} running
 */
function drawNotice(phase, error, running) {
  if (phase === "live" && running?.camera.problem && running.camera.state === "failed") {
    error ??= running.camera.problem;
  }
  if (phase === "live" && running && !running.floor.showing) {
    // Beside the wall there is a place for it; without the wall, here.
    error ??= running.floor.refusal;
  }
  if (phase === "blocked" || phase === "over") {
    error = null;
  }
  if (error === null) {
    const still = phase === "setup" && setup.resumable !== null;
    const offline = phase === "live" && running !== null && !running.connected;
    if (offline) {
      const message = { what: t("teach.offline.what"), todo: t("teach.offline.todo") };
      notice.show({ kind: "offline", ...message }, { tone: "info" });
    } else if (still) {
      const message = { what: t("teach.resume.what"), todo: t("teach.resume.todo") };
      const actions = [{ label: t("teach.resume.end"), act: endRemembered }];
      notice.show({ kind: "resume", ...message }, { tone: "info", actions });
    } else {
      notice.show(null);
    }
    return;
  }
  notice.show(explain(error), { actions: remedies(phase, error) });
}

async function endRemembered() {
  try {
    if (setup.resumable) {
      await api.endLesson(setup.resumable.id);
    }
    forgetLesson();
    setup.resumable = null;
    store.update({ error: null });
  } catch (error) {
    store.update({ error });
  }
}

function closeError() {
  store.state.running?.floor.forgive();
  store.update({ error: null });
}

/**
 * The buttons beside an error.
 *
 * @param {TeachState["phase"]} phase
 * @param {unknown} error
 */
function remedies(phase, error) {
  if (!(error instanceof DeviceError)) {
    return [{ label: t("app.close"), act: closeError }];
  }
  if (phase === "live") {
    return [{ label: t("media.retry"), act: reopenDevices }];
  }
  const actions = [
    {
      label: t("media.retry"),
      act: () => {
        setup.wanted = { camera: true, microphone: true };
        setup.open();
      },
    },
  ];
  if (setup.wanted.camera && error.device !== "microphone") {
    actions.push({
      label: t("media.sound-only"),
      act: () => {
        setup.wanted = { camera: false, microphone: true };
        setup.open();
      },
    });
  }
  return actions;
}
