"""What `tongke doctor` asks of the machine: clock, kernel, GSO, descriptors, disk and packages.

Each `judge_` function takes what was found and says what it means; each `look_at_` function finds
it. Tests inject failures into the former.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from streamer.fanout import UDP_SEGMENT
from streamer.port import RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES

from .doctor_finding import Finding, fine, trouble

# The first release: a clock that is before it has never been set.
EARLIEST_WALL_S = 1_735_689_600.0  # 2025-01-01
CLOCK_WATCH_S = 0.3
MOST_CLOCK_JUMP_S = 0.1
TIMEDATECTL_S = 5.0
GSO_SEGMENT_BYTES, GSO_SEGMENTS = 1000, 4
GSO_WAIT_S = 1.0
DESCRIPTORS_PER_SESSION = 2  # a media socket, and a page's WebSocket
SPARE_DESCRIPTORS = 256
FAIL_DISK_BYTES, WARN_DISK_BYTES = 100 * 1024**2, 1024**3
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*\(?([^;)]*)\)?")
_CLAUSE = re.compile(r"^(>=|<=|==|!=|>|<|~=)\s*([0-9][0-9A-Za-z.]*)$")


# --- clock -------------------------------------------------------------------------------------


def look_at_clock() -> list[Finding]:
    wall, steady = time.time(), time.monotonic()
    time.sleep(CLOCK_WATCH_S)
    jump_s = (time.time() - wall) - (time.monotonic() - steady)
    return judge_clock(time.time(), jump_s, _ntp_synchronized())


def judge_clock(wall_s: float, jump_s: float, synchronized: bool | None) -> list[Finding]:
    """`jump_s` is how much the wall clock ran ahead of the steady one while watched."""
    ntp = (
        "启用对时：timedatectl set-ntp true，或安装 chrony",
        "switch on time synchronisation: timedatectl set-ntp true, or install chrony",
    )
    if wall_s < EARLIEST_WALL_S:
        year = time.gmtime(wall_s).tm_year
        return [
            trouble(
                "clock",
                "fail",
                (f"系统时间在 {year} 年，令牌与证书会失效", f"it is {year} here: tokens and"
                 " certificates will not be valid"),
                ntp,
            )
        ]  # fmt: skip
    if abs(jump_s) > MOST_CLOCK_JUMP_S:
        return [
            trouble(
                "clock",
                "warn",
                (f"系统时间正在跳变（{jump_s:+.2f} 秒）", f"the clock jumped by {jump_s:+.2f} s"),
                ntp,
            )
        ]
    if synchronized is False:
        return [
            trouble(
                "clock",
                "warn",
                ("系统时间没有与网络对时", "the clock is not synchronised"),
                ntp,
            )
        ]
    if synchronized is None:
        return [fine("clock", "时间正常（无法得知是否对时）", "steady (synchronisation unknown)")]
    return [fine("clock", "时间正常，已对时", "steady and synchronised")]


def _ntp_synchronized() -> bool | None:
    """What timedatectl says; None where there is none, as in containers."""
    try:
        said = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=TIMEDATECTL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(said.stdout.strip())


# --- kernel ------------------------------------------------------------------------------------


def look_at_buffers() -> list[Finding]:
    return judge_buffers(
        _sysctl("net/core/rmem_max"), _sysctl("net/core/wmem_max"), may_force=_may_force()
    )


def judge_buffers(rmem_max: int | None, wmem_max: int | None, *, may_force: bool) -> list[Finding]:
    """The kernel's limits beside what a worker asks for; CAP_NET_ADMIN goes beyond them."""
    found: list[Finding] = []
    for name, value, needed in (
        ("rmem_max", rmem_max, RECEIVE_BUFFER_BYTES),
        ("wmem_max", wmem_max, SEND_BUFFER_BYTES),
    ):
        key = f"net.core.{name}"
        if value is None:
            found.append(fine(key, "读不到（容器中常见），从略", "cannot be read (a container?)"))
        elif value >= needed or may_force:
            found.append(fine(key, f"{value} 字节，够用", f"{value} bytes, enough"))
        else:
            found.append(
                trouble(
                    key,
                    "warn",
                    (
                        f"{value} 字节，媒体进程需要 {needed}；忙时会丢包",
                        f"{value} bytes, a worker wants {needed}: busy moments lose packets",
                    ),
                    (
                        f"sysctl -w {key}={needed}，并写入 /etc/sysctl.d/90-tongke.conf",
                        f"sysctl -w {key}={needed}, and into /etc/sysctl.d/90-tongke.conf",
                    ),
                )
            )
    return found


def _sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return None


def _may_force() -> bool:
    """Whether SO_RCVBUFFORCE works here (CAP_NET_ADMIN), as the workers try it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER_BYTES)
        except OSError:
            return False
    return True


def look_at_gso() -> list[Finding]:
    return judge_gso(_gso_segments())


def judge_gso(segments: int | None) -> list[Finding]:
    """`segments` of those sent as one arrived; None when the kernel refused."""
    if segments == GSO_SEGMENTS:
        return [fine("gso", "分段卸载可用", "segmentation offload works")]
    return [
        trouble(
            "gso",
            "warn",
            (
                "内核不支持 UDP 分段卸载（GSO），转发开销约为两倍",
                "the kernel refuses UDP segmentation (GSO): forwarding costs about twice as much",
            ),
            (
                "使用 4.18 以上的内核；在 gVisor 等沙箱里无法启用，请预留一倍 CPU",
                "use a kernel of 4.18 or later; sandboxes such as gVisor have none: plan twice"
                " the CPU",
            ),
        )
    ]


def _gso_segments() -> int | None:
    """Send one datagram to be cut into four over loopback; how many came."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(GSO_WAIT_S)
        sender.connect(sink.getsockname())
        control = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", GSO_SEGMENT_BYTES))]
        try:
            sender.sendmsg([bytes(GSO_SEGMENT_BYTES * GSO_SEGMENTS)], control)
        except OSError:
            return None
        came = 0
        with contextlib.suppress(OSError):
            while came < GSO_SEGMENTS:
                came += len(sink.recv(65536)) == GSO_SEGMENT_BYTES
        return came


def look_at_descriptors(sessions: int) -> list[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return judge_descriptors(None if hard == resource.RLIM_INFINITY else hard, sessions)


def judge_descriptors(hard: int | None, sessions: int) -> list[Finding]:
    """The hard limit (the server raises its soft one), None for no limit."""
    needed = sessions * DESCRIPTORS_PER_SESSION + SPARE_DESCRIPTORS
    if hard is None or hard >= needed:
        shown = "∞" if hard is None else str(hard)
        return [fine("descriptors", f"{shown}，需要 {needed}", f"{shown}, {needed} needed")]
    fits = max(0, (hard - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_SESSION)
    return [
        trouble(
            "descriptors",
            "warn",
            (
                f"文件描述符上限 {hard}，limits.sessions = {sessions} 需要 {needed}",
                f"at most {hard} file descriptors, limits.sessions = {sessions} needs {needed}",
            ),
            (
                f"systemd 单元中写 LimitNOFILE={needed}，或 ulimit -n {needed}，"
                f"或 limits.sessions = {fits}",
                f"LimitNOFILE={needed} in the systemd unit, or ulimit -n {needed}, or"
                f" limits.sessions = {fits}",
            ),
        )
    ]


# --- disk --------------------------------------------------------------------------------------


def look_at_disk(data_dir: str) -> list[Finding]:
    directory = Path(data_dir)
    existing = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    try:
        free: int | None = shutil.disk_usage(existing).free
    except OSError:
        free = None
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return judge_disk(data_dir, free, writable=writable)


def judge_disk(data_dir: str, free: int | None, *, writable: bool) -> list[Finding]:
    if not writable:
        return [
            trouble(
                "disk",
                "fail",
                (f"不能写入数据目录 {data_dir}", f"the data directory {data_dir} is not writable"),
                (
                    f"chown 给运行 tongke 的用户，或改 server.data_dir：{data_dir}",
                    "chown it to the user that runs tongke, or set another server.data_dir",
                ),
            )
        ]
    if free is None or free >= WARN_DISK_BYTES:
        shown = "?" if free is None else f"{free / 1024**3:.1f} GiB"
        return [fine("disk", f"可写，余 {shown}", f"writable, {shown} free")]
    level = "fail" if free < FAIL_DISK_BYTES else "warn"
    return [
        trouble(
            "disk",
            level,  # type: ignore[arg-type]
            (f"数据目录只余 {free // 1024**2} MiB", f"only {free // 1024**2} MiB free"),
            (
                "清理磁盘，或把 server.data_dir 指向更大的盘",
                "free some space, or set server.data_dir to a larger disk",
            ),
        )
    ]


# --- packages ----------------------------------------------------------------------------------


def look_at_packages() -> list[Finding]:
    return judge_packages(metadata.requires("tongke") or (), _installed)


def judge_packages(
    requirements: Iterable[str], installed: Callable[[str], str | None]
) -> list[Finding]:
    """Each requirement of the distribution beside the version that is installed."""
    found: list[Finding] = []
    count = 0
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        name, clauses = match.group(1), match.group(2)
        version = installed(name)
        count += 1
        if version is None:
            problem = (f"{name} 没有安装", f"{name} is not installed")
        elif not satisfies(version, clauses):
            problem = (
                f"{name} 是 {version}，需要 {clauses}",
                f"{name} is {version}, wanted is {clauses}",
            )
        else:
            continue
        found.append(
            trouble(
                f"package {name}",
                "fail",
                problem,
                (f'pip install "{name}{clauses}"', f'pip install "{name}{clauses}"'),
            )
        )
    if not found:
        found.append(fine("packages", f"{count} 个依赖包版本相符", f"{count} as required"))
    return found


def satisfies(version: str, clauses: str) -> bool:
    """Whether a release fits clauses such as `>=1.0,<2`; what we cannot read counts as fitting."""
    have = _numbers(version)
    for clause in clauses.replace(" ", "").split(","):
        match = _CLAUSE.match(clause)
        if match is None:
            continue
        operator, text = match.groups()
        want = _numbers(text)
        width = max(len(have), len(want))
        a, b = _padded(have, width), _padded(want, width)
        fits = {
            ">=": a >= b,
            "<=": a <= b,
            "==": a == b,
            "!=": a != b,
            ">": a > b,
            "<": a < b,
            "~=": a >= b and have[: len(want) - 1] == want[:-1],
        }[operator]
        if not fits:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:6])


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
