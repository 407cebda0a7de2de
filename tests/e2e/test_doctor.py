"""`tongke doctor` beside a running server: its ports are its own, its media addresses answer."""

from __future__ import annotations

import pytest

from tests.e2e.commands import Command
from tests.e2e.real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

# The second is of a range for documentation (RFC 5737): nothing answers there.
SERVER_SETTINGS = {"server.announce": '["127.0.0.1", "192.0.2.99"]'}


async def test_announced_addresses_are_tried_by_a_test_client(server: RealServer) -> None:
    async with Command(server.folder, "doctor", "--json", *server.arguments()) as command:
        outcome = await command.outcome(within_s=60)
    found = {finding["name"]: finding for finding in outcome.json["findings"]}
    port = server.media_port
    assert found[f"port {server.port}/tcp"]["level"] == "ok"
    assert found[f"port {port}/udp"]["level"] == "ok"
    for kind in ("udp", "tcp"):
        assert found[f"media {kind} 127.0.0.1:{port}"]["level"] == "ok"
        missing = found[f"media {kind} 192.0.2.99:{port}"]
        assert missing["level"] == "warn" and kind.upper() in missing["mend"]
    # The lesson it opened for that is over.
    listed = await server.api("GET", "/lessons", token=server.token("ops"))
    assert all(lesson["state"] == "ended" for lesson in listed["lessons"])
    assert outcome.status == (0 if outcome.json["ok"] else 1)
