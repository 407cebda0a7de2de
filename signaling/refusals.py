"""What a client is told when it gets no media session: the cap, or the worker, has refused."""

from __future__ import annotations

import logging

from signaling.admission import Refused, StreamAdmission, Waiting
from signaling.problems import Problem
from signaling.supervisor import WorkerRefusedError

log = logging.getLogger(__name__)


def reason(decision: Waiting | Refused) -> str:
    """The name under which a refusal is counted."""
    return "receiver-cap-reached" if isinstance(decision, Waiting) else decision.reason


def at_the_cap(stream: str, places: StreamAdmission, decision: Waiting | Refused) -> Problem:
    """The stream is full; with the place in the waiting list, unless that is full as well."""
    extra: dict[str, object] = {"cap": places.cap, "stream": stream}
    if isinstance(decision, Waiting):
        extra |= {
            "position": decision.position,
            "ticket": decision.ticket,
            "expected_wait_s": decision.expected_wait_s,
            "full": decision.level,
        }
        return Problem("receiver-cap-reached", retry_after=decision.retry_after_s, extra=extra)
    return Problem(
        "receiver-cap-reached", extra=extra, detail_args={"waiting_list": places.waiting_limit}
    )


def by_worker(error: WorkerRefusedError) -> Problem:
    """The worker could not serve a request."""
    match error.code:
        case "invalid-sdp":
            return Problem(
                "invalid-sdp", field=error.field or None, detail_args={"reason": error.detail}
            )
        case "no-such-session" | "stale-etag" | "too-many-sessions":
            return Problem(error.code)
        case _:
            log.error("a worker could not serve a request: %s: %s", error.code, error.detail)
            return Problem("worker-unavailable")
