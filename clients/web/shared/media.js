// @ts-check
/** Opens cameras, microphones and screens, names the devices, and measures the loudness of a voice. */

/** @typedef {{camera: string | null, microphone: string | null}} Chosen device ids, null = any */
/** @typedef {{camera: boolean, microphone: boolean}} Wanted */

/** A browser hides cameras from pages that came over plain http (but for localhost). */
export class InsecureContextError extends Error {}

/** A refused device, with what had been asked for. */
export class DeviceError extends Error {
  /**
   * @param {string} reason the DOMException's name
   * @param {"camera" | "microphone" | "both"} device which one it was, as far as one can tell
   */
  constructor(reason, device) {
    super(`${device}: ${reason}`);
    this.reason = reason;
    this.device = device;
  }
}

const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 25, max: 30 } };
const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * @param {Chosen} chosen
 * @param {Wanted} wanted
 */
export async function openDevices(chosen, wanted) {
  if (!navigator.mediaDevices) {
    throw new InsecureContextError();
  }
  try {
    return await navigator.mediaDevices.getUserMedia(constraints(chosen, wanted));
  } catch (error) {
    const reason = error instanceof DOMException ? error.name : "Error";
    if (reason === "OverconstrainedError" && (chosen.camera || chosen.microphone)) {
      // The device of last time is not plugged in today.
      return openDevices({ camera: null, microphone: null }, wanted);
    }
    throw new DeviceError(reason, await culprit(reason, chosen, wanted));
  }
}

/**
 * @param {Chosen} chosen
 * @param {Wanted} wanted
 * @returns {MediaStreamConstraints}
 */
function constraints(chosen, wanted) {
  const camera = chosen.camera ? { ...PICTURE, deviceId: { exact: chosen.camera } } : PICTURE;
  const microphone = chosen.microphone
    ? { ...SOUND, deviceId: { exact: chosen.microphone } }
    : SOUND;
  return { video: wanted.camera && camera, audio: wanted.microphone && microphone };
}

/**
 * Which device made a joint request fail: the one that is not there, or the one that fails alone.
 *
 * @param {string} reason
 * @param {Chosen} chosen
 * @param {Wanted} wanted
 */
async function culprit(reason, chosen, wanted) {
  if (!wanted.camera || !wanted.microphone) {
    return wanted.camera ? "camera" : "microphone";
  }
  if (reason === "NotFoundError") {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const camera = devices.some((device) => device.kind === "videoinput");
    const microphone = devices.some((device) => device.kind === "audioinput");
    return camera === microphone ? "both" : camera ? "microphone" : "camera";
  }
  if (reason === "NotReadableError") {
    try {
      const sound = await navigator.mediaDevices.getUserMedia(
        constraints(chosen, { camera: false, microphone: true }),
      );
      stopMedia(sound);
      return "camera";
    } catch {
      return "microphone";
    }
  }
  return "both";
}

/** The screen or window that the teacher picks, with its sound where the browser can. */
export async function openScreen() {
  if (!navigator.mediaDevices?.getDisplayMedia) {
    throw new InsecureContextError();
  }
  const media = await navigator.mediaDevices.getDisplayMedia({
    video: { width: { max: 1920 }, height: { max: 1080 }, frameRate: { ideal: 15, max: 15 } },
    audio: true,
  });
  for (const track of media.getVideoTracks()) {
    track.contentHint = "detail";
  }
  return media;
}

export async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return {
    cameras: devices.filter((device) => device.kind === "videoinput"),
    microphones: devices.filter((device) => device.kind === "audioinput"),
  };
}

/** @param {MediaStream | null} media */
export function stopMedia(media) {
  for (const track of media?.getTracks() ?? []) {
    track.stop();
  }
}

/** How loud the microphone of a stream is, 0 to 1, on a scale where ordinary speech is about half. */
export class LoudnessMeter {
  /** @param {MediaStream} media */
  constructor(media) {
    this.context = new AudioContext();
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.context.createMediaStreamSource(media).connect(this.analyser);
  }

  read() {
    if (this.context.state === "suspended") {
      this.context.resume();
    }
    this.analyser.getFloatTimeDomainData(this.samples);
    let power = 0;
    for (const sample of this.samples) {
      power += sample * sample;
    }
    const decibels = 10 * Math.log10(power / this.samples.length + 1e-10);
    return Math.min(1, Math.max(0, (decibels + 60) / 50));
  }

  close() {
    this.context.close();
  }
}
