"""A viewer gets the layer that its line carries, judged by what a real Chromium decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.browsers import chromium
from tests.net.house import house
from tests.net.impairment import Conditions
from tests.net.pages import measure, whip
from tests.net.proxy import Proxy

pytestmark = pytest.mark.e2e

DELAY_S = 0.02
WIDE = Conditions(rate_bps=4e6, delay_s=DELAY_S, queue_bytes=100_000)
THIN = Conditions(rate_bps=6e5, delay_s=DELAY_S, queue_bytes=60_000)
PATIENCE_S = 30.0

# Three layers of a picture that no encoder can make small, and a tone.
PUBLISH = """async (url) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [960, 540];
  const pen = canvas.getContext("2d");
  document.body.append(canvas);
  let time = 0;
  setInterval(() => {
    time += 1;
    for (let i = 0; i < 40; i += 1) {
      pen.fillStyle = `hsl(${(time * 7 + i * 40) % 360} 70% ${30 + ((i * 13 + time) % 50)}%)`;
      pen.fillRect((i * 173 + time * 9) % 960, (i * 97 + time * 5) % 540, 140, 80);
    }
  }, 66);
  const audio = new AudioContext();
  const tone = audio.createOscillator(), sound = audio.createMediaStreamDestination();
  tone.connect(sound);
  tone.start();
  const tracks = [...canvas.captureStream(15).getTracks(), ...sound.stream.getTracks()];
  const media = new MediaStream(tracks);
  const peer = new RTCPeerConnection();
  window.e2e.peers.push(peer);
  const layers = [
    { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 120000 },
    { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 350000 },
    { rid: "h", maxBitrate: 1200000 },
  ];
  for (const track of media.getTracks()) {
    const sendEncodings = track.kind === "video" ? layers : [{}];
    peer.addTransceiver(track, { direction: "sendonly", streams: [media], sendEncodings });
  }
  await peer.setLocalDescription();
  const answer = await fetch(url, { method: "POST", body: peer.localDescription.sdp });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""

WIDTH = """async () => {
  const all = [...(await window.e2e.peers.at(-1).getStats()).values()];
  return all.find((one) => one.type === "inbound-rtp" && one.kind === "video")?.frameWidth ?? 0;
}"""


async def becomes(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110 - a page has no event for it
                await asyncio.sleep(0.25)
    except TimeoutError:
        pytest.fail(f"not within {PATIENCE_S:.0f} s: {what}")


async def test_the_layer_follows_the_line_down_and_up_again() -> None:
    async with (
        house() as home,
        whip(home) as pages,
        Proxy(home.address, down=WIDE) as line,
        chromium() as browsers,
    ):
        pages.lines["school"] = line
        teacher = await browsers.tab("teacher", pages.origin)
        await teacher.page.evaluate(PUBLISH, "/whip/teacher")
        school = await pages.watch(browsers, "school")

        async def width() -> int:
            return int(await school.page.evaluate(WIDTH))

        async def is_full() -> bool:
            return await width() == 960

        async def is_small() -> bool:
            return 0 < await width() < 960

        await becomes("the wide line carries the full size", is_full)
        line.change(down=THIN)
        await becomes("the thin line is given a smaller layer", is_small)
        before = await measure(school.page)
        await asyncio.sleep(2)
        assert (await measure(school.page) - before).frames_decoded > 5
        line.change(down=WIDE)
        await becomes("the line that came back is used again", is_full)
