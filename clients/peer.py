"""One WHIP or WHEP session of a command-line client: an aiortc peer and its HTTP session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from .sdp import end_of_candidates
from .whip import Liveness, Session, WhipClient
from .words import say

CONNECT_TIMEOUT_S = 12.0
CLOSE_TIMEOUT_S = 3.0
DEAD_STATES = ("failed", "closed", "disconnected")
PROBE_AFTER_S = 2.0
PROBE_AGAIN_S = 2.0
GIVE_UP_UNKNOWN_S = 8.0


class LinkLostError(Exception):
    """The session is over through no wish of ours; `str()` says why, in the user's language."""


def new_peer() -> RTCPeerConnection:
    """A peer without STUN servers: the media server is the one with the public address.

    The bundle policy stays at `balanced`: with `max-bundle` aiortc looks for candidates in the
    last section of an answer, while RFC 8843 has them in the first.
    """
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


class Pulse:
    """Decides when silence deserves a question and when it means that the session is dead."""

    def __init__(self, now_s: float) -> None:
        self._beat_s = now_s
        self._asked_s = now_s
        self._mark: object = None

    def observe(self, mark: object, now_s: float) -> None:
        """`mark` is anything that changes whenever the server was heard."""
        if mark != self._mark:
            self._mark = mark
            self._beat_s = self._asked_s = now_s

    def silent_s(self, now_s: float) -> float:
        return now_s - self._beat_s

    def should_probe(self, now_s: float) -> bool:
        if self.silent_s(now_s) < PROBE_AFTER_S:
            return False
        if self._asked_s > self._beat_s and now_s - self._asked_s < PROBE_AGAIN_S:
            return False
        self._asked_s = now_s
        return True

    def verdict(self, liveness: Liveness, now_s: float) -> bool:
        """True when the session is to be taken for dead."""
        if liveness in (Liveness.GONE, Liveness.UNREACHABLE):
            return True
        return liveness is Liveness.UNKNOWN and self.silent_s(now_s) > GIVE_UP_UNKNOWN_S


class Link:
    """An open session; `close` says goodbye to the server and frees the peer."""

    def __init__(self, client: WhipClient, peer: RTCPeerConnection) -> None:
        self.peer = peer
        self._client = client
        self._session: Session | None = None
        self._fragment = ""
        self._changed = asyncio.Event()
        self._pulse = Pulse(time.monotonic())
        peer.on("connectionstatechange", self._changed.set)

    async def open(
        self, edit_offer: Callable[[str], str] | None = None, *, ticket: str | None = None
    ) -> None:
        """Offer, POST, answer, connect. Raises Refused, Unreachable or LinkLostError."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = self.peer.localDescription.sdp
        if edit_offer is not None:
            offer = edit_offer(offer)
        self._fragment = end_of_candidates(offer)
        self._session = await self._client.open(offer, ticket=ticket)
        try:
            await self.peer.setRemoteDescription(
                RTCSessionDescription(sdp=self._session.answer, type="answer")
            )
        except Exception as error:  # aiortc raises anything on an odd answer
            raise LinkLostError(
                say(
                    f"服务器的应答无法理解：{error}",
                    f"the server's answer makes no sense: {error}",
                )
            ) from error
        await self._connected()
        self._pulse = Pulse(time.monotonic())

    async def _connected(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while self.peer.connectionState != "connected":
                    if self.peer.connectionState in DEAD_STATES:
                        raise LinkLostError(say("媒体连接失败", "the media connection failed"))
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LinkLostError(
                say(
                    f"{CONNECT_TIMEOUT_S:.0f} 秒内媒体没有连通（防火墙？）",
                    f"no media connection within {CONNECT_TIMEOUT_S:.0f} s (a firewall?)",
                )
            ) from None

    async def check(self, mark: object) -> None:
        """Raise LinkLostError when the session is over; `mark` changes when the server is heard."""
        if self.peer.connectionState in DEAD_STATES:
            raise LinkLostError(say("连接中断", "the connection was lost"))
        now_s = time.monotonic()
        self._pulse.observe(mark, now_s)
        if self._session is None or not self._pulse.should_probe(now_s):
            return
        liveness = await self._client.probe(self._session, self._fragment)
        if self._pulse.verdict(liveness, time.monotonic()):
            raise LinkLostError(
                say("服务器已不认识这个会话", "the server no longer knows this session")
                if liveness is Liveness.GONE
                else say("服务器没有回应", "the server does not answer")
            )

    async def close(self) -> None:
        """DELETE, then close the peer; neither may hold up the exit for long."""
        session, self._session = self._session, None
        if session is not None:
            await self._client.close(session)
        closing = asyncio.ensure_future(self.peer.close())
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
