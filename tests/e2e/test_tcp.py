"""A network that blocks UDP: the lesson comes over TCP (RFC 6544), on the same port number."""

from __future__ import annotations

import pytest

from tests.e2e.browsers import Browsers
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90, method="signal"),
]

# What such a network leaves of the server's answer: no UDP candidate ever works.
ONLY_TCP = """
const accept = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function (description) {
  const lines = description.sdp.split("\\r\\n");
  const sdp = lines.filter((line) => !/^a=candidate:\\S+ \\d+ udp /i.test(line)).join("\\r\\n");
  return accept.call(this, { type: description.type, sdp });
};
"""


async def test_a_player_without_udp_receives_everything_over_tcp(
    server: RealServer, tabs: Browsers
) -> None:
    lesson = await server.new_lesson()
    stream = f"{lesson['id']}/camera"
    teacher = await tabs.tab("publisher", f"{server.origin}/healthz")
    answer = await teacher.page.evaluate(
        "([url, token]) => window.e2e.publish(url, token)",
        [f"/whip/{stream}", server.token("teacher", lesson=lesson["id"])],
    )
    assert f" {server.media_port} typ host tcptype passive" in answer
    point = await tabs.tab("player", f"{server.origin}/healthz", scripts=(ONLY_TCP,))
    await point.page.evaluate(
        "([url, token]) => window.e2e.watch(url, token)",
        [f"/whep/{stream}", server.token("observer", lesson=lesson["id"])],
    )
    first = await point.receives(frames=25)
    assert first.protocols == ("tcp",)
    later = await point.receives(frames=50, since=first)
    assert later.protocols == ("tcp",)
    assert later.packets_lost == 0
    await point.shows_moving_picture("watched")
    transports = {s["transport"] for s in (await server.stats())["sessions"]}
    assert transports == {"udp", "tcp"}


async def test_a_teacher_without_udp_can_teach(server: RealServer, tabs: Browsers) -> None:
    lesson = await server.new_lesson()
    stream = f"{lesson['id']}/camera"
    teacher = await tabs.tab("publisher", f"{server.origin}/healthz", scripts=(ONLY_TCP,))
    await teacher.page.evaluate(
        "([url, token]) => window.e2e.publish(url, token)",
        [f"/whip/{stream}", server.token("teacher", lesson=lesson["id"])],
    )
    point = await tabs.tab("player", f"{server.origin}/healthz")
    await point.page.evaluate(
        "([url, token]) => window.e2e.watch(url, token)",
        [f"/whep/{stream}", server.token("observer", lesson=lesson["id"])],
    )
    await point.receives(frames=50)
    assert (await teacher.reception()).protocols == ("tcp",)
