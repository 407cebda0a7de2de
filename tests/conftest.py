"""Puts the repository's root on the import path; runs what leans on browsers and timing again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

STARTING_PROCESSES = (
    "tests/clients/",
    "tests/mixer/test_process",
    "tests/mixer/test_with_worker",
    "tests/signaling/test_supervisor",
    "tests/signaling/test_mixers",
    "tests/streamer/test_recording_process",
    "tests/streamer/test_worker",
)

# A busy machine is no defect, so examples have no deadline. CI runs the same examples every time: a
# change is judged by what it changed; new examples are for whoever sits in front of the failure.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts browsers, servers or encoders starves now and then on a busy two-core machine.

    Such a test gets another try (real browsers and bad networks two). A rerun is reported (R), so
    one that needs it often is seen; pure decisions get none.
    """
    for item in items:
        browsers = item.get_closest_marker("e2e") is not None or "tests/net/" in item.nodeid
        processes = any(name in item.nodeid for name in STARTING_PROCESSES)
        if browsers or processes:
            item.add_marker(pytest.mark.flaky(reruns=2 if browsers else 1))
