// @ts-check
/**
 * What a teaching point sends back, without any drawing: consent, camera and microphone, and the
 * quality that the server asks for. The two local switches win over everything: what is switched off
 * is closed at the device, and stays off until it is switched on here.
 */

import { DeviceError, openDevices, stopMedia } from "/static/shared/media.js";
import { lasting } from "/static/shared/storage.js";
import { WhipPublisher } from "/static/shared/whip.js";

/** @typedef {import("/static/shared/types.js").ReturnSize} ReturnSize */
/** @typedef {"camera" | "microphone"} Device */

/** @type {Record<Device, "video" | "audio">} */
const KIND = { camera: "video", microphone: "audio" };
const CONSENT = "join-return";

export class Returning {
  /** @type {ReturnSize | null} what the server asks for */
  size = null;
  /** @type {"yes" | "no" | null} the class's answer; null: not asked yet */
  consent = answerOf(lasting.get(CONSENT));
  /** The class looks at itself, and nothing is sent yet. */
  previewing = false;
  /** The browser is asking, or the devices are opening. */
  opening = false;
  /** @type {unknown} why a device did not open */
  error = null;
  /** @type {MediaStream | null} what is open now; a new object after every change */
  media = null;
  /** @type {WhipPublisher | null} */
  publisher = null;

  /** @type {Record<Device, boolean>} the local switches, remembered */
  #on = {
    camera: lasting.get("join-camera") !== "off",
    microphone: lasting.get("join-microphone") !== "off",
  };
  /** @type {Set<Device>} what this computer does not have, or does not give */
  #absent = new Set();
  #over = false;

  /** @param {{lesson: string, token: string, iceServers: RTCIceServer[], onChange: () => void}} options */
  constructor(options) {
    this.options = options;
  }

  /** Whether the lesson's mode wants returns at all. */
  get offered() {
    return this.size !== null && this.size.quality !== "off";
  }

  /** Whether the class is to be asked now. */
  get asks() {
    return this.offered && (this.consent === null || this.previewing) && !this.#over;
  }

  /** @param {Device} device */
  isOn(device) {
    return this.#on[device];
  }

  /** @param {Device} device */
  has(device) {
    return this.media?.getTracks().some((track) => track.kind === KIND[device]) ?? false;
  }

  /** @param {Device} device */
  sends(device) {
    return this.has(device) && this.publisher?.state === "connected";
  }

  /** @param {ReturnSize} size */
  follow(size) {
    this.size = size;
    this.publisher?.limit(limitsOf(size));
    this.#apply();
  }

  /** Open the devices and show them to the class itself. @param {{camera: boolean}} what */
  async preview({ camera }) {
    this.previewing = true;
    this.#absent.clear();
    this.#switch("camera", camera);
    this.#switch("microphone", true);
    await this.#apply();
  }

  /** The class agrees to be seen and heard. */
  agree() {
    this.previewing = false;
    this.#answer("yes");
  }

  /** The class only watches. */
  decline() {
    this.previewing = false;
    this.#answer("no");
  }

  /** @param {"yes" | "no"} consent */
  #answer(consent) {
    this.consent = consent;
    lasting.set(CONSENT, consent);
    this.error = null;
    this.#apply();
  }

  /** @param {Device} device */
  toggle(device) {
    this.#absent.delete(device);
    this.error = null;
    this.#switch(device, !this.#on[device]);
    this.#apply();
  }

  /**
   * @param {Device} device
   * @param {boolean} on
   */
  #switch(device, on) {
    this.#on[device] = on;
    lasting.set(`join-${device}`, on ? "on" : "off");
  }

  /** Bring devices and session to what is wanted now; off comes first, and at once. */
  async #apply() {
    const open = this.previewing || (this.consent === "yes" && this.offered && !this.#over);
    const tracks = this.media?.getTracks() ?? [];
    const kept = tracks.filter((track) => open && this.#wants(track));
    for (const track of tracks.filter((one) => !kept.includes(one))) {
      track.stop();
    }
    if (kept.length !== tracks.length) {
      this.media = kept.length > 0 ? new MediaStream(kept) : null;
    }
    this.#publish();
    this.options.onChange();
    if (open && !this.opening) {
      await this.#openMissing();
    }
  }

  /** @param {MediaStreamTrack} track */
  #wants(track) {
    return track.readyState === "live" && this.#on[track.kind === "video" ? "camera" : "microphone"];
  }

  /** @param {Device} device */
  #misses(device) {
    return this.#on[device] && !this.#absent.has(device) && !this.has(device);
  }

  async #openMissing() {
    const missing = { camera: this.#misses("camera"), microphone: this.#misses("microphone") };
    if (!missing.camera && !missing.microphone) {
      return;
    }
    this.opening = true;
    this.options.onChange();
    try {
      const opened = await openDevices({ camera: null, microphone: null }, missing);
      this.#adopt(opened);
    } catch (error) {
      this.error = error;
      this.#doWithout(error, missing);
    }
    this.opening = false;
    // Meanwhile a switch may have been turned, or the other device may open alone.
    await this.#apply();
  }

  /** @param {MediaStream} opened */
  #adopt(opened) {
    for (const track of opened.getTracks()) {
      // A device that is pulled out is missed, and not asked for again until it is switched on.
      track.addEventListener("ended", () => {
        this.#absent.add(track.kind === "video" ? "camera" : "microphone");
        this.error = new DeviceError("AbortError", track.kind === "video" ? "camera" : "microphone");
        this.#apply();
      });
    }
    this.media = new MediaStream([...(this.media?.getTracks() ?? []), ...opened.getTracks()]);
  }

  /**
   * Sound alone is worth sending, and so is a picture alone.
   *
   * @param {unknown} error
   * @param {Record<Device, boolean>} missing
   */
  #doWithout(error, missing) {
    const device = error instanceof DeviceError ? error.device : "both";
    for (const one of /** @type {Device[]} */ (["camera", "microphone"])) {
      if (missing[one] && (device === one || device === "both")) {
        this.#absent.add(one);
      }
    }
  }

  #publish() {
    const { media, size } = this;
    const wanted = this.consent === "yes" && !this.previewing && this.offered && !this.#over;
    if (!wanted || !media || !size) {
      this.publisher?.close();
      this.publisher = null;
      return;
    }
    if (!this.publisher) {
      this.publisher = new WhipPublisher({
        ...this.options,
        stream: "return",
        media,
        degradation: "maintain-framerate",
        ...limitsOf(size),
      });
      this.publisher.start();
    } else if (this.publisher.media !== media) {
      this.publisher.replaceMedia(media);
    }
  }

  rejoin() {
    this.publisher?.rejoin();
  }

  retryNow() {
    this.publisher?.retryNow();
  }

  /** @param {{tellServer?: boolean}} [options] false where the server ended it */
  close(options = {}) {
    this.#over = true;
    this.previewing = false;
    this.publisher?.close(options);
    this.publisher = null;
    stopMedia(this.media);
    this.media = null;
  }
}

/** @param {ReturnSize} size */
function limitsOf(size) {
  return { maxKbps: size.kbps, maxFps: size.fps, maxHeight: size.height };
}

/** @param {string | null} remembered */
function answerOf(remembered) {
  return remembered === "yes" || remembered === "no" ? remembered : null;
}
