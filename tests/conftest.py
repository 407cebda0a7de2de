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

# A busy machine is no defect, so examples have no deadline. CI runs the same examples every time: a
# change is judged by what it changed; new examples are for whoever sits in front of the failure.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real browsers on a busy two-core machine now and then starve: they get two more tries.

    A rerun is reported (R), so a test that needs it often is seen.
    """
    for item in items:
        if item.get_closest_marker("e2e") is not None or "tests/net/" in item.nodeid:
            item.add_marker(pytest.mark.flaky(reruns=2))
