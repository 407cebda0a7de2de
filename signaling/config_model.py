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
StreamName = Annotated[str, Meta(pattern=r"^(camera|slides|stage)$")]
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
    receivers: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="全服务器接收端总上限，0 为不另设 · "
            "receivers of the whole server, over all lessons; 0: no limit of its own",
        ),
    ]
    receivers_per_organisation: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="每个单位（令牌中的 org）的接收端总上限，0 为不设 · "
            "receivers of one organisation (`org` of the token); 0: no limit",
        ),
    ]
    joins_per_seat_per_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="每个席位每分钟接入次数 · media sessions a seat may open in a minute",
        ),
    ]
    new_seats_per_ip_per_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="每个地址每分钟凭课堂码新开席位数 · "
            "seats an address may open by join code in a minute",
        ),
    ]
    per_token_requests_per_second: Annotated[
        float,
        Meta(ge=1, le=100_000, description="每个令牌每秒请求数 · requests a second per token"),
    ]
    sockets_per_token: Annotated[
        int,
        Meta(
            ge=1,
            le=20_000,
            description="每个令牌同时打开的网页连接数 · pages a token may have open at once",
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
    override: Annotated[
        bool,
        Meta(
            description="允许名额超出规划（tongke plan），后果自负 · "
            "let the cap exceed what `tongke plan` computes, at your own risk"
        ),
    ] = False


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
        Meta(min_length=1, max_length=3, description="新课的输出流 · streams of a new lesson"),
    ]
    receiver_caps: Annotated[
        dict[StreamName, Cap],
        Meta(description="接收端上限，优先于带宽配置 · caps that win over the profile's"),
    ]
    lesson_receivers: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="整堂课各路合计的接收端上限，0 为不另设 · "
            "receivers of all streams of a lesson together; 0: no limit of its own",
        ),
    ]
    observers: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="每路另为观摩者留的名额，0 为与听课端共用、排在最后 · "
            "places per stream apart for observers; 0: they share, with the least priority",
        ),
    ]
    inspectors: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="每路另为巡课（运维令牌）留的名额 · "
            "places per stream apart for inspectors (ops tokens)",
        ),
    ]
    reserve_minutes: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="预留席位保留到开课后几分钟 · "
            "minutes into the lesson for which reserved places are kept",
        ),
    ]
    returns: Annotated[
        Literal["off", "tile", "full"],
        Meta(
            description="听课端回传：off 无，tile 上台前为小画面，full 一直为高清 · "
            "returns: off, tile: small until on the floor, full: always full quality"
        ),
    ]
    floor_size: Annotated[
        int,
        Meta(ge=0, le=16, description="同时上台的听课端数 · teaching points on the floor at once"),
    ]
    recording: Annotated[
        bool,
        Meta(description="录制输出流（教学实录）· record the output streams of its lessons"),
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


class Planner(Section, frozen=True, kw_only=True):
    """The assumptions from which caps are computed (docs/planner.md). Applied live."""

    node_uplink_kbps: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="本服务器出口带宽（kbit/s）· uplink of this server, kbit/s",
        ),
    ]
    lessons: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="同时满员的课数 · lessons that are full at the same time",
        ),
    ]
    target_cpu_percent: Annotated[
        float,
        Meta(ge=1, le=95, description="CPU 使用上限（%）· most of the processors to plan with, %"),
    ]
    packet_us: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="转发一个包的 CPU 微秒数，0 为本机实测或默认值 · "
            "CPU microseconds per forwarded packet; 0: as measured here, else the default",
        ),
    ]
    retransmission_percent: Annotated[
        float, Meta(ge=0, le=100, description="重传余量（%）· headroom for packets sent again, %")
    ]
    switch_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="同一秒内切换清晰度的接收端比例（%）· "
            "receivers that change layers within the same second, %",
        ),
    ]
    keyframe_frames: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="关键帧相当于几帧普通画面 · size of a key frame in mean frames",
        ),
    ]
    mixer_core_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=6400,
            description="混流一堂课的基本开销（% 核）· mixing one lesson at all, % of a core",
        ),
    ]
    tile_core_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=6400,
            description="混流中每路解码画面（% 核）· each decoded tile of a mix, % of a core",
        ),
    ]
    tiles: Annotated[
        dict[ModeName, Annotated[int, Meta(ge=0, le=64)]],
        Meta(description="各模式混流的画面数 · tiles that are mixed, by mode"),
    ]
    lesson_minutes: Annotated[
        float, Meta(ge=1, le=600, description="一课的分钟数 · minutes of a lesson")
    ]
    interaction_percent: Annotated[
        float,
        Meta(ge=0, le=100, description="互动占全课时间（%）· part of a lesson for interaction, %"),
    ]
    answer_s: Annotated[
        float,
        Meta(ge=1, le=3600, description="一次点名作答的秒数 · seconds to call on one classroom"),
    ]
    answers_each: Annotated[
        dict[ModeName, Annotated[float, Meta(ge=0, le=100)]],
        Meta(
            description="每间教室每课至少发言次数，0 为不要求 · "
            "times each classroom speaks in a lesson at least, by mode; 0: no wish"
        ),
    ]


class Mixer(Section, frozen=True, kw_only=True):
    """The mixer, and what returns may take of their line. For what is opened from then on."""

    start: Annotated[
        Literal["auto", "always"],
        Meta(
            description="何时混流：auto 有回传或有人看合成画面时，always 每课始终 · "
            "auto: when returns come or somebody watches a mix; always: in every lesson"
        ),
    ]
    video_codec: Annotated[
        Literal["h264", "vp8"],
        Meta(description="合成画面的编码 · codec of the mixed pictures"),
    ]
    tile_kbps: Annotated[
        int,
        Meta(
            ge=30,
            le=2000,
            description="小画面回传的码率上限（kbit/s）· most a small return may use, kbit/s",
        ),
    ]
    full_kbps: Annotated[
        int,
        Meta(
            ge=100,
            le=20_000,
            description="上台时回传的码率上限（kbit/s）· most a return on the floor may use",
        ),
    ]


class Recording(Section, frozen=True, kw_only=True):
    """Files of recorded lessons. Applied live; which lessons are recorded, their mode says."""

    min_free_mb: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000_000,
            description="磁盘剩余低于此值（MiB）时停止录制 · "
            "recording stops while less than this is free on the disk, MiB",
        ),
    ]
    retention_days: Annotated[
        int,
        Meta(ge=1, le=3650, description="录像保留天数 · days after which recordings are deleted"),
    ]
    segment_minutes: Annotated[
        float,
        Meta(ge=0.1, le=1440, description="每个文件的分钟数 · minutes of one file"),
    ]


class Alarms(Section, frozen=True, kw_only=True):
    """When the operations page raises an alarm; 0 switches a limit off. Applied live."""

    hold_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="超限持续几秒才报警 · seconds a limit is passed before the alarm",
        ),
    ]
    loss_percent: Annotated[
        float, Meta(ge=0, le=100, description="接收端丢包（%）· loss of a receiver, %")
    ]
    freezes_per_minute: Annotated[
        float,
        Meta(ge=0, le=600, description="接收端每分钟卡顿次数 · freezes of a receiver in a minute"),
    ]
    no_picture_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="上课中的流无画面秒数 · seconds without media of a stream that was live",
        ),
    ]
    cpu_percent: Annotated[
        float, Meta(ge=0, le=100, description="媒体进程占一个核的 % · of a core, by a worker")
    ]
    uplink_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=200,
            description="占 planner.node_uplink_kbps 的 % · of planner.node_uplink_kbps",
        ),
    ]
    worker_restarts: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="十分钟内媒体进程重启次数 · restarts of a worker in ten minutes",
        ),
    ]
    disk_free_mb: Annotated[
        int,
        Meta(ge=0, le=100_000_000, description="磁盘剩余（MiB）· free on the disk, MiB"),
    ]


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration, validated."""

    server: Server
    limits: Limits
    auth: Auth
    profiles: Annotated[dict[Name, Profile], Meta(min_length=1, description="带宽配置 · profiles")]
    modes: Annotated[dict[ModeName, Mode], Meta(min_length=1, description="课堂模式 · modes")]
    planner: Planner
    mixer: Mixer
    recording: Recording
    alarms: Alarms

    def stream(self, mode: str, stream: str) -> Stream:
        """The settings of a stream in a mode, the mode's own cap applied. KeyError if unknown.

        A profile need not say what the stage is like: it is as large as its first stream.
        """
        chosen = self.modes[mode]
        streams = self.profiles[chosen.profile].streams
        if stream == "stage" and stream not in streams:
            settings = next(iter(streams.values()))
        else:
            settings = streams[stream]
        cap = chosen.receiver_caps.get(stream, settings.receiver_cap)
        return msgspec.structs.replace(settings, receiver_cap=cap)
