"""The hot path: one batch of packets, written, encrypted and sent for every receiver in turn.

What is the same for all receivers of a group (payload type, header extensions, where each packet
lies, how packets join into GSO runs) is computed once per batch in `prepare`; then for each
receiver: one copy, three integers written per packet, one libsrtp call per packet, one system call
per run. That inner loop exists twice, in Python (`send`) and in C (`_native.c`, where a compiler
was at hand): same effect, docs/decisions/007 has the figures. `python -m tests.bench parts` prints
what each step costs beside the C limit.
"""

from __future__ import annotations

import errno
import importlib
import os
import socket
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from .delay import DelayHistogram
from .paths import UdpPath
from .receiver import ReceiverTrack
from .rtp import SEQ_MASK, TIMESTAMP_MASK, Packet, extension_block, header
from .srtp import PROTECT_ADDRESS, PinnedBuffer, address_of, protect_rtp

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

# How _native.c sees a receiver, a packet and a run: see the structs there.
JOB = struct.Struct("=QiIIIIIQQII")
PACKET = struct.Struct("=IIII")
RUN = struct.Struct("=IIIII")
COUNTS = struct.Struct("=IQQII")  # the end of a job: what the C loop counts
COUNTS_AT = JOB.size - COUNTS.size

scratch = PinnedBuffer(SCRATCH_BYTES)


def _load_native() -> Callable[..., tuple[int, int]] | None:
    """The inner loop in C where it was built and is not switched off (TONGKE_NATIVE=0)."""
    if os.environ.get("TONGKE_NATIVE") == "0":
        return None
    try:
        native = importlib.import_module("streamer._native")
    except ImportError:
        return None
    sizes = (native.JOB_BYTES, native.PACKET_BYTES, native.RUN_BYTES)
    if sizes != (JOB.size, PACKET.size, RUN.size):
        return None  # built for another layout: an old build beside new sources
    loop: Callable[..., tuple[int, int]] = native.fan_out
    return loop


fan_out = _load_native()

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

    def native_packets(self) -> bytes:
        """The packets as the C loop reads them."""
        return b"".join(
            PACKET.pack(offset - 2, size, seq, timestamp)
            for offset, _pointer, size, seq, timestamp in self.packets
        )

    def native_runs(self) -> bytes:
        """The runs as the C loop reads them."""
        packed = []
        first = 0
        for (view,), control in self.runs:
            start = self.spans[first][0]
            end = start + len(view)
            count = 1
            while self.spans[first + count - 1][1] < end:
                count += 1
            segment = 0 if control is None else self.spans[first][1] - start
            packed.append(RUN.pack(start, end, segment, first, count))
            first += count
        return b"".join(packed)


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
        "_connections",
        "_jobs",
        "_native",
        "_others",
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
        # What the C loop was laid out for: its jobs, their receivers in order, and those that it
        # cannot serve (TCP). None when it must be laid out anew.
        self._jobs: bytearray | None = None
        self._native: list[ReceiverTrack] = []
        self._others: list[ReceiverTrack] = []
        self._connections = 0

    # --- who is in it --------------------------------------------------------------------------

    def admit(self, receivers: Sequence[ReceiverTrack]) -> None:
        """From the next batch on these are sent everything."""
        self._drop_jobs()
        self.running += receivers

    def dismiss(self, receiver: ReceiverTrack) -> None:
        """Nothing more for this one; it need not be there."""
        if receiver in self.running:
            self._drop_jobs()
            self.running.remove(receiver)

    def _drop_jobs(self) -> None:
        self.collect()
        self._jobs = None
        self._native = []

    def _lay_out_jobs(self) -> bytearray:
        self._drop_jobs()
        self._connections = ReceiverTrack.connections
        self._native = [r for r in self.running if isinstance(r.path, UdpPath)]
        self._others = [r for r in self.running if not isinstance(r.path, UdpPath)]
        jobs = bytearray(JOB.size * len(self._native))
        for index, receiver in enumerate(self._native):
            JOB.pack_into(
                jobs,
                index * JOB.size,
                address_of(receiver.srtp_handle),
                receiver.path.fileno(),
                receiver.ssrc,
                receiver.seq_offset,
                receiver.timestamp_offset,
                int(receiver.path.segments),
                0,
                0,
                0,
                0,
                0,
            )
        self._jobs = jobs
        return jobs

    def collect(self) -> None:
        """Move what the C loop has counted for each receiver to the receiver."""
        jobs = self._jobs
        if jobs is None:
            return
        for index, receiver in enumerate(self._native):
            at = index * JOB.size
            fields = JOB.unpack_from(jobs, at)
            path = receiver.path
            path.segments = bool(fields[5])
            receiver.protect_errors += fields[6]
            receiver.packets += fields[7]
            receiver.octets += fields[8]
            path.would_block += fields[9]
            path.send_errors += fields[10]
            COUNTS.pack_into(jobs, at + COUNTS_AT, 0, 0, 0, 0, 0)

    # --- batches -------------------------------------------------------------------------------

    def send_running(self, prepared: Prepared, received_at: float, delays: DelayHistogram) -> int:
        """Send a prepared batch to all that are running; return how many packets went out."""
        if fan_out is None:
            return send(prepared, self.running, received_at, delays)
        jobs = self._jobs
        if jobs is None or self._connections != ReceiverTrack.connections:
            jobs = self._lay_out_jobs()
        sent = 0
        if jobs:
            sent, _troubled = fan_out(
                jobs,
                scratch.data,
                prepared.template,
                prepared.native_packets(),
                prepared.native_runs(),
                prepared.octets,
                self.tag_bytes,
                PROTECT_ADDRESS,
                received_at,
                delays.bounds,
                delays.counts,
                delays.total_s,
            )
        if self._others:
            sent += send(prepared, self._others, received_at, delays)
        return sent

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
