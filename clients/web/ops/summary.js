// @ts-check
/** The whole server in one line of figures, against what the plan allows. */

import { h, must, patchList, setText } from "/static/shared/dom.js";
import { t } from "/static/shared/i18n.js";

/** @param {import("/static/ops/feed.js").Overview} overview */
export function drawSummary({ server, workers, lessons, alarms }) {
  const receivers = lessons.reduce((sum, lesson) => sum + lesson.receivers.length, 0);
  const waiting = lessons
    .flatMap((lesson) => Object.values(lesson.streams))
    .reduce((sum, stream) => sum + stream.waiting, 0);
  const cpu = Math.max(0, ...workers.map((worker) => worker.cpu_percent ?? 0));
  const mbps = (/** @type {number} */ kbps) => Number((kbps / 1000).toFixed(1));
  const open = alarms.filter((alarm) => !alarm.acknowledged).length;
  const freezes = lessons.reduce((sum, lesson) => sum + lesson.freezes, 0);
  /** @type {[string, string, boolean][]} words, figure, whether it is bad */
  const figures = [
    ["ops.sum.lessons", String(lessons.length), false],
    ["ops.sum.receivers", String(receivers), false],
    ["ops.sum.waiting", String(waiting), false],
    ["ops.sum.freezes", String(freezes), false],
    [
      "ops.sum.cpu",
      `${cpu.toFixed(0)} / ${server.target_cpu_percent} %`,
      cpu > server.target_cpu_percent,
    ],
    [
      "ops.sum.uplink",
      `${mbps(server.uplink_kbps)} / ${mbps(server.uplink_limit_kbps)}`,
      server.uplink_kbps > server.uplink_limit_kbps,
    ],
    [
      "ops.sum.disk",
      server.disk_free_mb === null ? "–" : `${(server.disk_free_mb / 1024).toFixed(0)} GiB`,
      false,
    ],
    ["ops.sum.alarms", String(open), open > 0],
  ];
  patchList(
    must("#summary", HTMLElement),
    figures,
    ([key]) => key,
    () => h("div", {}, h("dt", {}), h("dd", {})),
    (element, [key, figure, bad]) => {
      element.dataset.bad = String(bad);
      setText(must("dt", HTMLElement, element), t(key));
      setText(must("dd", HTMLElement, element), figure);
    },
  );
}
