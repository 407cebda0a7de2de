"""Chromium with a fake camera and microphone, and what a test asks of a page.

Nothing here trusts an element for being there: what counts is frames decoded, sound energy and
pixels, measured by `in_page.js`, which records every peer connection a page opens.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests import media
from tests.e2e.polling import until

CHROMIUM = "/usr/bin/chromium"
IN_PAGE = Path(__file__).with_name("in_page.js")
STEP_LIMIT_MS = 10_000

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--force-webrtc-ip-handling-policy=default",
    "--auto-accept-this-tab-capture",
    "--auto-select-desktop-capture-source=Entire screen",
]


@dataclass(frozen=True)
class Reception:
    """What all living peer connections of a page received (and sent) so far, added up."""

    peers: int = 0
    states: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    frames: int = 0
    freezes: int = 0
    audio_energy: float = 0.0
    audio_packets: int = 0
    video_packets: int = 0
    packets_lost: int = 0
    frames_sent: int = 0
    audio_packets_sent: int = 0
    video_codecs: tuple[str, ...] = ()
    audio_codecs: tuple[str, ...] = ()
    each_frames: tuple[int, ...] = ()

    @classmethod
    def of(cls, measured: list[dict[str, Any]]) -> Reception:
        def total(name: str) -> Any:
            return sum(one[name] for one in measured)

        def names(name: str) -> tuple[str, ...]:
            return tuple(sorted({one[name] for one in measured} - {""}))

        return cls(
            peers=len(measured),
            states=names("state"),
            protocols=names("protocol"),
            frames=total("frames"),
            freezes=total("freezes"),
            audio_energy=total("audio_energy"),
            audio_packets=total("audio_packets"),
            video_packets=total("video_packets"),
            packets_lost=total("packets_lost"),
            frames_sent=total("frames_sent"),
            audio_packets_sent=total("audio_packets_sent"),
            video_codecs=names("video_codec"),
            audio_codecs=names("audio_codec"),
            each_frames=tuple(one["frames"] for one in measured),
        )


@dataclass
class Tab:
    """One page in a context of its own (so: its own storage), with its console errors."""

    name: str
    page: Page
    console_errors: list[str] = field(default_factory=list)

    def by(self, testid: str) -> Any:
        return self.page.get_by_test_id(testid)

    async def reception(self) -> Reception:
        return Reception.of(await self.page.evaluate("window.e2e.measure()"))

    async def receives(
        self,
        *,
        frames: int,
        within_s: float = 15,
        since: Reception | None = None,
        sound: bool = True,
    ) -> Reception:
        """Wait until that many more frames were decoded, and sound with energy in it was heard."""
        before = since or Reception()

        def enough(now: Reception) -> bool:
            heard = now.audio_energy > before.audio_energy and now.audio_packets > 0
            return now.frames >= before.frames + frames and (heard or not sound)

        return await until(
            self.reception,
            enough,
            within_s=within_s,
            what=f"{self.name} decodes {frames} more frames{' and hears sound' if sound else ''}",
        )

    async def shows_moving_picture(self, testid: str, within_s: float = 10) -> None:
        """Wait until the <video> shows something that is not one flat colour, and changes."""
        seen: dict[int, float] = {}

        async def look() -> int:
            now = await self.page.evaluate("(testid) => window.e2e.look(testid)", testid)
            if now and now["mean"] > 8 and now["contrast"] > 30:
                seen[now["hash"]] = now["mean"]
            return len(seen)

        await until(
            look,
            lambda different: different >= 3,
            within_s=within_s,
            what=f"{self.name} shows a picture that moves in {testid}",
        )

    async def state_is(self, testid: str, *wanted: str, within_s: float = 10) -> None:
        """Wait until an element's `data-state` is one of those."""

        async def look() -> str | None:
            state: str | None = await self.page.evaluate(
                '(id) => document.querySelector(`[data-testid="${id}"]`)?.dataset.state ?? null',
                testid,
            )
            return state

        await until(
            look,
            lambda state: state in wanted,
            within_s=within_s,
            what=f"{self.name}: {testid} is in state {' or '.join(wanted)}",
        )

    async def close(self) -> None:
        await self.page.context.close()


@dataclass
class Browsers:
    """One Chromium process; every tab it opens is closed with it."""

    chromium: Browser
    tabs: list[Tab] = field(default_factory=list)

    async def tab(
        self,
        name: str,
        url: str,
        *,
        locale: str = "zh-CN",
        size: tuple[int, int] = (960, 540),
        scripts: tuple[str, ...] = (),
    ) -> Tab:
        """Open a page as a new visitor. `scripts` run in it before its own."""
        width, height = size
        context: BrowserContext = await self.chromium.new_context(
            locale=locale, viewport={"width": width, "height": height}
        )
        context.set_default_timeout(STEP_LIMIT_MS)
        await context.grant_permissions(["camera", "microphone"])
        await context.add_init_script(path=IN_PAGE)
        for script in scripts:
            await context.add_init_script(script)
        page = await context.new_page()
        tab = Tab(name, page)

        def console(message: ConsoleMessage) -> None:
            if message.type == "error":
                tab.console_errors.append(f"{message.text} ({message.location.get('url', '')})")

        page.on("console", console)
        page.on("pageerror", lambda error: tab.console_errors.append(f"uncaught: {error}"))
        self.tabs.append(tab)
        await page.goto(url)
        return tab

    async def close_tabs(self) -> None:
        for tab in self.tabs:
            await tab.close()
        self.tabs.clear()

    def console_errors(self) -> dict[str, list[str]]:
        return {tab.name: tab.console_errors for tab in self.tabs if tab.console_errors}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browsers]:
    """A headless Chromium whose camera shows the clip and whose microphone hears the speech."""
    async with async_playwright() as playwright:
        process = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, *_devices()], timeout=30_000
        )
        try:
            yield Browsers(process)
        finally:
            await process.close()


def _devices() -> list[str]:
    # Relative, because pages show the path as the name of the camera.
    camera = os.path.relpath(media.camera())
    return [
        f"--use-file-for-fake-video-capture={camera}",
        f"--use-file-for-fake-audio-capture={media.speech()}",
    ]
