"""The result of a load run: one JSON-ready object, and the same as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clients.words import say

from .crowd import NOTHING, Totals
from .measure import SATURATED_PERCENT, GeneratorMeter, ServerSample, server_cost
from .publisher import LightPublisher
from .tally import Phase, Tally, percentile

KEYFRAME_SPACING_S = 0.5  # what the server promises its publisher
CLOCK_TOLERANCE_S = 0.005  # the server's clock is read before it sends, ours after it arrived
LEAST_FOR_CEILING_PERCENT = 5.0  # below it the extrapolation would be noise


@dataclass(slots=True)
class Run:
    """Everything measured, in the order it came about."""

    url: str
    asked: int
    tally: Tally
    meter: GeneratorMeter
    publisher: LightPublisher | None = None
    interrupted: bool = False
    steady_s: float = 0.0
    joining: Phase | None = None
    before: ServerSample | None = None
    at_start: ServerSample | None = None
    at_end: ServerSample | None = None
    after_join: Totals = NOTHING
    after_steady: Totals = NOTHING
    end: Totals = NOTHING
    silent: int = 0
    not_deleted: int = 0

    @property
    def ok(self) -> bool:
        return self.end.joined == self.asked and not self.end.ended_early and not self.silent

    def saturation(self) -> list[str]:
        """Why the generator, not the server, may have set the figures; empty when it has not."""
        reasons = []
        if self.meter.window_percent > SATURATED_PERCENT:
            reasons.append("cpu")
        elif self.meter.peak_percent > SATURATED_PERCENT:
            reasons.append("cpu-while-joining")
        if self.end.overflows:
            reasons.append("receive-buffers")
        if self.publisher is not None and self.publisher.frames_skipped:
            reasons.append("publisher-late")
        return reasons


def build(run: Run) -> dict[str, object]:
    """The object that `--json` prints."""
    end, tally = run.end, run.tally
    steady_packets = run.after_steady.received - run.after_join.received
    steady_octets = run.after_steady.octets - run.after_join.octets
    streaming = max(1, end.joined - end.ended_early)
    seconds = run.steady_s or 1.0
    return {
        "ok": run.ok,
        "url": run.url,
        "interrupted": run.interrupted,
        "receivers": {
            "asked": run.asked,
            "connected": end.connected,
            "joined": end.joined,
            "failed": sum(tally.failures.values()),
            "reasons": dict(tally.failures.most_common()),
            "ended_early": end.ended_early,
            "silent": run.silent,
            "not_deleted": run.not_deleted,
        },
        "connect_s": _seconds(tally.connect_s),
        "join_s": _seconds(tally.join_s),
        "steady_s": round(run.steady_s, 2),
        "packets": {
            "received": end.received,
            "recovered": end.recovered,
            "duplicates": end.duplicates,
            "lost": end.lost,
            "lost_percent": round(end.lost_percent(NOTHING), 4),
            "lost_raw_percent": round(end.lost_raw_percent(NOTHING), 4),
            "lost_percent_while_joining": round(run.after_join.lost_percent(NOTHING), 4),
            "lost_percent_steady": round(end.lost_percent(run.after_join), 4),
            "per_second": round(steady_packets / seconds),
            "decrypted": end.decrypted,
            "decrypt_failures": end.decrypt_failures,
            "malformed": end.bad_packets,
            "nacked": end.nacks,
            "keyframe_requests": end.keyframe_requests,
        },
        "delay_ms": tally.phase.report(),
        "delay_ms_while_joining": None if run.joining is None else run.joining.report(),
        "kbps_per_receiver": round(steady_octets * 8 / seconds / streaming / 1000, 1),
        "mbps": round(steady_octets * 8 / seconds / 1e6, 2),
        "server": _server(run),
        "generator": _generator(run),
        "publisher": _publisher(run.publisher),
    }


def _seconds(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = {f"p{rank}": percentile(values, rank) or 0.0 for rank in (50, 95, 99)}
    found["max"] = max(values)
    return {name: round(value, 3) for name, value in found.items()}


def _server(run: Run) -> dict[str, float | None] | None:
    cost = server_cost(run.at_start, run.at_end)
    if cost is None:
        return None
    cost["rss_kib_per_receiver"] = None
    if run.before is not None and run.at_end is not None and run.end.connected:
        before, after = run.before.workers_rss_bytes, run.at_end.workers_rss_bytes
        if before is not None and after is not None:
            cost["rss_kib_per_receiver"] = round((after - before) / run.end.connected / 1024, 1)
    return cost


def _generator(run: Run) -> dict[str, object]:
    saturation = run.saturation()
    percent = run.meter.window_percent
    streaming = run.end.joined - run.end.ended_early
    ceiling: int | None = None
    if percent >= LEAST_FOR_CEILING_PERCENT and streaming:
        ceiling = int(streaming * SATURATED_PERCENT / percent)
    return {
        "cpu_percent": round(percent, 1),
        "cpu_peak_percent": round(run.meter.peak_percent, 1),
        "saturated": bool(saturation),
        "saturated_by": saturation,
        "overflowed_datagrams": run.end.overflows,
        "ceiling_receivers": ceiling,
    }


def _publisher(publisher: LightPublisher | None) -> dict[str, object] | None:
    if publisher is None:
        return None
    spacing_s = publisher.least_request_spacing_s
    return {
        "frames": publisher.frames,
        "frames_skipped": publisher.frames_skipped,
        "video_packets": publisher.video_packets,
        "audio_packets": publisher.audio_packets,
        "keyframes": publisher.lesson.keyframes,
        "keyframe_requests": len(publisher.keyframe_request_times),
        "least_request_spacing_s": None if spacing_s is None else round(spacing_s, 3),
        "request_spacing_ok": spacing_s is None
        or spacing_s >= KEYFRAME_SPACING_S - CLOCK_TOLERANCE_S,
        "nacked_packets": publisher.nacked_packets,
        "resent_packets": publisher.resent_packets,
        "packets_reported_lost": publisher.packets_reported_lost,
        "remb_received": len(publisher.remb_times),
        "remb_bps": publisher.remb_bps,
        "ended_early": None if publisher.ended == "closed" else publisher.ended,
    }


# --- for people --------------------------------------------------------------------------------


def table(result: Mapping[str, object]) -> str:
    """The lines that `tongke load` prints without `--json`."""
    receivers, packets = _part(result, "receivers"), _part(result, "packets")
    lines = [
        _row(
            say("接收端", "receivers"),
            f"{receivers['joined']} / {receivers['asked']}"
            + say(" 路收到画面", " got a picture")
            + (
                f", {receivers['silent']} " + say("路无数据", "silent")
                if receivers["silent"]
                else ""
            )
            + (
                f", {receivers['ended_early']} " + say("路提前结束", "ended early")
                if receivers["ended_early"]
                else ""
            ),
        )
    ]
    for reason, count in _part(receivers, "reasons").items():
        lines.append(_row(say("  失败", "  failed"), f"{count} × {reason}"))
    lines.append(_row(say("加入用时 s", "join s"), _spread(_part(result, "join_s"))))
    lines.append(
        _row(
            say("丢包", "lost"),
            f"{packets['lost_percent']} % "
            + say("（重传前", "(before resending ")
            + f"{packets['lost_raw_percent']} %"
            + say("）", ")")
            + say("，收到 ", " of ")
            + f"{packets['received']:,} "
            + say("包", "packets"),
        )
    )
    if packets["decrypt_failures"]:
        lines.append(_row(say("解密失败", "not decryptable"), f"{packets['decrypt_failures']}"))
    delays = _part(result, "delay_ms")
    for kind, name in (
        ("audio", say("声音延迟 ms", "audio delay ms")),
        ("video", say("画面延迟 ms", "video delay ms")),
    ):
        if _part(delays, kind):
            lines.append(_row(name, _spread(_part(delays, kind))))
    if not delays:
        lines.append(_row(say("延迟", "delay"), say("未测（需要 --publish）", "needs --publish")))
    lines.append(
        _row(
            say("码率", "rate"),
            f"{result['kbps_per_receiver']} kbit/s × {receivers['joined']}"
            f" = {result['mbps']} Mbit/s, {packets['per_second']:,} " + say("包/秒", "packets/s"),
        )
    )
    lines += _server_lines(_part(result, "server"))
    lines += _publisher_lines(_part(result, "publisher"))
    lines += _generator_lines(_part(result, "generator"))
    return "\n".join(lines)


def _server_lines(server: Mapping[str, object]) -> list[str]:
    if not server:
        return [
            _row(
                say("服务器", "server"),
                say("未测（读不到 /metrics 或时间太短）", "not measured: no /metrics, or no time"),
            )
        ]
    text = f"{server['cpu_us_per_packet']} µs CPU " + say("每转发一包", "per forwarded packet")
    if server["control_cpu_percent"] is None:
        text += say("（仅媒体进程）", " (workers only: /metrics lacks process_cpu_seconds_total)")
    else:
        text += (
            f" ({server['worker_cpu_us_per_packet']} " + say("在媒体进程", "in the workers") + ")"
        )
    text += f", {server['cpu_percent']} %"
    if server["rss_kib_per_receiver"] is not None:
        text += f", {server['rss_kib_per_receiver']} KiB " + say("每接收端", "per receiver")
    return [_row(say("服务器", "server"), text)]


def _publisher_lines(publisher: Mapping[str, object]) -> list[str]:
    if not publisher:
        return []
    text = f"{publisher['keyframe_requests']} " + say("次关键帧请求", "key-frame requests")
    if publisher["least_request_spacing_s"] is not None:
        text += say("，最短间隔 ", ", at least ") + f"{publisher['least_request_spacing_s']} s"
        text += say("", " apart")
    if not publisher["request_spacing_ok"]:
        text += say("（应 ≥ 0.5 s）", " (should be ≥ 0.5 s)")
    return [_row(say("发布端", "publisher"), text)]


def _generator_lines(generator: Mapping[str, object]) -> list[str]:
    text = f"{generator['cpu_percent']} % " + say("单核", "of its core")
    if generator["ceiling_receivers"] is not None:
        text += say("；上限约 ", "; its own ceiling is about ")
        text += f"{generator['ceiling_receivers']} " + say("路", "receivers")
    lines = [_row(say("发生器", "generator"), text)]
    if generator["saturated"]:
        reasons = generator["saturated_by"]
        assert isinstance(reasons, list)
        lines.append(
            say(
                f"注意：发生器自身成为瓶颈（{', '.join(reasons)}）："
                "以上丢包和延迟是它的，不是服务器的",
                f"NOTE: the generator itself was the limit ({', '.join(reasons)}):"
                " loss and delay above are its own, not the server's",
            )
        )
    return lines


def _part(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    """A nested object; an empty one where it is null."""
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _row(name: str, text: str) -> str:
    width = sum(2 if ord(character) > 0x2E80 else 1 for character in name)
    return name + " " * max(1, 18 - width) + text


def _spread(values: Mapping[str, object]) -> str:
    if not values:
        return "–"
    return "  ".join(f"{name} {value}" for name, value in values.items() if name != "samples")
