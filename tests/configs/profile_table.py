"""Makes the table of docs/profiles.md from the files in configs/; prints it when run.

python -m tests.configs.profile_table
"""

from __future__ import annotations

from pathlib import Path

from signaling.config import load
from signaling.config_model import Config, Stream
from signaling.planner import DEFAULT_PACKET_US, Node, plan_mode

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PROFILES = (
    "metered-4g",
    "satellite",
    "rural-2m",
    "rural-4m",
    "rural-8m",
    "county-50m",
    "county-100m",
    "fibre-campus",
)
NODE = Node(workers=4, cores=4, packet_us=DEFAULT_PACKET_US, packet_us_source="default")
HEAD = (
    "| 文件 file | 主讲画面 camera | 课件 slides | 声音 sound | 线路需 line needs, kbit/s | "
    "40 分钟流量 MB per 40 min | 名额 caps: dispatch / masterclass / open | "
    "规划上限 plan, open |\n|---|---|---|---|---|---|---|---|"
)


def table() -> str:
    """All rows, smallest line first."""
    return "\n".join([HEAD, *(_row(name) for name in PROFILES)])


def _row(name: str) -> str:
    config = load(CONFIGS / f"{name}.toml")
    plan = plan_mode(config, "open", NODE)
    camera, slides = config.stream("open", "camera"), config.stream("open", "slides")
    wire = sum(one.demand.wire_kbps for one in plan.streams)
    line = sum(one.demand.line_kbps for one in plan.streams)
    megabytes = wire * 40 * 60 / 8 / 1000
    caps = " / ".join(
        str(config.stream(mode, "camera").receiver_cap)
        for mode in ("dispatch", "masterclass", "open")
    )
    cells = [
        f"`configs/{name}.toml`",
        _picture(camera),
        _picture(slides),
        _sound(camera, slides),
        f"{line:.0f}",
        f"{megabytes:.0f}",
        caps,
        str(plan.cap),
    ]
    return f"| {' | '.join(cells)} |"


def _picture(stream: Stream) -> str:
    size = f"{stream.width}×{stream.height}@{stream.fps}"
    return f"{size}, {stream.video_kbps} kbit/s, {stream.codecs[0].upper()}"


def _sound(camera: Stream, slides: Stream) -> str:
    return f"{camera.audio_kbps} + {slides.audio_kbps} kbit/s"


def configs() -> dict[str, Config]:
    return {name: load(CONFIGS / f"{name}.toml") for name in PROFILES}


if __name__ == "__main__":
    print(table())
