// @ts-check
/** The operators' page: every lesson, stream, seat and worker, looked at every two seconds. */

import "/static/shared/components/language-switch.js";
import { confirmDialog } from "/static/shared/components/confirm.js";
import { Notice } from "/static/shared/components/notice.js";
import { Api, Problem } from "/static/shared/api.js";
import { must, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { onLanguage, startI18n, t } from "/static/shared/i18n.js";
import { Store } from "/static/shared/store.js";
import { forgetToken, takeToken } from "/static/shared/token.js";
import { ConfigEditor } from "/static/ops/config.js";
import { SeatsTable } from "/static/ops/seats.js";
import { StreamsTable } from "/static/ops/streams.js";
import { WorkersTable } from "/static/ops/workers.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Seat} Seat */

const EVERY_MS = 2_000;

/**
 * @typedef {object} OpsState
 * @property {boolean} allowed the token opened the desk
 * @property {boolean} fresh the last look succeeded
 * @property {unknown} error
 * @property {Lesson[]} lessons
 * @property {import("/static/ops/workers.js").WorkerStats[]} workers
 * @property {number} atS when the workers were looked at
 * @property {string | null} drilled id of the lesson whose seats are shown
 * @property {Seat[]} seats
 */

/** @type {Store<OpsState>} */
const store = new Store(
  /** @type {OpsState} */ ({
    allowed: false,
    fresh: true,
    error: null,
    lessons: [],
    workers: [],
    atS: 0,
    drilled: null,
    seats: [],
  }),
);

await startI18n();
const api = new Api(takeToken("ops"));
const notice = must("#notice", Notice);
const config = new ConfigEditor(api);
const workersTable = new WorkersTable();
const seatsTable = new SeatsTable({
  release: (seat) => attempt(() => release(seat)),
  close: () => store.update({ drilled: null, seats: [] }),
});
const streamsTable = new StreamsTable({
  setCap: (lesson, stream, cap) => attempt(() => api.setCap(lesson, stream, cap)),
  showSeats: (lesson) => {
    store.update({ drilled: lesson.id, seats: [] });
    look();
  },
  end: (lesson) => attempt(() => end(lesson)),
});

store.subscribe(draw);
onLanguage(() => store.redraw());
await begin();

async function begin() {
  if (!api.token) {
    store.update({ error: new Problem("no-token") });
    return;
  }
  try {
    const me = await api.me();
    if (me.role !== "ops") {
      throw new Problem("forbidden", 403);
    }
    store.update({ allowed: true });
    await Promise.all([look(), config.load()]);
    setInterval(() => {
      if (!document.hidden) {
        look();
      }
    }, EVERY_MS);
  } catch (error) {
    if (error instanceof Problem && error.kind === "invalid-token") {
      forgetToken("ops");
    }
    store.update({ error });
  }
}

/** Fetch everything that is shown. */
async function look() {
  const { drilled } = store.state;
  try {
    const [{ lessons }, stats, seats] = await Promise.all([
      api.lessons(),
      api.stats(),
      drilled ? seatsOf(drilled) : [],
    ]);
    store.update({
      fresh: true,
      lessons: lessons.filter((lesson) => lesson.state !== "ended"),
      workers: stats.workers ?? [],
      atS: performance.now() / 1000,
      ...(drilled === store.state.drilled ? { seats } : {}),
    });
  } catch (error) {
    const out = error instanceof Problem && error.status === 401;
    store.update({ fresh: false, ...(out ? { error } : {}) });
  }
}

/**
 * The seats of a lesson; a lesson that is over has none.
 *
 * @param {string} lesson
 * @returns {Promise<Seat[]>}
 */
async function seatsOf(lesson) {
  try {
    return (await api.seats(lesson)).seats;
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 410)) {
      return [];
    }
    throw error;
  }
}

/** @param {() => Promise<unknown>} action */
async function attempt(action) {
  try {
    await action();
    store.update({ error: null });
  } catch (error) {
    store.update({ error });
  }
  await look();
}

/** @param {Seat} seat */
async function release(seat) {
  const { drilled } = store.state;
  const sure = await confirmDialog({
    title: t("ops.release.title", { name: seat.name }),
    text: t("ops.release.text"),
    yes: t("ops.release"),
    no: t("app.cancel"),
  });
  if (sure && drilled) {
    await api.releaseSeat(drilled, seat.id);
  }
}

/** @param {Lesson} lesson */
async function end(lesson) {
  const sure = await confirmDialog({
    title: t("ops.end.title", { lesson: lesson.title }),
    text: t("ops.end.text"),
    yes: t("ops.end"),
    no: t("app.cancel"),
  });
  if (sure) {
    await api.endLesson(lesson.id);
  }
}

/** @param {OpsState} state */
function draw({ allowed, fresh, error, lessons, workers, atS, drilled, seats }) {
  document.title = `${t("ops.title")} · ${t("app.name")}`;
  must("#desk", HTMLElement).hidden = !allowed;
  const freshness = must("#freshness", HTMLElement);
  freshness.hidden = !allowed;
  freshness.dataset.level = fresh ? "good" : "poor";
  setText(freshness, t(fresh ? "ops.fresh" : "ops.stale"));
  streamsTable.draw(lessons);
  seatsTable.draw(lessons.find((lesson) => lesson.id === drilled) ?? null, seats);
  workersTable.draw(workers, atS);
  if (error instanceof Problem && error.kind === "no-token") {
    notice.show({
      kind: error.kind,
      what: t("ops.no-token.what"),
      todo: t("ops.no-token.todo"),
    });
  } else {
    notice.show(error === null ? null : explain(error));
  }
}
