// @ts-check
/** The teacher's first screen: see yourself, hear yourself, name the lesson, press one button. */

import { LevelMeter } from "/static/shared/components/level-meter.js";
import { h, must, setText } from "/static/shared/dom.js";
import { onLanguage, t } from "/static/shared/i18n.js";
import { listDevices, openDevices, stopMedia } from "/static/shared/media.js";
import { lasting } from "/static/shared/storage.js";

/** @typedef {import("/static/shared/types.js").Lesson} Lesson */
/** @typedef {import("/static/shared/types.js").Mode} Mode */

/** @type {Record<Mode, string>} */
const MODE_TEXT = {
  dispatch: "mode.dispatch.text",
  masterclass: "mode.masterclass.text",
  open: "mode.open.text",
};

export class Setup {
  /** @type {MediaStream | null} what the preview shows and the lesson will send */
  media = null;
  /** What to ask for; the camera drops out when there is none. */
  wanted = { camera: true, microphone: true };
  /** @type {Lesson | null} a lesson that is still running, to go on with */
  resumable = null;

  #section = must("#setup", HTMLElement);
  #video = must("#preview", HTMLVideoElement);
  #note = must("#preview-note", HTMLElement);
  #level = must("#level", LevelMeter);
  #title = must("#title", HTMLInputElement);
  #mode = must("#mode", HTMLSelectElement);
  #camera = must("#camera", HTMLSelectElement);
  #microphone = must("#microphone", HTMLSelectElement);
  #start = must("#start", HTMLButtonElement);
  #busy = false;
  #opening = false;

  /**
   * @param {(choice: {title: string, mode: Mode}) => void} onStart
   * @param {(error: unknown) => void} onError called with null when a device opened after all
   */
  constructor(onStart, onError) {
    this.onError = onError;
    const mode = lasting.get("teach-mode");
    if (mode && mode in MODE_TEXT) {
      this.#mode.value = mode;
    }
    must("#setup-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#busy && this.media) {
        lasting.set("teach-mode", this.#mode.value);
        onStart(this.choice());
      }
    });
    this.#mode.addEventListener("change", () => this.draw());
    for (const select of [this.#camera, this.#microphone]) {
      select.addEventListener("change", () => {
        lasting.set(`teach-${select.id}`, select.value);
        this.open();
      });
    }
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      if (!this.#section.hidden) {
        this.media ? this.#fillDevices() : this.open();
      }
    });
    onLanguage(() => {
      this.draw();
      this.#fillDevices();
    });
  }

  /** @returns {{title: string, mode: Mode}} */
  choice() {
    const today = new Date();
    const values = { month: today.getMonth() + 1, day: today.getDate() };
    return {
      title: this.#title.value.trim() || t("teach.title.default", values),
      mode: /** @type {Mode} */ (this.#mode.value),
    };
  }

  /** Ask for camera and microphone and show them. */
  async open() {
    if (this.#opening) {
      return;
    }
    this.#opening = true;
    this.close();
    this.draw();
    try {
      const chosen = {
        camera: lasting.get("teach-camera") || null,
        microphone: lasting.get("teach-microphone") || null,
      };
      this.media = await openDevices(chosen, this.wanted);
      this.#video.srcObject = this.media;
      this.#level.listen(this.media);
      this.onError(null);
    } catch (error) {
      this.onError(error);
    }
    this.#opening = false;
    await this.#fillDevices();
    this.draw();
  }

  async #fillDevices() {
    const { cameras, microphones } = await listDevices();
    const audio = this.media?.getAudioTracks()[0]?.getSettings().deviceId ?? "";
    const video = this.media?.getVideoTracks()[0]?.getSettings().deviceId ?? "";
    fill(this.#camera, cameras, video, "media.camera.nth");
    fill(this.#microphone, microphones, audio, "media.microphone.nth");
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    this.#busy = busy;
    this.draw();
  }

  draw() {
    this.#start.disabled = this.#busy || !this.media;
    const label = this.#busy
      ? "teach.starting"
      : this.resumable
        ? "teach.continue"
        : "teach.start";
    setText(must("#start-text", HTMLElement), t(label));
    setText(must("#mode-text", HTMLElement), t(MODE_TEXT[this.choice().mode]));
    const hasPicture = (this.media?.getVideoTracks().length ?? 0) > 0;
    const note = this.media
      ? hasPicture
        ? ""
        : t("teach.preview.sound-only")
      : t(this.#opening ? "teach.preview.ask" : "teach.preview.none");
    setText(this.#note, note);
    for (const field of [this.#title, this.#mode]) {
      field.disabled = this.resumable !== null;
    }
    if (this.resumable) {
      this.#title.value = this.resumable.title;
      this.#mode.value = this.resumable.mode;
    }
  }

  /** @param {boolean} shown */
  show(shown) {
    this.#section.hidden = !shown;
  }

  /** Hand the open devices over to the lesson. */
  release() {
    const media = this.media;
    this.media = null;
    this.#video.srcObject = null;
    this.#level.listen(null);
    return media;
  }

  close() {
    stopMedia(this.release());
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {MediaDeviceInfo[]} devices
 * @param {string} chosen
 * @param {string} unnamed key of the words for a device whose name the browser hides
 */
function fill(select, devices, chosen, unnamed) {
  select.replaceChildren(
    ...devices.map((device, index) =>
      h("option", { value: device.deviceId }, device.label || t(unnamed, { n: index + 1 })),
    ),
  );
  if (devices.length === 0) {
    select.append(h("option", { value: "" }, t("media.none")));
  }
  select.disabled = devices.length < 2;
  if (chosen) {
    select.value = chosen;
  }
}
