"""The commands as processes: exit codes, pure JSON, the user's language, never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from clients.demo import box, columns
from clients.usage import usage_in_chinese
from clients.words import language_of

LIMIT_S = 60


def tongke(
    *words: str, language: str = "en_US.UTF-8", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "TONGKE_"))
    }
    finished = subprocess.run(
        [sys.executable, "-m", "clients", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=folder,
        env={**environment, "LANG": language},
    )
    assert "Traceback" not in finished.stderr + finished.stdout
    return finished


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["token"],
        ["token", "--role", "king"],
        ["token", "--role", "ops", "--ttl", "soon"],
        ["token", "--role", "ops", "--ttl", "-5"],
        ["publish", "x", "http://h/x", "--token", "t", "--kbps", "0"],
        ["publish", "x", "http://h/x", "--token", "t", "--seconds", "nan"],
        ["watch", "http://h/x", "--token", "t", "--retry", "1.5"],
        ["publish", "x.mp4"],
        ["publish", "test:", "http://127.0.0.1:9/whip/l/camera"],
        ["publish", "test:", "nowhere", "--token", "t"],
        ["watch", "http://127.0.0.1:9/whep/l/camera"],
        ["config"],
        ["serve", "--check", "--set", "server.port=0"],
        ["serve", "--check", "--set", "nonsense"],
        ["serve", "--check", "--config", "missing.toml"],
        ["watch", "http://h/x", "--token", "t", "--set", "server.port=banana"],
    ],
    ids=" ".join,
)
def test_bad_usage_and_bad_config_exit_with_two(words: list[str], tmp_path: Path) -> None:
    data = ["--set", f"server.data_dir={tmp_path}"] if words[:1] == ["token"] else []
    finished = tongke(*words, *data, folder=tmp_path)
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr.strip()
    assert finished.stdout == ""


def test_failed_work_exits_with_one_and_says_why(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/whep/l/camera"
    for words in (
        ["watch", url, "--token", "t"],
        ["publish", "missing.mp4", url, "--token", "t"],
        ["publish", "test:", url, "--token", "t", "--retry", "0"],
        ["demo", "--source", "missing.mp4"],
    ):
        finished = tongke(*words, folder=tmp_path)
        assert finished.returncode == 1, finished.stderr
        assert finished.stderr.strip()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["watch", "http://127.0.0.1:9/whep/l/camera", "--token", "t"], 1),
        (["publish", "missing.mp4", "http://127.0.0.1:9/whip/l/x", "--token", "t"], 1),
        (["token", "--role", "king"], 2),
        (["serve", "--check", "--set", "server.port=0"], 2),
        (["serve", "--check"], 0),
        (["config", "check"], 0),
        (["config", "show"], 0),
        (["config", "schema"], 0),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else str(value),
)
def test_json_is_one_object_and_nothing_else(words: list[str], status: int) -> None:
    finished = tongke(*words, "--json")
    assert finished.returncode == status
    assert len(finished.stdout.splitlines()) == 1
    document = json.loads(finished.stdout)
    assert isinstance(document, dict)
    if status:
        assert document["ok"] is False and document["error"]


@pytest.mark.parametrize(
    ("language", "word"),
    [("zh_CN.UTF-8", "缺少参数"), ("en_US.UTF-8", "required"), ("C", "required")],
)
def test_it_speaks_the_users_language(language: str, word: str) -> None:
    assert word in tongke("token", language=language).stderr


def test_help_is_in_chinese_too() -> None:
    finished = tongke("--help", language="zh_CN.UTF-8")
    assert finished.returncode == 0 and "运行服务器" in finished.stdout


def test_a_token_is_signed_with_the_secret_of_the_data_directory(tmp_path: Path) -> None:
    data = ["--set", f"server.data_dir={tmp_path / 'data'}"]
    first = tongke("token", "--role", "point", "--lesson", "l_1", "--ttl", "60", *data)
    second = tongke("token", "--role", "teacher", "--json", *data)
    assert first.returncode == second.returncode == 0
    secret = (tmp_path / "data" / "token-secret").read_bytes()
    claims = jwt.decode(first.stdout.strip(), secret, algorithms=["HS256"])
    assert (claims["role"], claims["lesson"]) == ("point", "l_1")
    told = json.loads(second.stdout)
    claims = jwt.decode(told["token"], secret, algorithms=["HS256"])
    assert claims["role"] == told["role"] == "teacher"
    assert claims["exp"] == pytest.approx(told["expires_at"], abs=3)


def test_a_data_directory_that_cannot_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = tongke("token", "--role", "ops", "--set", f"server.data_dir={tmp_path}/file/data")
    assert finished.returncode == 1
    assert str(tmp_path) in finished.stderr


def test_a_config_with_errors_names_every_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[server]\nport = 99999\n[limits]\nsessions = 0\n")
    finished = tongke("config", "check", str(path), "--json")
    assert finished.returncode == 2
    keys = {error["key"] for error in json.loads(finished.stdout)["errors"]}
    assert keys == {"server.port", "limits.sessions"}
    assert "server.port" in finished.stderr


def test_what_config_show_prints_is_a_valid_config_without_the_secret(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    shown = tongke("config", "show", "--set", f"auth.secret={secret}", "--set", "server.port=9443")
    assert shown.returncode == 0 and secret not in shown.stdout and "9443" in shown.stdout
    path = tmp_path / "shown.toml"
    path.write_text(shown.stdout)
    assert tongke("config", "check", str(path)).returncode == 0


def test_a_port_in_use_is_explained(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = tongke(
            *("serve", "--set", "server.host=127.0.0.1", "--set", f"server.port={port}"),
            *("--set", f"server.data_dir={tmp_path}"),
        )
    assert finished.returncode == 1
    assert str(port) in finished.stderr and "server.port" in finished.stderr


def test_the_first_locale_variable_decides() -> None:
    assert language_of({}) == "en"
    assert language_of({"LANG": "zh_CN.UTF-8"}) == "zh"
    assert language_of({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}) == "en"
    assert language_of({"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "de"}) == "zh"


def test_a_complaint_that_has_no_translation_stays_readable() -> None:
    assert usage_in_chinese("something new") == "something new"
    assert usage_in_chinese("argument --ttl: expected one argument") == "--ttl 后面要有一个值"


def test_the_box_is_straight_in_both_scripts() -> None:
    lines = box(["课堂码 482 913", "", "join code"])
    assert len({columns(line) for line in lines}) == 1
