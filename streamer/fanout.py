"""The hot path: one batch of packets, written, encrypted and sent for every receiver in turn.

What is the same for all receivers of a group (payload type, header extensions, where each packet
lies, how packets join into GSO runs) is computed once per batch in `prepare`; `send` then does for
each receiver: one copy, three integers written per packet, one libsrtp call per packet, one system
call per run. `tests/bench/bench_fanout.py` prints what that costs beside a C loop.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from .delay import DelayHistogram
from .rtp import SEQ_MASK, TIMESTAMP_MASK, Packet, extension_block, header
from .srtp import PinnedBuffer, protect_rtp

if TYPE_CHECKING:
    from .receiver import ReceiverTrack

UDP_SEGMENT = 103  # linux/udp.h; the socket module does not name it
MAX_RUN_SEGMENTS = 60  # the kernel takes 64 (UDP_MAX_SEGMENTS) on older, 128 on newer kernels
MAX_RUN_BYTES = 60_000  # one UDP datagram before segmentation
MAX_BATCH_PACKETS = 40
# The largest packet that is taken in has 1,600 bytes; our extensions and tag may add to it.
SCRATCH_BYTES = MAX_BATCH_PACKETS * 1700
# Everything between the version bits and the payload type is fixed per group; these are not.
_SEQ_TS_SSRC = struct.Struct("!HII")
_pack_header = _SEQ_TS_SSRC.pack_into
_segment_size = struct.Struct("=H").pack
# A kernel or device that cannot segment answers with one of these.
GSO_REFUSALS = frozenset(
    {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT}
)

scratch = PinnedBuffer(SCRATCH_BYTES)

GroupKey = tuple[int, tuple[tuple[str, int], ...], int, int]


class Prepared:
    """One batch laid out for one group: the plain packets with room for their SRTP tags.

    `packets` are (offset of the sequence number, pointer for libsrtp, plain bytes, sequence number,
    timestamp); `runs` are (buffer list for sendmsg, ancillary data or None); `spans` are the
    (start, end) of each protected packet, for transports that cannot segment.
    """

    __slots__ = ("octets", "packets", "runs", "spans", "template", "total")

    def __init__(self, plain: Sequence[tuple[bytes, int, int]], tag_bytes: int) -> None:
        template = bytearray()
        packets: list[tuple[int, Any, int, int, int]] = []
        spans: list[tuple[int, int]] = []
        tag = bytes(tag_bytes)
        octets = 0
        for data, seq, timestamp in plain:
            start = len(template)
            template += data
            template += tag
            packets.append((start + 2, scratch.at(start), len(data), seq, timestamp))
            spans.append((start, len(template)))
            octets += len(data) - 12
        self.template = bytes(template)
        self.total = len(template)
        self.octets = octets
        self.packets = packets
        self.spans = spans
        self.runs = _runs(spans)


def _runs(spans: Sequence[tuple[int, int]]) -> list[tuple[list[memoryview], list[Any] | None]]:
    """Join neighbours of equal size into GSO runs; the last of a run may be shorter.

    Encoders split a frame into sizes that differ by a byte, so a frame is one or two runs.
    """
    runs: list[tuple[list[memoryview], list[Any] | None]] = []
    view = scratch.view
    index, count = 0, len(spans)
    while index < count:
        start, end = spans[index]
        size = end - start
        segments = 1
        while index + segments < count and segments < MAX_RUN_SEGMENTS:
            next_start, next_end = spans[index + segments]
            next_size = next_end - next_start
            if next_size > size or next_end - start > MAX_RUN_BYTES:
                break
            end = next_end
            segments += 1
            if next_size < size:
                break
        control = None
        if segments > 1:
            control = [(socket.SOL_UDP, UDP_SEGMENT, _segment_size(size))]
        runs.append(([view[start:end]], control))
        index += segments
    return runs


class FanoutGroup:
    """Receivers of one track for whom a packet differs only in sequence number, timestamp and SSRC.

    `running` get every batch; `waiting` (video) get nothing until a key frame begins.
    """

    __slots__ = (
        "abs_send_time_id",
        "extension_ids",
        "payload_type",
        "running",
        "tag_bytes",
        "waiting",
    )

    def __init__(self, key: GroupKey) -> None:
        self.payload_type, extension_ids, self.abs_send_time_id, self.tag_bytes = key
        self.extension_ids = dict(extension_ids)
        self.running: list[ReceiverTrack] = []
        self.waiting: list[ReceiverTrack] = []

    def render(self, packet: Packet, abs_send_time: bytes) -> bytes:
        """The plain packet as this group gets it, with the publisher's numbering and SSRC 0."""
        elements: list[tuple[int, bytes]] = []
        if self.abs_send_time_id:
            elements.append((self.abs_send_time_id, abs_send_time))
        ids = self.extension_ids
        for uri, data in packet.extensions:
            identifier = ids.get(uri)
            if identifier is not None:
                elements.append((identifier, data))
        return (
            header(
                self.payload_type,
                packet.marker,
                packet.seq,
                packet.timestamp,
                0,
                extension_block(elements),
            )
            + packet.payload
        )

    def prepare(self, batch: Sequence[Packet], abs_send_time: bytes) -> Prepared:
        render = self.render
        return Prepared(
            [(render(packet, abs_send_time), packet.seq, packet.timestamp) for packet in batch],
            self.tag_bytes,
        )


def send(
    prepared: Prepared,
    receivers: Sequence[ReceiverTrack],
    received_at: float,
    delays: DelayHistogram,
) -> int:
    """Send a prepared batch to every receiver; return how many packets went out.

    A receiver that would block, or whose address is dead, loses this batch and delays nobody
    (it asks again with NACK). Every eighth receiver's delay is observed for all eight: reading the
    clock for each would cost more than it tells.
    """
    template = prepared.template
    packets = prepared.packets
    runs = prepared.runs
    total = prepared.total
    octets = prepared.octets
    count = len(packets)
    data = scratch.data
    length = scratch.length
    protect = protect_rtp
    pack = _pack_header
    sent = 0
    index = 0
    for receiver in receivers:
        data[:total] = template
        context = receiver.srtp_handle
        seq_offset = receiver.seq_offset
        timestamp_offset = receiver.timestamp_offset
        ssrc = receiver.ssrc
        for offset, pointer, size, seq, timestamp in packets:
            pack(
                data,
                offset,
                (seq + seq_offset) & SEQ_MASK,
                (timestamp + timestamp_offset) & TIMESTAMP_MASK,
                ssrc,
            )
            length[0] = size
            if protect(context, pointer, length):
                receiver.protect_errors += 1
                # Behind its header: what cannot be encrypted never goes out in the clear.
                data[offset + 10 : offset - 2 + size] = bytes(size - 12)
        path = receiver.path
        try:
            if path.segments:
                sendmsg = path.sendmsg
                for buffers, control in runs:
                    if control is None:
                        sendmsg(buffers)
                    else:
                        sendmsg(buffers, control)
            else:
                path.send_spans(data, prepared.spans)
            receiver.packets += count
            receiver.octets += octets
            sent += count
        except BlockingIOError:
            path.would_block += 1
        except OSError as error:
            if path.segments and error.errno in GSO_REFUSALS:
                path.segments = False  # decided once per socket; this batch goes out plainly
                sent += _send_plainly(receiver, prepared)
            else:
                path.send_errors += 1
        index += 1
        if not index & 7:
            delays.observe(monotonic() - received_at, count * 8)
    rest = index & 7
    if rest:
        delays.observe(monotonic() - received_at, count * rest)
    return sent


def _send_plainly(receiver: ReceiverTrack, prepared: Prepared) -> int:
    try:
        receiver.path.send_spans(scratch.data, prepared.spans)
    except BlockingIOError:
        receiver.path.would_block += 1
        return 0
    except OSError:
        receiver.path.send_errors += 1
        return 0
    receiver.packets += len(prepared.packets)
    receiver.octets += prepared.octets
    return len(prepared.packets)
