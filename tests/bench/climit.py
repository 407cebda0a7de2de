"""Builds and runs climit.c, the physical limit that the server's cost is set against."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from .machine import cores, pinned_to

SOURCE = Path(__file__).with_name("climit.c")
BINARY = Path("build/bench/climit")
UDP_GRO = 104
SINKS = 8


def build() -> str | None:
    """Compile; return why not, or None when the binary is there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "no C compiler (apt install gcc libssl-dev)"
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [compiler, "-O2", "-o", str(BINARY), str(SOURCE), "-lcrypto"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        first = (made.stderr.splitlines() or ["unknown"])[0]
        return f"climit.c does not compile ({first}); apt install libssl-dev"
    return None


def us_per_packet(
    receivers: int, frames: int = 200, packets: int = 8, payload: int = 1122
) -> float:
    """CPU microseconds per packet of the C loop, on the first core, into sockets with GRO."""
    sinks = []
    try:
        for _ in range(SINKS):
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.bind(("127.0.0.1", 0))
            sink.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
            sinks.append(sink)
        command = [str(BINARY), str(receivers), str(frames), str(packets), str(payload)]
        command += [str(sink.getsockname()[1]) for sink in sinks]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            preexec_fn=pinned_to(cores()[0]),
        )
        return float(done.stdout.split()[0])
    finally:
        for sink in sinks:
            sink.close()
