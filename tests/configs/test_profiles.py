"""The shipped profiles: valid, explained in both languages, and as docs/profiles.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signaling.config import wire_kbps
from signaling.config_rules import worker_count
from signaling.planner import Node, plan_mode

from .profile_table import CONFIGS, PROFILES, configs, table

DOCS = CONFIGS.parent / "docs"


def test_the_table_of_the_documentation_is_made_from_the_files() -> None:
    text = (DOCS / "profiles.md").read_text("utf-8")
    # Renew it with: python -m tests.configs.profile_table
    assert table() in text


def test_every_profile_file_is_in_the_table() -> None:
    shipped = {path.stem for path in CONFIGS.glob("*.toml")} - {"default", "demo"}
    assert shipped == set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_used_by_every_mode_and_within_the_plan_of_one_processor(name: str) -> None:
    config = configs()[name]
    assert worker_count(config.server) >= 1
    for mode in config.modes:
        assert config.modes[mode].profile == name
        one = Node.of(config.planner, workers=1, cores=1)
        plan = plan_mode(config, mode, one)
        assert not any(stream.above for stream in plan.streams), (mode, plan.cap)


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_of_a_profile_is_explained_in_chinese_and_english(name: str) -> None:
    text = (CONFIGS / f"{name}.toml").read_text("utf-8")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert len(re.findall(r"[\u4e00-\u9fff]", comments)) > 80
    assert len(re.findall(r"[A-Za-z]{3,}", comments)) > 60
    assert f"tongke serve --config configs/{name}.toml" in comments


def test_lines_get_what_they_can_carry_in_order() -> None:
    found = configs()
    needs = [
        sum(wire_kbps(stream) for stream in found[name].profiles[name].streams.values())
        for name in ("metered-4g", "rural-2m", "rural-4m", "rural-8m", "county-50m",
                     "county-100m", "fibre-campus")
    ]  # fmt: skip
    assert needs == sorted(needs)


@pytest.mark.parametrize(
    ("name", "line_kbps"),
    [("rural-2m", 2000), ("rural-4m", 4000), ("rural-8m", 8000), ("county-50m", 50_000),
     ("county-100m", 100_000)],
)  # fmt: skip
def test_a_profile_leaves_a_third_of_its_line_free(name: str, line_kbps: int) -> None:
    plan = plan_mode(
        configs()[name],
        "open",
        Node(workers=1, cores=1, packet_us=5.0, packet_us_source="default"),
    )
    assert sum(stream.demand.line_kbps for stream in plan.streams) <= line_kbps * 0.67


def test_the_documents_name_only_files_that_exist() -> None:
    for document in ("profiles.md", "planner.md", "deployment.md"):
        text = (DOCS / document).read_text("utf-8")
        for named in re.findall(r"configs/[A-Za-z0-9_./-]+\.\w+", text):
            assert Path(CONFIGS.parent, named).is_file(), f"{document} names {named}"
        for named in re.findall(r"\]\(([a-z-]+\.md)\)", text):
            assert (DOCS / named).is_file(), f"{document} links {named}"
