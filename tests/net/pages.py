"""Ten lines of WHIP and WHEP over an in-process worker, for pages behind bad lines.

A page posts to `/whip/{name}` or `/whep/{name}`: `name` is the session's id and chooses the proxy
that the answer's candidates point at (none of that name: the worker itself).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from playwright.async_api import Page

from streamer import control
from tests.e2e.browsers import Browsers, Tab
from tests.net.house import House
from tests.net.proxy import Proxy, through

FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"

# What getStats of a page's newest peer connection says, one number per name of `Seen`.
MEASURE = """async () => {
  const peer = window.e2e.peers.at(-1);
  const all = [...(await peer.getStats()).values()];
  const of = (type, kind) => all.find((one) => one.type === type && one.kind === kind) ?? {};
  const picture = of("inbound-rtp", "video"), sound = of("inbound-rtp", "audio");
  const camera = of("outbound-rtp", "video");
  const number = (value) => value ?? 0;
  return {
    state: peer.connectionState,
    frames_decoded: number(picture.framesDecoded),
    key_frames_decoded: number(picture.keyFramesDecoded),
    freezes: number(picture.freezeCount),
    frozen_s: number(picture.totalFreezesDuration),
    packets_received: number(picture.packetsReceived),
    packets_lost: number(picture.packetsLost),
    packets_repaired: number(picture.retransmittedPacketsReceived),
    nacks_sent: number(picture.nackCount),
    plis_sent: number(picture.pliCount),
    samples: number(sound.totalSamplesReceived),
    samples_concealed: number(sound.concealedSamples) - number(sound.silentConcealedSamples),
    energy: number(sound.totalAudioEnergy),
    frames_sent: number(camera.framesSent),
    packets_resent: number(camera.retransmittedPacketsSent),
    nacks_received: number(camera.nackCount),
  };
}"""

# RFC 9725 section 4.3.2: the new credentials go up, the server's come back, nothing else changes.
RESTART = """async (url) => {
  const peer = window.e2e.peers.at(-1);
  const value = (text, name) => text.match(new RegExp(`^a=${name}:(.*)$`, "m"))[1].trim();
  const answer = peer.remoteDescription.sdp;
  await peer.setLocalDescription(await peer.createOffer({ iceRestart: true }));
  const mine = peer.localDescription.sdp;
  const lines = [`a=ice-ufrag:${value(mine, "ice-ufrag")}`, `a=ice-pwd:${value(mine, "ice-pwd")}`,
    "m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0"];
  const response = await fetch(url, {
    method: "PATCH",
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
    body: lines.join("\\r\\n") + "\\r\\n",
  });
  const fragment = await response.text();
  if (response.status !== 200) throw new Error(`${response.status} ${fragment}`);
  let sdp = answer;
  for (const name of ["ice-ufrag", "ice-pwd"]) {
    sdp = sdp.replace(new RegExp(`^a=${name}:.*$`, "gm"), `a=${name}:${value(fragment, name)}`);
  }
  await peer.setRemoteDescription({ type: "answer", sdp });
}"""


@dataclass(frozen=True)
class Seen:
    """What a page's peer connection did so far; subtract two for what happened in between."""

    state: str
    frames_decoded: int
    key_frames_decoded: int
    freezes: int
    frozen_s: float
    packets_received: int
    packets_lost: int
    packets_repaired: int
    nacks_sent: int
    plis_sent: int
    samples: int
    samples_concealed: int
    energy: float
    frames_sent: int
    packets_resent: int
    nacks_received: int

    def __sub__(self, earlier: Self) -> Seen:
        return Seen(
            self.state,
            **{
                name: getattr(self, name) - getattr(earlier, name)
                for name in self.__dataclass_fields__
                if name != "state"
            },
        )

    @property
    def concealed(self) -> float:
        """The share of the sound that had to be made up."""
        return self.samples_concealed / self.samples if self.samples else 1.0


async def measure(page: Page) -> Seen:
    return Seen(**await page.evaluate(MEASURE))


class Whip:
    """The HTTP side: opens sessions of one output in a house, through its lines."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.lines: dict[str, Proxy] = {}
        self.origin = ""
        self.application = web.Application()
        self.application.router.add_get("/", self._page)
        self.application.router.add_post("/{role:whip|whep}/{name}", self._open)
        self.application.router.add_patch("/session/{name}", self._patch)

    async def publish(self, browsers: Browsers, name: str) -> Tab:
        """A new tab that sends the camera's picture and sound."""
        return await self._tab(browsers, name, "publish", f"/whip/{name}")

    async def watch(self, browsers: Browsers, name: str) -> Tab:
        return await self._tab(browsers, name, "watch", f"/whep/{name}")

    async def _tab(self, browsers: Browsers, name: str, action: str, path: str) -> Tab:
        tab = await browsers.tab(name, self.origin)
        await tab.page.evaluate(f"(url) => window.e2e.{action}(url, '', 'vp8')", path)
        return tab

    async def restart(self, tab: Tab) -> None:
        """An ICE restart of a tab's connection."""
        await tab.page.evaluate(RESTART, f"/session/{tab.name}")

    def _led(self, name: str, text: str) -> str:
        line = self.lines.get(name)
        # UDP alone: what these tests are about is what UDP loses.
        return through(text, line.address if line else self.house.address, ("udp",))

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>line</title>", content_type="text/html")

    async def _open(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        role = "publisher" if request.match_info["role"] == "whip" else "receiver"
        answer = self.house.open(role, name, await request.text())
        return web.Response(
            status=201, text=self._led(name, answer), content_type="application/sdp"
        )

    async def _patch(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        reply = self.house.ask(
            control.PatchSession,
            session_id=name,
            fragment=await request.text(),
            if_match=request.headers["If-Match"],
        )
        assert isinstance(reply, control.Patched), reply
        fragment = self._led(name, reply.fragment or "")
        return web.Response(status=200, text=fragment, content_type=FRAGMENT_TYPE)


@asynccontextmanager
async def whip(house: House) -> AsyncIterator[Whip]:
    """Serve it on loopback."""
    served = Whip(house)
    runner = web.AppRunner(served.application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        served.origin = f"http://{host}:{port}/"
        yield served
    finally:
        await runner.cleanup()
