"""The fixtures of the end-to-end tests: a real server and a real browser per module.

A failing test shows the end of the server's log; a server that logged a traceback or left a
process behind fails the tests that used it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.browsers import Browsers, chromium
from tests.e2e.polling import Figures
from tests.e2e.processes import Ports
from tests.e2e.real_server import RealServer

SHOWN_LOG_CHARACTERS = 8_000
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def ports() -> Iterator[Ports]:
    taken = Ports()
    yield taken
    taken.give_back()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ports: Ports
) -> AsyncIterator[RealServer]:
    """A running `tongke serve`. A module may set `SERVER_SETTINGS` to add to its settings."""
    folder: Path = tmp_path_factory.mktemp("server")
    started = RealServer(folder, ports, getattr(request.module, "SERVER_SETTINGS", None))
    try:
        await started.start()
        yield started
        assert started.running, f"the server died during the tests:\n{_tail(started)}"
        await started.stop()
        log = started.log()
        assert "Traceback" not in log, f"the server logged a traceback:\n{log}"
    finally:
        started.kill()
        await started.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browsers() -> AsyncIterator[Browsers]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(browsers: Browsers) -> AsyncIterator[Browsers]:
    """The module's browser, with the tabs of one test closed after it."""
    yield browsers
    await browsers.close_tabs()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Sentences with what a test measured, shown at the end of the run."""
    measured: Figures = []
    yield measured
    shown = request.config.stash.setdefault(FIGURES, [])
    shown.extend(f"{request.node.name}: {sentence}" for sentence in measured)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for sentence in terminalreporter.config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"measured: {sentence}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, RealServer):
        report.sections.append(("end of the server's log", _tail(server)))
    browsers = getattr(item, "funcargs", {}).get("tabs")
    if report.failed and isinstance(browsers, Browsers):
        report.sections.append(("console errors of the pages", repr(browsers.console_errors())))


def _tail(server: RealServer) -> str:
    return server.log()[-SHOWN_LOG_CHARACTERS:]
