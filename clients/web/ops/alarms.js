// @ts-check
/** The alarms that stand: shown, heard, acknowledged; and the log of those that did. */

import { h, must, patchList, setText } from "/static/shared/dom.js";
import { language, t } from "/static/shared/i18n.js";

/** @typedef {import("/static/ops/feed.js").Alarm} Alarm */
/** @typedef {import("/static/ops/feed.js").OpsLesson} OpsLesson */

const MUTED = "tongke.ops.muted";
const MOST_SHOWN = 20;
/** @type {Record<string, string>} */
const UNITS = {
  loss: "%",
  freeze: "/min",
  "no-picture": "s",
  cpu: "%",
  uplink: "%",
  "worker-restart": "",
  disk: "MiB",
};
/** @type {Record<string, string>} */
const KINDS = {
  loss: "ops.alarm.loss",
  freeze: "ops.alarm.freeze",
  "no-picture": "ops.alarm.no-picture",
  cpu: "ops.alarm.cpu",
  uplink: "ops.alarm.uplink",
  "worker-restart": "ops.alarm.worker-restart",
  disk: "ops.alarm.disk",
};
/** @type {Record<string, string>} */
const NOTES = {
  raised: "ops.alarms.raised",
  acknowledged: "ops.alarms.acknowledged",
  cleared: "ops.alarms.cleared",
};

export class AlarmsCard {
  #list = must("#alarms", HTMLElement);
  #mute = must("#alarms-mute", HTMLButtonElement);
  #log = must("#alarms-log", HTMLElement);
  #details = must("#alarms-log-box", HTMLDetailsElement);
  #highest = 0;
  #muted = localStorage.getItem(MUTED) === "1";
  /** @type {AudioContext | null} */
  #audio = null;

  /**
   * @param {import("/static/ops/feed.js").Feed} feed
   * @param {(alarm: Alarm) => void} acknowledge
   */
  constructor(feed, acknowledge) {
    this.feed = feed;
    this.acknowledge = acknowledge;
    this.#mute.addEventListener("click", () => {
      this.#muted = !this.#muted;
      localStorage.setItem(MUTED, this.#muted ? "1" : "0");
      this.#drawMute();
    });
    this.#details.addEventListener("toggle", () => this.#drawLog());
    // A browser lets a page make a sound only after somebody has used it.
    const wake = () => {
      this.#audio ??= new AudioContext();
      this.#audio.resume();
    };
    document.addEventListener("pointerdown", wake, { once: true });
    document.addEventListener("keydown", wake, { once: true });
  }

  /**
   * @param {Alarm[]} alarms the newest first
   * @param {OpsLesson[]} lessons
   */
  draw(alarms, lessons) {
    this.#drawMute();
    must("#no-alarms", HTMLElement).hidden = alarms.length > 0;
    const more = Math.max(0, alarms.length - MOST_SHOWN);
    must("#more-alarms", HTMLElement).hidden = more === 0;
    setText(must("#more-alarms", HTMLElement), t("ops.alarms.more", { count: more }));
    // What nobody has acknowledged comes first.
    const shown = [...alarms]
      .sort((a, b) => Number(a.acknowledged) - Number(b.acknowledged))
      .slice(0, MOST_SHOWN);
    patchList(
      this.#list,
      shown,
      (alarm) => String(alarm.id),
      (alarm) =>
        h(
          "li",
          { "data-testid": "alarm-row" },
          h("span", { class: "alarm-text" }),
          h("button", {
            type: "button",
            class: "button slim",
            "data-testid": "alarm-ack",
            onclick: () => this.acknowledge(alarm),
          }),
        ),
      (element, alarm) => {
        element.dataset.acknowledged = String(alarm.acknowledged);
        setText(must(".alarm-text", HTMLElement, element), words(alarm, lessons));
        const button = must("button", HTMLButtonElement, element);
        button.disabled = alarm.acknowledged;
        setText(button, t(alarm.acknowledged ? "ops.alarms.acked" : "ops.alarms.ack"));
      },
    );
    const unheard = alarms.filter((alarm) => !alarm.acknowledged && alarm.id > this.#highest);
    if (unheard.length > 0) {
      this.#beep();
      this.#drawLog();
    }
    this.#highest = Math.max(this.#highest, ...alarms.map((alarm) => alarm.id));
  }

  #drawMute() {
    setText(this.#mute, t(this.#muted ? "ops.alarms.unmute" : "ops.alarms.mute"));
    this.#mute.setAttribute("aria-pressed", String(this.#muted));
  }

  async #drawLog() {
    if (!this.#details.open) {
      return;
    }
    const { log } = await this.feed.alarms();
    this.#log.replaceChildren(
      ...log.slice(0, 100).map((note) => {
        const at = new Date(note.at * 1000).toLocaleTimeString(language());
        const what = t(NOTES[note.what] ?? note.what);
        return h("li", {}, `${at} · ${what} · ${t(KINDS[note.kind] ?? note.kind)} · ${note.subject}`);
      }),
    );
  }

  /** Two short tones. */
  #beep() {
    const audio = this.#audio;
    if (this.#muted || !audio || audio.state !== "running") {
      return;
    }
    [880, 660].forEach((hertz, index) => {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      const beginsS = audio.currentTime + index * 0.25;
      tone.frequency.value = hertz;
      volume.gain.setValueAtTime(0.15, beginsS);
      volume.gain.exponentialRampToValueAtTime(0.001, beginsS + 0.22);
      tone.connect(volume).connect(audio.destination);
      tone.start(beginsS);
      tone.stop(beginsS + 0.24);
    });
  }
}

/**
 * An alarm in words: ids become the names that the page knows.
 *
 * @param {Alarm} alarm
 * @param {OpsLesson[]} lessons
 */
function words(alarm, lessons) {
  const [first = "", second = "", third = ""] = alarm.subject.split("/");
  const lesson = lessons.find((one) => one.id === first);
  const receiver = lesson?.receivers.find((row) => row[1] === second);
  const place = lesson
    ? [lesson.title, receiver?.[2] ?? streamWords(second), streamWords(third)].filter((part) => part).join(" · ")
    : first === "server"
      ? t("ops.server")
      : t("ops.worker.of", { id: first });
  const unit = UNITS[alarm.kind] ?? "";
  return t("ops.alarm.text", {
    kind: t(KINDS[alarm.kind] ?? alarm.kind),
    place,
    value: `${alarm.value} ${unit}`.trim(),
    limit: `${alarm.limit} ${unit}`.trim(),
  });
}

/** @param {string} name */
function streamWords(name) {
  const key = `stream.${name}`;
  const words = t(key);
  return words === key ? name : words;
}
