// @ts-check
/** Draws what a classroom sends back: the question, the preview, the sign "you are seen", the floor. */

import { LevelMeter } from "/static/shared/components/level-meter.js";
import { must, setIcon, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { t } from "/static/shared/i18n.js";

/** @typedef {import("/static/join/classroom.js").Classroom} Classroom */
/** @typedef {import("/static/join/returning.js").Returning} Returning */
/** @typedef {import("/static/join/returning.js").Device} Device */

/** The words of the sign: by what reaches whom, and then by what is sent. */
const SIGNS = /** @type {const} */ ({
  all: { both: "join.sign.all.both", picture: "join.sign.all.picture", sound: "join.sign.all.sound" },
  answer: {
    both: "join.sign.answer.both",
    picture: "join.sign.teacher.picture",
    sound: "join.sign.all.sound",
  },
  teacher: {
    both: "join.sign.teacher.both",
    picture: "join.sign.teacher.picture",
    sound: "join.sign.teacher.sound",
  },
  muted: {
    both: "join.sign.muted.both",
    picture: "join.sign.teacher.picture",
    sound: "join.sign.muted.sound",
  },
});

export class ReturnPanel {
  /** @type {Classroom | null} */
  #classroom = null;
  /** @type {MediaStream | null} */
  #shown = null;
  #asked = false;

  #ask = must("#ask", HTMLElement);
  #preview = must("#ask-preview", HTMLVideoElement);
  #askLevel = must("#ask-level", LevelMeter);
  #strip = must("#return", HTMLElement);
  #self = must("#self", HTMLVideoElement);
  #level = must("#self-level", LevelMeter);
  #banner = must("#floor", HTMLElement);

  constructor() {
    const open = () => this.#returning?.preview({ camera: true });
    press("#ask-both", open);
    press("#ask-retry", open);
    press("#ask-sound", () => this.#returning?.preview({ camera: false }));
    press("#ask-agree", () => this.#returning?.agree());
    press("#ask-no", () => this.#returning?.decline());
    press("#return-open", open);
    press("#floor-open", open);
    press("#return-camera", () => this.#returning?.toggle("camera"));
    press("#return-mic", () => this.#returning?.toggle("microphone"));
    press("#hand-back", () => this.#classroom?.handBack());
  }

  /** @returns {Returning | undefined} */
  get #returning() {
    return this.#classroom?.returning;
  }

  /** @param {Classroom | null} classroom */
  draw(classroom) {
    this.#classroom = classroom;
    const over = !classroom || classroom.ended || classroom.released !== null;
    const returning = over ? null : classroom.returning;
    this.#drawMedia(returning);
    this.#drawQuestion(returning);
    this.#strip.hidden = !returning?.offered || returning.asks;
    this.#banner.hidden = over || !(classroom.onFloor || classroom.floor?.all_answer);
    if (classroom && returning?.offered) {
      this.#drawStrip(classroom, returning);
    }
    this.#drawFloor(over ? null : classroom);
  }

  /** @param {Returning | null} returning */
  #drawMedia(returning) {
    const media = returning?.media ?? null;
    const asking = returning?.asks ?? false;
    if (media === this.#shown && asking === this.#asked) {
      return;
    }
    this.#shown = media;
    this.#asked = asking;
    this.#preview.srcObject = asking ? media : null;
    this.#self.srcObject = asking ? null : media;
    this.#askLevel.listen(asking ? media : null);
    this.#level.listen(asking ? null : media);
  }

  /** @param {Returning | null} returning */
  #drawQuestion(returning) {
    const asks = returning?.asks ?? false;
    this.#ask.hidden = !asks;
    if (!returning || !asks) {
      return;
    }
    const { media, opening, previewing, error } = returning;
    const ready = previewing && media !== null;
    const said = error === null ? null : explain(error);
    const failed = previewing && !ready && !opening;
    const key = ready ? "join.ask.preview" : opening ? "join.ask.opening" : "join.ask.text";
    const trouble = said ? `${said.what} ${said.todo}` : "";
    setText(must("#ask-text", HTMLElement), failed ? trouble : t(key));
    setText(must("#ask-trouble", HTMLElement), ready && said ? said.what : "");
    must("#ask-frame", HTMLElement).hidden = !ready || !returning.has("camera");
    this.#askLevel.hidden = !ready || !returning.has("microphone");
    must("#ask-both", HTMLElement).hidden = previewing;
    must("#ask-sound", HTMLElement).hidden = ready || opening;
    must("#ask-retry", HTMLElement).hidden = !failed;
    must("#ask-agree", HTMLElement).hidden = !ready;
  }

  /**
   * @param {Classroom} classroom
   * @param {Returning} returning
   */
  #drawStrip(classroom, returning) {
    const agreed = returning.consent === "yes";
    must("#return-open", HTMLElement).hidden = agreed;
    must("#self-frame", HTMLElement).hidden = !agreed || !returning.has("camera");
    this.#level.hidden = !agreed || !returning.has("microphone");
    must("#return-camera", HTMLElement).hidden = !agreed;
    must("#return-mic", HTMLElement).hidden = !agreed;
    this.#drawSwitch("camera", "#return-camera", ["join.camera.off", "join.camera.on"]);
    this.#drawSwitch("microphone", "#return-mic", ["join.mic.off", "join.mic.on"]);
    const { key, level, sending } = sign(classroom, returning);
    const pill = must("#sign", HTMLElement);
    pill.dataset.level = level;
    pill.dataset.state = sending;
    setText(pill, t(key));
    const trouble = returning.error === null ? "" : explain(returning.error).what;
    setText(must("#return-trouble", HTMLElement), agreed ? trouble : "");
  }

  /**
   * @param {Device} device
   * @param {string} selector
   * @param {[string, string]} words to switch off, to switch on
   */
  #drawSwitch(device, selector, [off, on]) {
    const button = must(selector, HTMLButtonElement);
    const open = (this.#returning?.isOn(device) && this.#returning.has(device)) ?? false;
    const symbol = device === "camera" ? "camera" : "mic";
    button.dataset.on = String(open);
    setIcon(button, open ? symbol : `${symbol}-off`);
    setText(must("span", HTMLElement, button), t(open ? off : on));
  }

  /** @param {Classroom | null} classroom */
  #drawFloor(classroom) {
    const granted = classroom?.onFloor ?? false;
    const answering = classroom?.floor?.all_answer ?? false;
    if (!classroom || !(granted || answering)) {
      return;
    }
    const { returning } = classroom;
    const silent = !returning.media && !returning.opening && !returning.asks;
    this.#banner.dataset.granted = String(granted);
    setText(
      must("#floor-what", HTMLElement),
      t(granted ? "join.floor.what" : "join.floor.answer"),
    );
    const todo = classroom.muted
      ? "join.floor.muted"
      : silent || returning.asks
        ? "join.floor.silent"
        : granted
          ? "join.floor.todo"
          : "join.floor.answer.todo";
    setText(must("#floor-todo", HTMLElement), t(todo));
    must("#floor-open", HTMLElement).hidden = !silent || returning.consent === "yes";
    const back = must("#hand-back", HTMLButtonElement);
    back.hidden = !granted;
    back.disabled = !classroom.connected;
  }
}

/**
 * What is true now of being seen and heard.
 *
 * @param {Classroom} classroom
 * @param {Returning} returning
 * @returns {{key: string, level: string, sending: string}}
 */
function sign(classroom, returning) {
  if (returning.consent !== "yes") {
    return { key: "join.sign.watching", level: "none", sending: "none" };
  }
  const { media, opening, publisher } = returning;
  if (!media) {
    return { key: opening ? "join.ask.opening" : "join.sign.off", level: "none", sending: "none" };
  }
  if (publisher?.state === "failed") {
    return { key: "join.sign.failed", level: "poor", sending: "failed" };
  }
  if (publisher?.state !== "connected") {
    return { key: "join.sign.connecting", level: "fair", sending: "connecting" };
  }
  const camera = returning.sends("camera");
  const sound = returning.sends("microphone");
  const what = camera && sound ? "both" : camera ? "picture" : "sound";
  const answering = classroom.floor?.all_answer ?? false;
  const whom = classroom.muted
    ? "muted"
    : classroom.onFloor
      ? "all"
      : answering
        ? "answer"
        : "teacher";
  return { key: SIGNS[whom][what], level: "good", sending: what };
}

/**
 * @param {string} selector
 * @param {() => void} act
 */
function press(selector, act) {
  must(selector, HTMLButtonElement).addEventListener("click", act);
}
