// @ts-check
/** Draws the wall and what conducts the floor: tiles to enlarge, the stage's layout, warnings. */

import { h, must, patchList, setIcon, setText } from "/static/shared/dom.js";
import { explain } from "/static/shared/explain.js";
import { t } from "/static/shared/i18n.js";

/** @typedef {import("/static/teach/lesson.js").TeacherLesson} TeacherLesson */
/** @typedef {import("/static/teach/floor.js").Source} Source */
/** @typedef {import("/static/shared/types.js").Layout} Layout */
/** @typedef {import("/static/shared/types.js").Seat} Seat */

/** @type {Record<string, string>} */
const LAYOUTS = {
  auto: "stage.auto",
  teacher: "stage.teacher",
  "side-by-side": "stage.side-by-side",
  pip: "stage.pip",
  slides: "stage.slides",
  grid: "stage.grid",
};
/** @type {Record<string, string>} */
const REFUSALS = { "absent-stream": "floor.absent", "no-such-seat": "floor.gone" };

export class WallView {
  /** @type {TeacherLesson | null} */
  #lesson = null;
  #frame = must("#wall-frame", HTMLElement);
  #tiles = must("#wall-tiles", HTMLElement);
  #layout = must("#layout", HTMLSelectElement);

  constructor() {
    this.#layout.addEventListener("change", () => {
      this.#lesson?.floor.show(/** @type {Layout} */ (this.#layout.value));
    });
    must("#answer", HTMLElement).addEventListener("click", () =>
      this.#lesson?.floor.toggleAnswer(),
    );
    must("#mute-all", HTMLElement).addEventListener("click", () =>
      this.#lesson?.floor.muteAll(!this.#allMuted),
    );
    must("#wall-back", HTMLElement).addEventListener("click", () => this.#look(null));
    this.#frame.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.#look(null);
      }
    });
  }

  /** @param {string | null} seat */
  #look(seat) {
    const before = this.#lesson?.floor.enlarged ?? null;
    this.#lesson?.floor.enlarge(seat);
    this.draw(this.#lesson);
    // The pressed button is gone: the focus goes where the way back, or the tile, is.
    if (seat !== null) {
      must("#wall-back", HTMLElement).focus();
    } else if (before !== null) {
      const tile = [...this.#tiles.children].find(
        (child) => child instanceof HTMLElement && child.dataset.key === before,
      );
      if (tile instanceof HTMLElement) {
        tile.focus();
      }
    }
  }

  /**
   * @param {Source} source
   * @param {MediaStream | null} media
   */
  play(source, media) {
    const element =
      source === "wall"
        ? must("#wall-video", HTMLVideoElement)
        : source === "return"
          ? must("#wall-close", HTMLVideoElement)
          : must("#teacher-mix", HTMLAudioElement);
    element.srcObject = media;
    if (media) {
      element.play().catch((error) => {
        if (error instanceof DOMException && error.name === "NotAllowedError") {
          // After a reload the browser wants a gesture before it lets sound out.
          const again = () => element.play().catch(() => undefined);
          document.addEventListener("pointerdown", again, { once: true });
          document.addEventListener("keydown", again, { once: true });
        }
      });
    }
  }

  /** Whether all who are here are muted. */
  get #allMuted() {
    const { present, floor } = /** @type {TeacherLesson} */ (this.#lesson);
    return present.length > 0 && present.every((seat) => floor.isMuted(seat.id));
  }

  /** @param {TeacherLesson | null} lesson */
  draw(lesson) {
    this.#lesson = lesson;
    const showing = lesson?.floor.showing ?? false;
    must("#live", HTMLElement).dataset.wall = String(showing);
    must("#wall-card", HTMLElement).hidden = !showing;
    if (!lesson || !showing) {
      return;
    }
    this.#drawTiles(lesson);
    this.#drawTools(lesson);
  }

  /** @param {TeacherLesson} lesson */
  #drawTiles({ floor, seats }) {
    const { wall, enlarged } = floor;
    const shown = enlarged === null ? (wall?.tiles ?? []) : [];
    patchList(
      this.#tiles,
      shown,
      (tile) => tile.seat,
      (tile) =>
        h("button", {
          type: "button",
          class: "wall-tile",
          "data-testid": "wall-tile",
          onclick: () => this.#look(tile.seat),
        }),
      (button, tile) => {
        const { width, height } = /** @type {{width: number, height: number}} */ (wall);
        button.style.left = `${(100 * tile.x) / width}%`;
        button.style.top = `${(100 * tile.y) / height}%`;
        button.style.width = `${(100 * tile.width) / width}%`;
        button.style.height = `${(100 * tile.height) / height}%`;
        const label = t("wall.enlarge", { name: nameOf(seats, tile.seat) });
        button.setAttribute("aria-label", label);
        button.title = label;
      },
    );
    must("#wall-close", HTMLElement).hidden = enlarged === null;
    must("#wall-back", HTMLElement).hidden = enlarged === null;
    setText(
      must("#wall-back-text", HTMLElement),
      enlarged === null ? "" : t("wall.back", { name: nameOf(seats, enlarged) }),
    );
  }

  /** @param {TeacherLesson} lesson */
  #drawTools({ floor, seats, present }) {
    const { state, howl, stage } = floor;
    if (!state) {
      return;
    }
    setText(
      must("#floor-count", HTMLElement),
      t("floor.count", { count: state.seats.length, size: state.size }),
    );
    if (document.activeElement !== this.#layout || floor.refusal) {
      this.#layout.value = state.layout;
    }
    const now = state.layout === "auto" && stage ? LAYOUTS[stage.layout] : undefined;
    setText(must("#stage-now", HTMLElement), now ? t("stage.now", { layout: t(now) }) : "");
    const answer = must("#answer", HTMLButtonElement);
    answer.dataset.on = String(state.all_answer);
    setText(
      must("span", HTMLElement, answer),
      t(state.all_answer ? "floor.answer.stop" : "floor.answer"),
    );
    const mute = must("#mute-all", HTMLButtonElement);
    mute.disabled = present.length === 0;
    setIcon(mute, this.#allMuted ? "mic" : "mic-off");
    setText(
      must("span", HTMLElement, mute),
      t(this.#allMuted ? "floor.unmute-all" : "floor.mute-all"),
    );
    const howling = howl
      ? howl.seat === null
        ? t("floor.howl.teacher")
        : t("floor.howl", { name: nameOf(seats, howl.seat) })
      : "";
    setText(must("#howl", HTMLElement), howling);
    setText(must("#shed", HTMLElement), floor.shed === "none" ? "" : t("wall.shed"));
    setText(must("#refusal", HTMLElement), floor.refusal ? refused(floor.refusal) : "");
  }
}

/** @param {import("/static/shared/api.js").Problem} problem */
function refused(problem) {
  const { size } = /** @type {{size?: number}} */ (problem.document);
  if (problem.kind === "floor-full") {
    return t("floor.full", { size: size ?? 0 });
  }
  const key = REFUSALS[problem.kind];
  return key ? t(key) : explain(problem).what;
}

/**
 * @param {Seat[]} seats
 * @param {string} id
 */
function nameOf(seats, id) {
  return seats.find((seat) => seat.id === id)?.name ?? t("wall.somebody");
}
