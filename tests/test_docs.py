"""The guides say what is so: their links, commands, options, keys, labels and log texts exist."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from clients.cli import RUNNERS, main
from signaling import config as configuration

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FOR_USERS = [ROOT / "docs" / "teacher.md", ROOT / "docs" / "teaching-point.md"]
LOCALES = ROOT / "clients" / "web" / "locales"

LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?<![\w/.-])(?:\.venv/bin/)?tongke ([a-z]+)(?: ([a-z]+))?")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SET_KEY = re.compile(r"--set ([a-z]\w*\.[\w.-]+)=")
DOTTED = re.compile(r"(?<![\w/.-])((?:server|limits|auth|profiles|modes|mixer)(?:\.[\w*-]+)+)")
FILE_ENDING = re.compile(r"\.(py|js|md|toml|json|crt|key|pem)$")
MACHINE_PATH = re.compile(r"/work/|/root/|/tmp/bash|/home/(?!tongke\b)\w+")

each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda p: str(p.relative_to(ROOT)))


@cache
def text_of(guide: Path) -> str:
    return guide.read_text("utf-8")


def prose_of(guide: Path) -> str:
    return FENCE.sub("", text_of(guide))


def code_lines(guide: Path) -> Iterator[str]:
    """Lines of fenced blocks, continuations joined; and of prose, only what is code in each."""
    for _language, body in FENCE.findall(text_of(guide)):
        yield from body.replace("\\\n", " ").splitlines()
    for line in prose_of(guide).splitlines():
        yield " ; ".join(SPAN.findall(line))


@cache
def help_of(*words: str) -> str:
    """What `tongke … --help` prints, empty when there is no such command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        status = main([*words, "--help"])
    return printed.getvalue() if status == 0 else ""


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# --- links -------------------------------------------------------------------------------------


@each_guide
def test_every_relative_link_leads_somewhere(guide: Path) -> None:
    dead: list[str] = []
    for link in LINK.findall(prose_of(guide)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (guide.parent / name).resolve() if name else guide
        if not target.exists():
            dead.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(target)), re.MULTILINE)
            if anchor not in map(slug, headings):
                dead.append(link)
    assert not dead, f"{guide.name} links to what is not there: {dead}"


def test_the_index_lists_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    assert pages == set(LINK.findall(text_of(folder / "README.md")))


@each_guide
def test_no_path_of_somebodys_machine_is_named(guide: Path) -> None:
    assert not MACHINE_PATH.findall(text_of(guide))


def test_files_named_in_the_tour_exist() -> None:
    tour = text_of(ROOT / "docs" / "architecture.md")
    named = re.findall(r"\b(?:streamer|signaling|clients|mixer|configs)/[\w/]*\w\.\w+", tour)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []


# --- commands and keys -------------------------------------------------------------------------


@each_guide
def test_every_command_and_option_exists(guide: Path) -> None:
    wrong: list[str] = []
    for line in code_lines(guide):
        commands = COMMAND.findall(line)
        known = ""
        for name, action in commands:
            words = (name, action) if name in ("config", "audit") and action else (name,)
            found = help_of(*words) if name in RUNNERS else ""
            if not found:
                wrong.append(f"tongke {' '.join(words)}")
            known += found
        if commands:
            options = set(OPTION.findall(line)) - {"--help"}
            wrong += [f"{o} in “{line}”" for o in options if o not in OPTION.findall(known)]
    assert not wrong, f"{guide.name} names what the command line does not have: {wrong}"


def test_the_readme_names_every_command() -> None:
    assert set(RUNNERS) <= {name for name, _ in COMMAND.findall(text_of(ROOT / "README.md"))}


def key_exists(key: str) -> bool:
    """Whether a dotted key is in the defaults; names of profiles, modes and streams are free."""
    table: object = configuration.public(configuration.load(None)) | {}
    path = key.split(".")
    for depth, name in enumerate(path):
        if not isinstance(table, dict):
            return False
        parent = path[depth - 1] if depth else ""
        if name not in table and parent in ("profiles", "modes", "streams", "receiver_caps"):
            name = next(iter(table), "")
        if name not in table:
            # Secrets are left out of what is shown.
            return key in ("auth.secret",)
        table = table[name]
    return True


@each_guide
def test_every_configuration_key_exists(guide: Path) -> None:
    named: set[str] = set()
    for span in SPAN.findall(prose_of(guide)):
        named |= {key for key in DOTTED.findall(span) if not FILE_ENDING.search(key)}
    for line in code_lines(guide):
        named |= set(SET_KEY.findall(line))
    for language, body in FENCE.findall(text_of(guide)):
        if language == "toml":
            named |= set(flat(tomllib.loads(body)))
    assert [key for key in sorted(named) if not key_exists(key)] == []


def flat(table: dict[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_a_wrong_key_would_be_noticed() -> None:
    assert key_exists("limits.joins_per_second")
    assert key_exists("profiles.NAME.streams.camera.receiver_cap")
    assert not key_exists("limits.joins")
    assert not key_exists("profiles.NAME.streams.camera.cap")
    assert not key_exists("server.port.number")


# --- words on the pages and in the log ---------------------------------------------------------


@pytest.mark.parametrize("guide", FOR_USERS, ids=lambda p: p.name)
def test_words_in_bold_stand_on_the_pages_exactly_so(guide: Path) -> None:
    chinese, _, english = text_of(guide).partition("\n---\n")
    for language, half in (("zh-CN", chinese), ("en", english)):
        words = json.loads((LOCALES / f"{language}.json").read_text("utf-8")).values()
        said = [re.sub(r"\\{\w+\\}", ".+", re.escape(value)) for value in words]
        bold = set(re.findall(r"\*\*([^*]+)\*\*", half.replace("\n", " ")))
        bold -= {"粗体字", "bold"}
        assert len(bold) > 20
        assert [b for b in sorted(bold) if not any(re.fullmatch(one, b) for one in said)] == []


def test_log_lines_in_the_troubleshooting_table_are_what_the_server_says() -> None:
    guide = text_of(ROOT / "docs" / "ops.md").partition("· Troubleshooting\n")[2]
    sources = [
        path.read_text("utf-8")
        for package in ("clients", "signaling", "streamer")
        for path in (ROOT / package).rglob("*.py")
    ]
    # Long texts are written as several literals in a row.
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources)) + "Address already in use"
    rows = [line for line in guide.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 10
    unsaid: list[str] = []
    for row in rows:
        for quoted in SPAN.findall(row.split(" | ")[0]):
            prefix, _, reason = quoted.partition("closed: ")
            pieces = [prefix, reason] if reason else quoted.split("…")
            unsaid += [piece for piece in pieces if piece.strip() not in said]
    assert unsaid == []
