"""Configuration: defaults, files, overrides, and refusals that name every key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling import config as configuration
from signaling.config import ConfigError, describe_changes, load, parse, public, to_toml

CONFIGS = Path(__file__).parents[2] / "configs"
SECRET = "a secret long enough for HS256, 32+"


def errors(text: str = "", *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, overrides)
    for error in caught.value.errors:
        assert error.key in str(caught.value)
        assert error.allowed in str(caught.value)
        assert error.allowed_zh
    return {error.key: error.allowed for error in caught.value.errors}


def test_the_commented_file_is_the_embedded_default() -> None:
    assert (CONFIGS / "default.toml").read_text("utf-8") == configuration.default_text()
    assert load(CONFIGS / "default.toml") == load(None)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_file_is_valid_and_comments_both_languages(path: Path) -> None:
    load(path)
    text = path.read_text("utf-8")
    assert any("\u4e00" <= letter <= "\u9fff" for letter in text)
    assert "# " in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_defaults_name_every_key_of_the_model() -> None:
    defaults = tomllib.loads(configuration.default_text())
    assert defaults.keys() == {*configuration.Config.__struct_fields__}
    for section in (configuration.Server, configuration.Limits, configuration.Auth):
        assert defaults[section.__name__.lower()].keys() == {*section.__struct_fields__}


def test_every_key_of_the_defaults_has_a_comment_above() -> None:
    lines = configuration.default_text().splitlines()
    start, end = lines.index("[server]"), lines.index("[profiles.standard.streams.slides]")
    for number in range(start, end):
        key = lines[number].partition(" = ")[0]
        if " = " in lines[number] and not lines[number].startswith("#") and key != "tls_key":
            above = lines[number - 1]
            assert above.startswith("#") or key == "downlink_kbps" or key == "height", key


def test_the_values_that_other_parts_count_on() -> None:
    config = load(None)
    assert (config.server.port, config.server.tls, config.server.workers) == (8443, "auto", 0)
    assert (config.limits.joins_per_second, config.limits.joins_burst) == (200, 1000)
    assert (config.limits.seat_hold_s, config.limits.offer_s) == (60, 15)
    caps = {mode: config.stream(mode, "camera").receiver_cap for mode in config.modes}
    assert caps == {"dispatch": 30, "masterclass": 100, "open": 250}
    assert config.stream("open", "slides").waiting_list == 200


def test_a_file_says_only_what_differs() -> None:
    config = parse("[server]\nport = 9000\n[modes.open.receiver_caps]\ncamera = 5\n")
    assert config.server.port == 9000
    assert config.server.data_dir == load(None).server.data_dir
    assert config.stream("open", "camera").receiver_cap == 5
    assert config.stream("open", "slides").receiver_cap == 250


def test_the_cap_of_the_profile_holds_where_the_mode_has_none() -> None:
    profile = to_toml(load(None)).replace("[profiles.standard", "[profiles.mine")
    own = parse(profile, ["modes.open.profile=mine", "modes.open.receiver_caps={ slides = 7 }"])
    assert own.modes["open"].receiver_caps["slides"] == 7
    with pytest.raises(KeyError):
        own.stream("open", "wall")


def test_overrides_take_toml_values_and_bare_text() -> None:
    config = parse(
        "[server]\nport = 9000\n",
        [
            "server.port=9443",
            "server.host = 127.0.0.1",
            'server.announce=["192.0.2.7", "2001:db8::7"]',
            "limits.joins_per_second=12.5",
            "server.public_url=https://class.example",
            'auth.secret="' + SECRET + '"',
        ],
    )
    assert config.server.port == 9443
    assert config.server.host == "127.0.0.1"
    assert config.server.announce == ["192.0.2.7", "2001:db8::7"]
    assert config.limits.joins_per_second == 12.5
    assert config.server.public_url == "https://class.example"
    assert config.auth.secret == SECRET


@pytest.mark.parametrize(
    "text", ["", "port", "=", ".=1", "a..b=1", "a" + ".a" * 20 + "=1", "x\ud800=1"]
)
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    assert "server.port=8443" in next(iter(errors("", text).values()))


def test_an_override_cannot_smuggle_in_a_second_key() -> None:
    assert "server.port" in errors("", "server.port=1\nother=2")


def test_all_problems_are_listed_at_once_with_the_remedy() -> None:
    found = errors(
        '[server]\nprot = 1\nworkers = -1\nannounce = ["host.example"]\n[limitz]\n'
        '[profiles.standard.streams.camera]\nwidth = 1281\ncodecs = ["h265"]\n[modes.opne]\n',
        "server.port=70000",
    )
    assert 'did you mean "port"' in found["server.prot"]
    assert "0 to 256" in found["server.workers"]
    assert "1 to 65535" in found["server.port"]
    assert 'did you mean "limits"' in found["limitz"]
    assert "even" in found["profiles.standard.streams.camera.width"]
    assert '"h264"' in found["profiles.standard.streams.camera.codecs[0]"]
    assert 'did you mean "open"' in found["modes.opne"]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("server.port=true", "server.port", "whole number"),
        ("server.port=8443.0", "server.port", "whole number"),
        ('server.port="8443"', "server.port", "whole number"),
        ("server.tls=maybe", "server.tls", '"auto"'),
        ("server.host=not a host", "server.host", "IP address"),
        ("server=3", "server", "[server]"),
        ("limits.seat_hold_s=inf", "limits.seat_hold_s", "0 to 3600"),
        ("limits.seat_hold_s=nan", "limits.seat_hold_s", "0 to 3600"),
        ("limits.offer_s=1", "limits.offer_s", "3 to 600"),
        ("limits.sessions=99999999999999999999999", "limits.sessions", "1 to 100000"),
        ("server.announce=127.0.0.1", "server.announce", "list"),
        ('server.announce=["0.0.0.0"]', "server.announce[0]", "clients can reach"),
        ('server.announce=["192.0.2.1:80"]', "server.announce[0]", "no port"),
        ("server.public_url=class.example", "server.public_url", "https://"),
        ("server.public_url=https://a/b", "server.public_url", "https://"),
        ("server.public_url=https://a:x", "server.public_url", "https://"),
        ("server.public_url=javascript:alert(1)", "server.public_url", "https://"),
        ("server.media_port=65535", "server.media_port", "workers"),
        ("server.media_port=8443", "server.media_port", "8443 to 8444"),
        ("modes.open.profile=no-such", "modes.open.profile", '"standard"'),
        ('modes.open.streams=["camera","camera"]', "modes.open.streams[1]", "once"),
        ("modes.open.streams=[]", "modes.open.streams", "1 to 3"),
        ("modes.open.receiver_caps.wall=3", "modes.open.receiver_caps.wall", "camera"),
        ("modes.open.receiver_caps.camera=10001", "modes.open.receiver_caps.camera", "10000"),
        ("auth.secret=short", "auth.secret", "32"),
        ("mixer.tiles=9", "mixer.tiles", "no such key"),
        ("profiles.Bad!.uplink_kbps=1", "profiles.Bad!", "lower-case"),
        (
            'profiles.standard.streams.camera.codecs=["vp8","vp8"]',
            "profiles.standard.streams.camera.codecs",
            "once",
        ),
    ],
)
def test_a_wrong_value_names_its_key_and_what_is_allowed(
    override: str, key: str, words: str
) -> None:
    assert words in errors("[server]\nworkers = 2\n", override)[key]


def test_plain_http_is_only_for_loopback_or_behind_an_https_proxy() -> None:
    assert "public_url" in errors("", "server.tls=off")["server.tls"]
    assert errors("", "server.tls=off", "server.public_url=http://a.example").keys() == {
        "server.tls"
    }
    for host in ("127.0.0.1", "::1", "localhost"):
        parse("", ["server.tls=off", f"server.host={host}"])
    parse("", ["server.tls=off", "server.public_url=https://class.example"])


def test_certificate_files_must_be_named_and_exist(tmp_path: Path) -> None:
    assert errors("", "server.tls=files").keys() == {"server.tls_certificate", "server.tls_key"}
    certificate = tmp_path / "cert.pem"
    certificate.write_text("x")
    overrides = [
        "server.tls=files",
        f"server.tls_certificate={certificate}",
        f"server.tls_key={tmp_path / 'missing.pem'}",
    ]
    with pytest.raises(ConfigError, match="tls_key") as caught:
        load(None, overrides)
    assert len(caught.value.errors) == 1


def test_streams_above_the_budget_are_refused_with_a_remedy_that_works() -> None:
    key = "profiles.standard.uplink_kbps"
    text = errors("", f"{key}=2500")[key]
    name, _, kbps = text.partition("lower ")[2].partition(". ")[0].partition(" to ")
    parse("", [f"{key}=2500", f"{name}={kbps}"])
    raised = text.partition("at least ")[2].partition(",")[0]
    parse("", [f"{key}={raised}"])
    assert errors("", f"{key}={int(raised) - 1}").keys() == {key}
    parse("", [f"{key}=0"])  # 0 is no limit


def test_a_new_profile_must_be_complete() -> None:
    found = errors("[profiles.mine]\nuplink_kbps = 1\n[profiles.mine.streams.camera]\nfps = 5\n")
    assert "profiles.mine.downlink_kbps" in found
    assert "add this key" in found["profiles.mine.streams.camera.width"]
    assert "profiles.mine.streams.camera.fps" not in found


def test_a_secret_is_never_shown() -> None:
    config = parse("", [f"auth.secret={SECRET}"])
    assert SECRET not in json.dumps(public(config))
    assert "secret" not in public(config)["auth"]  # type: ignore[operator]
    assert SECRET not in to_toml(config)
    for changed in describe_changes(load(None), config):
        assert SECRET not in (changed.old, changed.new)
    for mistake in (f'[auth]\nsecrets = "{SECRET}"', f'[auth]\ntoken_ttl_s = "{SECRET}"'):
        with pytest.raises(ConfigError) as caught:
            parse(mistake)
        assert SECRET not in str(caught.value)
        assert SECRET not in json.dumps(caught.value.document("en"))


def test_what_is_written_reads_back_the_same() -> None:
    config = load(CONFIGS / "county-100m.toml", [f"auth.secret={SECRET}", "limits.offer_s=7.5"])
    assert parse(to_toml(config, secrets=True)) == config
    assert parse(to_toml(config), [f"auth.secret={SECRET}"]) == config


def test_changes_say_what_needs_a_restart() -> None:
    new = parse(
        "",
        [
            "server.port=9000",
            f"auth.secret={SECRET}",
            "auth.token_ttl_s=60",
            "limits.lessons=7",
            "modes.open.receiver_caps.camera=9",
        ],
    )
    changes = {change.key: change for change in describe_changes(load(None), new)}
    assert {key: change.live for key, change in changes.items()} == {
        "server.port": False,
        "auth.secret": False,
        "auth.token_ttl_s": True,
        "limits.lessons": True,
        "modes.open.receiver_caps.camera": True,
    }
    assert (changes["limits.lessons"].old, changes["limits.lessons"].new) == ("50", "7")
    assert describe_changes(new, new) == []


def test_the_problem_document_lists_the_errors_in_the_language_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("", ["server.port=0"])
    english, chinese = caught.value.document("en"), caught.value.document("zh-CN")
    assert english["status"] == 400
    assert str(english["type"]).endswith("/config-invalid")
    expected = {"key": "server.port", "value": "0", "allowed": "a whole number from 1 to 65535"}
    assert english["errors"] == [expected]
    assert "整数" in json.dumps(chinese, ensure_ascii=False)
    assert caught.value.problem().document("zh-CN") == chinese
    assert "server.port" in caught.value.text("zh-CN")


def test_the_schema_describes_every_key_and_demands_none() -> None:
    schema: Any = configuration.json_schema()
    definitions = schema["$defs"]
    for name, definition in definitions.items():
        assert "required" not in definition
        if name != "Config":
            for key, entry in definition["properties"].items():
                assert entry["description"], f"{name}.{key}"
    assert definitions["Server"]["properties"]["port"]["default"] == 8443
    assert definitions["Limits"]["properties"]["offer_s"]["minimum"] == 3
    json.dumps(schema)


def test_a_file_that_cannot_be_read_says_which_and_why(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary.toml", tmp_path / "large.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"#" * (configuration.MAX_FILE_BYTES + 1))
    for path, words in (
        (tmp_path / "missing.toml", "No such file"),
        (tmp_path, "directory"),
        (binary, "UTF-8"),
        (large, "1 MiB"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 9000\r\n")
    assert load(path).server.port == 9000


@pytest.mark.parametrize(
    "text", ["[server", "port = ", "a = " + "[" * 5000, "a = " + "9" * 5000, "a = 1\na = 2", "\x00"]
)
def test_text_that_is_no_toml_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"TOML|known here"):
        parse(text)


@settings(max_examples=150)
@given(st.sampled_from(["server.port", "server.announce", "modes.open", "auth", "zz"]), st.text())
def test_any_override_gives_a_config_or_a_config_error(key: str, value: str) -> None:
    try:
        parse("", [f"{key}={value}"])
    except ConfigError as error:
        assert error.errors


@settings(max_examples=150)
@given(st.text(max_size=60))
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    try:
        assert parse(text) is not None
    except ConfigError as error:
        assert str(error)
