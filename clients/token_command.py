"""`tongke token`: signs a token with the server's own secret, also while the server runs."""

from __future__ import annotations

import argparse
import time

from .arguments import seconds
from .words import BAD_USAGE, OK, CommandError, emit_json, progress, say

ROLES = ("teacher", "point", "observer", "ops")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", required=True, choices=ROLES, help=say("角色", "who it is for"))
    parser.add_argument(
        "--lesson", metavar="ID", help=say("只对这堂课有效", "good for this lesson only")
    )
    parser.add_argument("--name", metavar="NAME", help=say("教室名称", "name of the classroom"))
    parser.add_argument(
        "--org",
        metavar="NAME",
        help=say("所属单位，计入其总上限", "organisation, under whose cap it counts"),
    )
    parser.add_argument(
        "--ttl",
        type=seconds,
        metavar="S",
        help=say("有效秒数（默认按配置 auth）", "seconds it is valid (default: [auth])"),
    )


def run(args: argparse.Namespace) -> int:
    from signaling.audit import AuditLog
    from signaling.store.secretfiles import TOKEN_SECRET, data_directory, token_secret
    from signaling.tokens import TokenAuthority

    from .settings import load_config

    config = load_config(args)
    ttl_s: float | None = args.ttl
    if ttl_s is None:
        by_role = args.role in ("teacher", "ops")
        ttl_s = config.auth.teacher_ttl_s if by_role else config.auth.token_ttl_s
    try:
        directory = data_directory(config.server.data_dir)
        if not config.auth.secret and not (directory / TOKEN_SECRET).exists():
            progress(
                say(
                    f"{directory} 中没有密钥，已新建。服务器若用别的数据目录，"
                    "请用 --set server.data_dir=… 指明，否则它不认这个令牌",
                    f"{directory} had no key, a new one was made. If the server has another data "
                    "directory, name it with --set server.data_dir=…, or it refuses this token",
                )
            )
        secret = config.auth.secret.encode() if config.auth.secret else token_secret(directory)
    except OSError as error:
        raise CommandError(
            say(
                f"用不了数据目录 {config.server.data_dir}：{error.strerror}",
                f"cannot use the data directory {config.server.data_dir}: {error.strerror}",
            ),
            kind="data-dir",
        ) from error
    try:
        authority = TokenAuthority(secret)
        token = authority.issue(
            args.role, ttl_s=ttl_s, lesson=args.lesson, name=args.name, org=args.org
        )
    except ValueError as error:
        raise CommandError(
            say(f"签发不了：{error}", str(error)), exit_code=BAD_USAGE, kind="usage"
        ) from error
    AuditLog(directory).issued("cli", authority.verify(token))
    if args.json:
        emit_json(
            {
                "token": token,
                "role": args.role,
                "lesson": args.lesson,
                "name": args.name,
                "expires_at": int(time.time() + ttl_s),
            }
        )
    else:
        print(token)
    return OK
