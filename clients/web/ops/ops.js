// @ts-check
/** The operators' page: every lesson, stream, seat, worker and alarm, looked at every 2 seconds. */

import "/static/shared/components/language-switch.js";
import { confirmDialog } from "/static/shared/components/confirm.js";
import { Notice } from "/static/shared/components/notice.js";
import { Api, Problem } from "/static/shared/api.js";
import { must, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { onLanguage, startI18n, t } from "/static/shared/i18n.js";
import { Store } from "/static/shared/store.js";
import { forgetToken, takeToken } from "/static/shared/token.js";
import { AlarmsCard } from "/static/ops/alarms.js";
import { ConfigEditor } from "/static/ops/config.js";
import { Feed } from "/static/ops/feed.js";
import { ReceiverCard } from "/static/ops/receiver.js";
import { SeatsTable } from "/static/ops/seats.js";
import { StreamsTable } from "/static/ops/streams.js";
import { drawSummary } from "/static/ops/summary.js";
import { WorkersTable } from "/static/ops/workers.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Seat} Seat */

const EVERY_MS = 2_000;
const PLAN_MS = 60_000;

/**
 * @typedef {object} OpsState
 * @property {boolean} allowed the token opened the desk
 * @property {boolean} fresh the last look succeeded
 * @property {unknown} error
 * @property {import("/static/ops/feed.js").Overview | null} overview
 * @property {Map<string, number>} plan the planned cap by `MODE/STREAM`
 * @property {string | null} drilled id of the lesson whose seats are shown
 * @property {Seat[]} seats
 */

/** @type {Store<OpsState>} */
const store = new Store(
  /** @type {OpsState} */ ({
    allowed: false,
    fresh: true,
    error: null,
    overview: null,
    plan: new Map(),
    drilled: null,
    seats: [],
  }),
);

await startI18n();
const api = new Api(takeToken("ops"));
const notice = must("#notice", Notice);
const feed = new Feed(api.token);
const config = new ConfigEditor(api, feed);
const alarmsCard = new AlarmsCard(feed, (alarm) => attempt(() => feed.acknowledge(alarm.id)));
const receiverCard = new ReceiverCard(feed, (receivers) =>
  attempt(() => Promise.all(receivers.map((row) => feed.rejoin(row[0])))),
);
const workersTable = new WorkersTable((worker, drain) => attempt(() => feed.drain(worker, drain)));
const seatsTable = new SeatsTable({
  release: (seat) => attempt(() => release(seat)),
  watch: (seat) => {
    receiverCard.show(receiversOf(seat.id));
    must("#receiver-card", HTMLElement).scrollIntoView({ block: "nearest" });
    receiverCard.look();
  },
  close: () => {
    receiverCard.show([]);
    store.update({ drilled: null, seats: [] });
  },
});
const streamsTable = new StreamsTable({
  setCap: (lesson, stream, cap) => attempt(() => api.setCap(lesson, stream, cap)),
  showSeats: (lesson) => {
    store.update({ drilled: lesson.id, seats: [] });
    look().then(() => must("#seats-card", HTMLElement).scrollIntoView({ block: "start" }));
  },
  end: (lesson) => attempt(() => end(lesson)),
});

must("#server-drain", HTMLButtonElement).addEventListener("click", () => attempt(drainServer));

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
    await Promise.all([look(), lookAtPlan(), config.load()]);
    setInterval(lookAtPlan, PLAN_MS);
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
    const [overview, seats] = await Promise.all([
      feed.overview(),
      drilled ? seatsOf(drilled) : [],
    ]);
    // What has not changed is not drawn again.
    if (overview || drilled || !store.state.fresh) {
      store.update({
        fresh: true,
        ...(overview ? { overview } : {}),
        ...(drilled === store.state.drilled ? { seats } : {}),
      });
    }
    if (receiverCard.seat !== null) {
      const receivers = receiversOf(receiverCard.seat);
      if (receivers.length > 0) {
        receiverCard.show(receivers);
      }
      await receiverCard.look();
    }
  } catch (error) {
    const out = error instanceof Problem && error.status === 401;
    store.update({ fresh: false, ...(out ? { error } : {}) });
  }
}

/** The plan's caps; a server without a plan has none. */
async function lookAtPlan() {
  try {
    const { plans } = await feed.plan();
    const caps = plans.flatMap(({ mode, streams }) =>
      Object.entries(streams).map(
        ([name, { cap }]) => /** @type {[string, number]} */ ([`${mode}/${name}`, cap]),
      ),
    );
    store.update({ plan: new Map(caps) });
  } catch {
    store.update({ plan: new Map() });
  }
}

/**
 * The sessions by which a seat of the lesson that is shown receives.
 *
 * @param {string} seat
 */
function receiversOf(seat) {
  const { overview, drilled } = store.state;
  const lesson = overview?.lessons.find((one) => one.id === drilled);
  return lesson?.receivers.filter((row) => row[1] === seat) ?? [];
}

/** Take no new lessons, or take them again; the running ones go on. */
async function drainServer() {
  const drained = store.state.overview?.server.refusing_lessons ?? false;
  const sure =
    drained ||
    (await confirmDialog({
      title: t("ops.server-drain.title"),
      text: t("ops.server-drain.text"),
      yes: t("ops.server-drain"),
      no: t("app.cancel"),
    }));
  if (sure) {
    await feed.drain(null, !drained);
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
function draw({ allowed, fresh, error, overview, plan, drilled, seats }) {
  document.title = `${t("ops.title")} · ${t("app.name")}`;
  must("#desk", HTMLElement).hidden = !allowed;
  const freshness = must("#freshness", HTMLElement);
  freshness.hidden = !allowed;
  freshness.dataset.level = fresh ? "good" : "poor";
  setText(freshness, t(fresh ? "ops.fresh" : "ops.stale"));
  if (overview) {
    const { lessons, server, workers, alarms } = overview;
    drawSummary(overview);
    alarmsCard.draw(alarms, lessons);
    streamsTable.draw(lessons, plan);
    seatsTable.draw(lessons.find((lesson) => lesson.id === drilled) ?? null, seats);
    workersTable.draw(workers);
    const drain = must("#server-drain", HTMLButtonElement);
    drain.setAttribute("aria-pressed", String(server.refusing_lessons));
    setText(drain, t(server.refusing_lessons ? "ops.server-undrain" : "ops.server-drain"));
  }
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
