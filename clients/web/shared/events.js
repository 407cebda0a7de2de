// @ts-check
/** The page's WebSocket to one lesson: says hello, hands events on, and opens again when it breaks. */

/** @typedef {{type: string, [field: string]: any}} LessonEvent */

const FIRST_DELAY_MS = 500;
const LAST_DELAY_MS = 5_000;

export class LessonEvents {
  /** @type {WebSocket | null} */
  #socket = null;
  #closed = false;
  #delayMs = FIRST_DELAY_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {string} lessonId
   * @param {string} token
   * @param {(event: LessonEvent) => void} onEvent
   * @param {(connected: boolean) => void} [onConnected]
   */
  constructor(lessonId, token, onEvent, onConnected = () => {}) {
    this.url = new URL(
      `/api/v1/lessons/${encodeURIComponent(lessonId)}/events`,
      location.href.replace(/^http/, "ws"),
    ).href;
    this.token = token;
    this.onEvent = onEvent;
    this.onConnected = onConnected;
    this.#open();
  }

  #open() {
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      socket.send(JSON.stringify({ type: "hello", token: this.token }));
    });
    socket.addEventListener("message", (message) => {
      if (this.#closed) {
        return;
      }
      const event = JSON.parse(message.data);
      if (event.type === "welcome") {
        this.#delayMs = FIRST_DELAY_MS;
        this.onConnected(true);
      }
      this.onEvent(event);
    });
    socket.addEventListener("close", () => {
      if (this.#closed) {
        return;
      }
      this.onConnected(false);
      this.#timer = setTimeout(() => this.#open(), this.#delayMs);
      this.#delayMs = Math.min(this.#delayMs * 1.8, LAST_DELAY_MS);
    });
  }

  /**
   * Send a message, if the socket is open; says whether it was.
   *
   * @param {LessonEvent} message
   */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return false;
    }
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }
}
