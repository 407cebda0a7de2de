// @ts-check
/**
 * The server's JSON as types: what `docs/protocol.md` describes, for the type checker only.
 *
 * @typedef {"dispatch" | "masterclass" | "open"} Mode
 *
 * @typedef {object} StreamInfo
 * @property {number} cap
 * @property {number} receivers
 * @property {number} waiting
 * @property {boolean} live
 *
 * @typedef {object} Lesson
 * @property {string} id
 * @property {string} title
 * @property {Mode} mode
 * @property {"waiting" | "live" | "ended"} state
 * @property {string} join_code
 * @property {string} join_url
 * @property {string} join_qr
 * @property {number} created_at seconds since 1970
 * @property {number | null} started_at seconds since 1970
 * @property {number | null} ended_at seconds since 1970
 * @property {boolean} recording people are told
 * @property {Record<string, StreamInfo>} streams
 *
 * @typedef {object} SeatQuality
 * @property {"good" | "fair" | "poor"} level
 * @property {number} fps
 * @property {number} loss 0 to 1
 * @property {number | null} rtt_ms
 * @property {number} kbps
 *
 * @typedef {object} Seat
 * @property {string} id
 * @property {string} name
 * @property {string} role
 * @property {"joining" | "receiving" | "reconnecting" | "left"} state
 * @property {string[]} streams
 * @property {number | null} hand since when it is up, seconds since 1970
 * @property {SeatQuality | null} quality
 * @property {{at: number, verdict: "full" | "smaller" | "too-slow", result: import("/static/shared/linetest.js").LineResult} | null} [line] its latest line test
 *
 * @typedef {"auto" | "teacher" | "side-by-side" | "pip" | "slides" | "grid"} Layout
 *
 * @typedef {object} Floor
 * @property {number} size how many may be on it; 0 where the lesson has no returns
 * @property {string[]} seats on the floor, in the order of the grants
 * @property {string[]} queue raised hands, the longest first
 * @property {string[]} muted
 * @property {boolean} all_answer every microphone is open
 * @property {Layout} layout
 *
 * @typedef {object} ReturnSize what a teaching point is to send
 * @property {"off" | "tile" | "full"} quality
 * @property {number} width
 * @property {number} height
 * @property {number} fps
 * @property {number} kbps
 *
 * @typedef {object} Wall
 * @property {number} width of the picture, pixels
 * @property {number} height
 * @property {{seat: string, x: number, y: number, width: number, height: number}[]} tiles
 *
 * @typedef {object} Me
 * @property {string} role
 * @property {string | null} lesson
 * @property {string | null} seat
 * @property {string | null} name
 * @property {number} exp seconds since 1970
 *
 * @typedef {object} Joined
 * @property {string} token
 * @property {{id: string, name: string}} seat
 * @property {Lesson} lesson
 *
 * @typedef {object} ProblemDocument
 * @property {string} [type]
 * @property {string} [title]
 * @property {number} [status]
 * @property {string} [detail]
 * @property {string} [field]
 * @property {number} [cap]
 * @property {number} [position]
 * @property {string} [ticket]
 * @property {string} [stream]
 * @property {string} [incident]
 * @property {{key: string, value: unknown, allowed: string}[]} [errors]
 */
export {};
