"""`tongke doctor`: looks at all that a lesson needs of this machine, and says how to mend it.

With the server running, a test client on this machine also tries the addresses it announces.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache

from signaling.config import Config
from signaling.store.secretfiles import data_directory, token_secret
from signaling.tokens import TokenAuthority

from . import doctor_certificate, doctor_media, doctor_ports, doctor_server, doctor_system
from .doctor_finding import Finding, trouble
from .settings import ConfigRefusedError, load_config
from .words import FAILED, OK, emit_json, say

TOKEN_TTL_S = 60.0


def run(args: argparse.Namespace) -> int:
    findings = examine(args)
    failed = sum(finding.level == "fail" for finding in findings)
    warned = sum(finding.level == "warn" for finding in findings)
    if args.json:
        emit_json({"ok": not failed, "findings": [finding.document() for finding in findings]})
    else:
        for finding in findings:
            print("\n".join(finding.rows()))
        print(
            say(
                f"{failed} 处须修，{warned} 处建议改进",
                f"{failed} to mend, {warned} to improve",
            )
        )
    return FAILED if failed else OK


def examine(args: argparse.Namespace) -> list[Finding]:
    """All checks, in an order in which one would mend them."""
    findings = [*_guarded("packages", doctor_system.look_at_packages)]
    try:
        config = load_config(args)
    except ConfigRefusedError as error:
        findings.append(
            trouble(
                "config",
                "fail",
                (str(error), str(error)),
                ("按上面每一行改正，其余检查随后进行", "mend each line above; the rest comes then"),
            )
        )
        return findings
    for name, look in checks(config):
        findings += _guarded(name, look)
    return findings


def checks(config: Config) -> Sequence[tuple[str, Callable[[], list[Finding]]]]:
    """What is looked at under a configuration, by name."""
    server = config.server
    running = cache(lambda: doctor_server.is_running(doctor_server.local_base(config)))
    return (
        ("clock", doctor_system.look_at_clock),
        ("disk", lambda: doctor_system.look_at_disk(server.data_dir)),
        ("certificate", lambda: doctor_certificate.look_at_certificate(config)),
        ("ports", lambda: doctor_ports.look_at_ports(config, running=running())),
        (
            "announce",
            lambda: doctor_media.look_at_announced(
                config, lambda: _token(config), running=running()
            ),
        ),
        ("buffers", doctor_system.look_at_buffers),
        ("gso", doctor_system.look_at_gso),
        ("descriptors", lambda: doctor_system.look_at_descriptors(config.limits.sessions)),
    )


def _guarded(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that the system does not let us make is a finding too."""
    try:
        return look()
    except OSError as error:
        reason = error.strerror or str(error)
        return [
            trouble(
                name,
                "warn",
                (f"无法检查：{reason}", f"could not be checked: {reason}"),
                ("以运行服务器的用户再试一次", "try again as the user that runs the server"),
            )
        ]


def _token(config: Config) -> str:
    """An operations token as the server signs it, for one minute."""
    secret = config.auth.secret.encode() or token_secret(data_directory(config.server.data_dir))
    return TokenAuthority(secret).issue("ops", ttl_s=TOKEN_TTL_S)
