"""The two ends of every control channel: length-prefixed messages on an asyncio stream.

Workers, the mixer and the recorder sit at one end, their supervisors at the other; what the
messages are is each channel's own `control` module's affair.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .control import LENGTH, MAX_MESSAGE_BYTES, frame


class Sender(Protocol):
    """Something that collects messages in `outbox` and sets `wake_outbox` when there are some."""

    outbox: Any  # a list of that channel's messages
    wake_outbox: asyncio.Event


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The body of the next message.

    Raises asyncio.IncompleteReadError at the end, ConnectionError when it is longer than allowed.
    """
    (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if size > MAX_MESSAGE_BYTES:
        raise ConnectionError("a control message is larger than allowed")
    return await reader.readexactly(size)


async def write_outbox(sender: Sender, writer: asyncio.StreamWriter) -> None:
    """Send what is collected, whenever there is something, until cancelled."""
    while True:
        await sender.wake_outbox.wait()
        sender.wake_outbox.clear()
        messages, sender.outbox = sender.outbox, []
        writer.write(b"".join(frame(message) for message in messages))
        await writer.drain()
