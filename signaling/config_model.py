"""The shape of the configuration: every key with its unit, its range and what it does.

Nothing here has a default: the defaults are the commented file `defaults/default.toml`, over
which a configuration file and `--set` are laid. Descriptions are Chinese, then English, and end
up in the JSON schema and so in the editor of the operations page.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

# Patterns rather than Literals: they stay plain `str` to whoever looks a name up.
StreamName = Annotated[str, Meta(pattern=r"^(camera|slides)$")]
CodecName = Annotated[str, Meta(pattern=r"^(vp8|h264|vp9|av1)$")]
ModeName = Annotated[str, Meta(pattern=r"^(dispatch|masterclass|open)$")]

# The highest cap that the API takes (docs/protocol.md).
MAX_CAP: Final = 10_000

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Cap = Annotated[int, Meta(ge=0, le=MAX_CAP)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Kbps = Annotated[int, Meta(ge=0, le=100_000)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables of the configuration."""


class Server(Section, frozen=True, kw_only=True):
    """Addresses, ports and processes. Needs a restart to change."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=253,
            description="监听地址 · address to listen on, for pages and media; :: is all",
        ),
    ]
    port: Annotated[Port, Meta(description="网页与 API 的 TCP 端口 · TCP port of pages and API")]
    tls: Annotated[
        Literal["auto", "off", "files"],
        Meta(
            description="HTTPS：auto 自签证书，files 用证书文件，off 仅限本机或反向代理之后 · "
            "auto: self-signed, files: certificate files, off: on loopback or behind a proxy only"
        ),
    ]
    tls_certificate: Annotated[
        str, Meta(max_length=4096, description="证书链文件（PEM）· certificate chain file (PEM)")
    ]
    tls_key: Annotated[
        str, Meta(max_length=4096, description="私钥文件（PEM）· private key file (PEM)")
    ]
    data_dir: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=4096,
            description="数据目录（数据库、生成的密钥）· directory of the database and made keys",
        ),
    ]
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=256,
            description="媒体进程数，0 为每个 CPU 核一个 · media processes, 0 is one per CPU core",
        ),
    ]
    announce: Annotated[
        list[str],
        Meta(
            max_length=16,
            description="告知客户端的媒体 IP 地址，空为本机所有地址 · "
            "media IP addresses told to clients, empty is all of this machine",
        ),
    ]
    media_port: Annotated[
        Port,
        Meta(
            description="第一个媒体进程的 UDP 与 TCP 端口，其余依次加一 · "
            "UDP and TCP port of the first media process; the others count up from it"
        ),
    ]
    public_url: Annotated[
        str,
        Meta(
            max_length=253,
            description="用户访问的网址，空为自动 · address users see, empty: from host, port",
        ),
    ]


class Limits(Section, frozen=True, kw_only=True):
    """What protects the server from too much. Applied live."""

    lessons: Annotated[
        int, Meta(ge=1, le=10_000, description="同时进行的课 · lessons at the same time")
    ]
    sessions: Annotated[
        int, Meta(ge=1, le=100_000, description="媒体会话总数 · media sessions at the same time")
    ]
    joins_per_second: Annotated[
        float, Meta(ge=0.1, le=10_000, description="每秒新接入数 · new joins a second, sustained")
    ]
    joins_burst: Annotated[
        int, Meta(ge=1, le=100_000, description="瞬时接入数 · joins at once before that rate holds")
    ]
    per_ip_requests_per_second: Annotated[
        float,
        Meta(ge=1, le=100_000, description="每个地址每秒请求数 · requests a second per address"),
    ]
    seat_hold_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="断线后席位保留秒数 · seconds a lost seat is kept"),
    ]
    offer_s: Annotated[
        float,
        Meta(ge=3, le=600, description="候补席位保留秒数 · seconds a freed place is offered"),
    ]
    wrong_codes_per_10min: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="每个地址十分钟内可输错课堂码次数 · wrong join codes per address in 10 min",
        ),
    ]
    body_bytes: Annotated[
        int,
        Meta(
            ge=4096, le=8_388_608, description="请求正文上限（字节）· largest request body, bytes"
        ),
    ]


class Stream(Section, frozen=True, kw_only=True):
    """One output stream of a profile: picture, sound and how many may receive it."""

    width: Annotated[
        int, Meta(ge=160, le=3840, multiple_of=2, description="画面宽（像素）· width, pixels")
    ]
    height: Annotated[
        int, Meta(ge=90, le=2160, multiple_of=2, description="画面高（像素）· height, pixels")
    ]
    fps: Annotated[int, Meta(ge=1, le=60, description="每秒帧数 · frames a second")]
    video_kbps: Annotated[
        int,
        Meta(
            ge=30,
            le=100_000,
            description="视频码率上限（kbit/s）· most the video may use, kbit/s",
        ),
    ]
    audio_kbps: Annotated[
        int,
        Meta(
            ge=0,
            le=510,
            description="音频码率（kbit/s），0 为无声 · Opus bit rate, kbit/s; 0 is no sound",
        ),
    ]
    receiver_cap: Annotated[Cap, Meta(description="接收端上限 · receivers at the same time")]
    waiting_list: Annotated[Cap, Meta(description="等候名单长度 · places in the waiting list")]
    codecs: Annotated[
        list[CodecName],
        Meta(
            min_length=1,
            max_length=4,
            description="视频编码，按优先顺序 · video codecs, most wanted first",
        ),
    ]


class Profile(Section, frozen=True, kw_only=True):
    """Bandwidth settings of one kind of line."""

    uplink_kbps: Annotated[
        Kbps, Meta(description="主讲端上行带宽（kbit/s），0 为不限 · teacher's uplink, 0: no limit")
    ]
    downlink_kbps: Annotated[
        Kbps,
        Meta(description="听课端下行带宽（kbit/s），0 为不限 · receiver's downlink, 0: no limit"),
    ]
    streams: Annotated[
        dict[StreamName, Stream], Meta(min_length=1, description="输出流 · output streams")
    ]


class Mode(Section, frozen=True, kw_only=True):
    """How a kind of lesson is run."""

    profile: Annotated[Name, Meta(description="所用带宽配置 · the profile it uses")]
    streams: Annotated[
        list[StreamName],
        Meta(min_length=1, max_length=2, description="新课的输出流 · streams of a new lesson"),
    ]
    receiver_caps: Annotated[
        dict[StreamName, Cap],
        Meta(description="接收端上限，优先于带宽配置 · caps that win over the profile's"),
    ]


class Auth(Section, frozen=True, kw_only=True):
    """Tokens."""

    token_ttl_s: Annotated[
        int,
        Meta(
            ge=60,
            le=31_536_000,
            description="听课端令牌有效秒数 · seconds a joining token is valid",
        ),
    ]
    teacher_ttl_s: Annotated[
        int,
        Meta(
            ge=60,
            le=31_536_000,
            description="老师、运维令牌有效秒数 · seconds teacher and ops tokens are valid",
        ),
    ]
    secret: Annotated[
        str,
        Meta(
            max_length=1024,
            description="签名密钥，空为自动生成并保存 · signing secret, empty: made and kept",
        ),
    ]


class Mixer(Section, frozen=True, kw_only=True):
    """Reserved for the mixer: it has no keys yet, and an empty table is accepted."""


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration, validated."""

    server: Server
    limits: Limits
    auth: Auth
    profiles: Annotated[dict[Name, Profile], Meta(min_length=1, description="带宽配置 · profiles")]
    modes: Annotated[dict[ModeName, Mode], Meta(min_length=1, description="课堂模式 · modes")]
    mixer: Mixer

    def stream(self, mode: str, stream: str) -> Stream:
        """The settings of a stream in a mode, the mode's own cap applied. KeyError if unknown."""
        chosen = self.modes[mode]
        settings = self.profiles[chosen.profile].streams[stream]
        cap = chosen.receiver_caps.get(stream, settings.receiver_cap)
        return msgspec.structs.replace(settings, receiver_cap=cap)
