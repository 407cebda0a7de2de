// @ts-check
/** How a classroom receives, in words, with the icon and the level that go with them. */

/** @typedef {import("/static/shared/types.js").Seat} Seat */
/** @typedef {{key: string, icon: string, level: "good" | "fair" | "poor" | "none"}} Reception */

/**
 * @param {Seat} seat
 * @returns {Reception}
 */
export function receptionOf(seat) {
  if (seat.state === "joining") {
    return { key: "seat.joining", icon: "pending", level: "none" };
  }
  if (seat.state === "reconnecting") {
    return { key: "seat.reconnecting", icon: "reconnecting", level: "poor" };
  }
  switch (seat.quality?.level) {
    case "good":
      return { key: "seat.good", icon: "good", level: "good" };
    case "fair":
      return { key: "seat.fair", icon: "fair", level: "fair" };
    case "poor":
      return { key: "seat.poor", icon: "poor", level: "poor" };
    default:
      return { key: "seat.receiving", icon: "good", level: "none" };
  }
}
