"""Who may do what with a lesson; the table of docs/protocol.md as functions."""

from __future__ import annotations

from signaling.lessons import Lesson
from signaling.problems import Problem
from signaling.tokens import Claims


def owns(claims: Claims, lesson: Lesson) -> bool:
    """Whether the token may run the lesson: its teacher, or operations."""
    if claims.role == "ops":
        return True
    if claims.role != "teacher":
        return False
    if claims.lesson is not None:
        return claims.lesson == lesson.id
    return claims.sub == lesson.owner


def may_see(claims: Claims, lesson: Lesson) -> bool:
    """Whether the token opens the lesson. A teacher's without a lesson opens only own ones."""
    if owns(claims, lesson):
        return True
    if claims.role == "teacher":
        return False
    return claims.lesson is None or claims.lesson == lesson.id


def require(allowed: bool, claims: Claims) -> None:
    """Raises Problem `forbidden` unless `allowed`."""
    if not allowed:
        raise Problem("forbidden", detail_args={"role": claims.role})


def require_owner(claims: Claims, lesson: Lesson) -> None:
    require(owns(claims, lesson), claims)


def require_sight(claims: Claims, lesson: Lesson) -> None:
    require(may_see(claims, lesson), claims)


def require_ops(claims: Claims) -> None:
    require(claims.role == "ops", claims)
