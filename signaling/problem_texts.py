"""What each problem type of docs/protocol.md says, in Chinese and English, and its status.

A detail is a tuple of sentences. A sentence with a `{value}` is left out where the value is not
known, so each must make sense without it. They say what happened, then what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Text(NamedTuple):
    """A title and the sentences of a detail in one language."""

    title: str
    sentences: tuple[str, ...]


class Kind(NamedTuple):
    """What is fixed about one problem type."""

    status: int
    zh: Text
    en: Text
    retry_after_s: int | None = None

    def text(self, language: str) -> Text:
        return self.en if language == "en" else self.zh


def _kind(
    status: int,
    zh: tuple[str, ...],
    en: tuple[str, ...],
    retry_after_s: int | None = None,
) -> Kind:
    return Kind(status, Text(zh[0], zh[1:]), Text(en[0], en[1:]), retry_after_s)


# First the title, then the sentences of the detail.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "receiver-cap-reached": _kind(
            503,
            (
                "接收端已满",
                "本路输出流的接收端名额已全部占用。",
                "名额上限：{cap}。",
                "您排在等候名单第 {position} 位，请不要关闭页面，有名额时会自动加入。",
                "等候名单（{waiting_list} 个位置）也已满，请稍后再试，或请运维人员提高上限。",
            ),
            (
                "All places are taken",
                "Every receiving place of this output stream is taken.",
                "The cap is {cap}.",
                "You are number {position} in the waiting list: keep this page open and it joins "
                "by itself when a place is free.",
                "The waiting list of {waiting_list} is full too: try again later, or ask the "
                "operations staff to raise the cap.",
            ),
            5,
        ),
        "invalid-token": _kind(
            401,
            (
                "令牌无效",
                "访问令牌缺失、有误或已过期。",
                "原因：{reason}。",
                "请用课堂码重新加入，或向运维人员索取新的链接。",
            ),
            (
                "The token is not valid",
                "The access token is missing, wrong or expired.",
                "Reason: {reason}.",
                "Join again with the lesson's code, or ask the operations staff for a new link.",
            ),
        ),
        "forbidden": _kind(
            403,
            (
                "没有权限",
                "您的身份不能进行此操作。",
                "当前身份：{role}。",
                "原因：{reason}。",
                "请使用有相应权限的链接，或请老师、运维人员代为操作。",
            ),
            (
                "Not allowed",
                "Your role may not do this.",
                "You are here as: {role}.",
                "Reason: {reason}.",
                "Use a link that has the right, or ask the teacher or the operations staff.",
            ),
        ),
        "invalid-sdp": _kind(
            400,
            (
                "媒体协商内容有误",
                "无法接受这份 SDP。",
                "出错位置：{field}。",
                "原因：{reason}。",
                "请刷新页面重试；如使用其他软件，请检查其 WHIP/WHEP 设置。",
            ),
            (
                "The SDP cannot be used",
                "This SDP cannot be accepted.",
                "It fails at: {field}.",
                "Reason: {reason}.",
                "Reload the page and try again; with other software, check its WHIP/WHEP settings.",
            ),
        ),
        "invalid-request": _kind(
            400,
            (
                "请求内容有误",
                "请求无法处理，请更正后再发送。",
                "出错字段：{field}。",
                "原因：{reason}。",
            ),
            (
                "The request is not valid",
                "The request cannot be processed: correct it and send it again.",
                "The field at fault is: {field}.",
                "Reason: {reason}.",
            ),
        ),
        "unsupported-media-type": _kind(
            415,
            ("内容类型不支持", "请求的 Content-Type 不受支持。", "请使用 {expected}。"),
            (
                "Unsupported media type",
                "The request's Content-Type is not supported.",
                "Use {expected}.",
            ),
        ),
        "body-too-large": _kind(
            413,
            ("请求过大", "请求内容超过允许的大小。", "上限为 {limit} 字节，请缩短后再发送。"),
            (
                "The request is too large",
                "The request's body is larger than allowed.",
                "The limit is {limit} bytes: shorten it and send it again.",
            ),
        ),
        "unknown-join-code": _kind(
            404,
            ("课堂码不存在", "没有使用这个课堂码的课。请与老师核对课堂码，注意每一位数字。"),
            (
                "Unknown join code",
                "No lesson has this code. Check every digit with the teacher and try again.",
            ),
        ),
        "no-such-lesson": _kind(
            404,
            ("没有这节课", "没有这节课，或者它已被删除。请向老师索取新的课堂码。"),
            (
                "No such lesson",
                "This lesson does not exist or was removed. Ask the teacher for a new code.",
            ),
        ),
        "no-such-stream": _kind(
            404,
            (
                "没有这路输出流",
                "这节课没有所请求的输出流。",
                "请求的是：{stream}。",
                "可用的有：{available}。",
            ),
            (
                "No such output stream",
                "This lesson does not have the requested output stream.",
                "Requested: {stream}.",
                "Available: {available}.",
            ),
        ),
        "no-such-session": _kind(
            404,
            ("会话不存在", "这个媒体会话已结束或不存在。请重新连接。"),
            ("No such session", "This media session has ended or never existed. Connect again."),
        ),
        "no-such-seat": _kind(
            404,
            ("没有这个席位", "这个席位已离开或不存在。请刷新席位列表。"),
            ("No such seat", "This seat has left or never existed. Refresh the list of seats."),
        ),
        "floor-full": _kind(
            409,
            (
                "讲台已满",
                "同时上台的教学点已达上限。",
                "上限：{size}。",
                "请先请一个教学点下台。",
            ),
            (
                "The floor is full",
                "As many teaching points as may be are on the floor.",
                "At most {size} may be there at once.",
                "Take the floor back from one of them first.",
            ),
        ),
        "absent-stream": _kind(
            409,
            (
                "缺少画面",
                "所选布局需要的画面现在没有。",
                "缺少：{missing}。",
                "请等画面出现后再选，或换一种布局。",
            ),
            (
                "A picture is missing",
                "The layout needs a picture that is not there now.",
                "Missing: {missing}.",
                "Choose it when the picture has come, or choose another layout.",
            ),
        ),
        "not-found": _kind(
            404,
            ("找不到", "这个地址下没有内容。请检查地址是否完整。"),
            ("Not found", "There is nothing at this address. Check that it is complete."),
        ),
        "lesson-ended": _kind(
            410,
            ("课已结束", "老师已结束这节课。如还有下一节课，请输入新的课堂码。"),
            (
                "The lesson has ended",
                "The teacher has ended this lesson. For the next lesson, enter its new code.",
            ),
        ),
        "stale-etag": _kind(
            412,
            (
                "会话状态已更新",
                "If-Match 中的标签不是当前的 ICE 会话。请使用最新的 ETag，或以 If-Match: * "
                "重启 ICE。",
            ),
            (
                "The entity tag is stale",
                "The tag in If-Match is not the current ICE session's. Use the newest ETag, or "
                "restart ICE with If-Match: *.",
            ),
        ),
        "precondition-required": _kind(
            428,
            ("缺少 If-Match", "此请求需要 If-Match 头。请带上会话的 ETag 再发送。"),
            (
                "If-Match is required",
                "This request needs an If-Match header: send it again with the session's ETag.",
            ),
        ),
        "too-many-requests": _kind(
            429,
            ("请求过于频繁", "来自您网络的请求过多。", "请等待 {retry_after} 秒后再试。"),
            (
                "Too many requests",
                "Too many requests came from your network.",
                "Wait {retry_after} seconds and try again.",
            ),
            10,
        ),
        "too-many-lessons": _kind(
            503,
            (
                "同时上课数已满",
                "服务器上同时进行的课已达上限。",
                "上限：{limit}。",
                "请先结束不用的课，或请运维人员提高 limits.lessons。",
            ),
            (
                "Too many lessons",
                "The server already runs as many lessons as it may.",
                "The limit is {limit}.",
                "End a lesson that is no longer needed, or ask the operations staff to raise "
                "limits.lessons.",
            ),
            30,
        ),
        "too-many-sessions": _kind(
            503,
            (
                "连接数已满",
                "服务器的媒体连接数已达上限。",
                "请等待 {retry_after} 秒后再试，或请运维人员提高 limits.sessions。",
            ),
            (
                "Too many sessions",
                "The server already holds as many media sessions as it may.",
                "Wait {retry_after} seconds and try again, or ask the operations staff to raise "
                "limits.sessions.",
            ),
            10,
        ),
        "worker-unavailable": _kind(
            503,
            (
                "媒体服务正在恢复",
                "转发媒体的进程正在重新启动。",
                "请等待 {retry_after} 秒后再试，页面会自动重试。",
            ),
            (
                "The media service is recovering",
                "The process that forwards media is being restarted.",
                "Try again in {retry_after} seconds; pages do so by themselves.",
            ),
            2,
        ),
        "draining": _kind(
            503,
            ("服务器即将停机", "服务器正在停机维护，不再接受新的连接。请稍后再试。"),
            (
                "The server is shutting down",
                "The server is going down for maintenance and takes no new connections. Try "
                "again later.",
            ),
            5,
        ),
        "config-invalid": _kind(
            400,
            (
                "配置无效",
                "配置没有改动：其中有 {count} 处错误。",
                "请按 errors 中的键、值和允许范围逐一更正。",
            ),
            (
                "The configuration is not valid",
                "Nothing was changed: the configuration has {count} error(s).",
                "Correct each key listed in errors; what is allowed is named there.",
            ),
        ),
        "internal": _kind(
            500,
            (
                "服务器内部错误",
                "服务器出错了。请重试。",
                "如仍出错，请把编号 {incident} 告诉运维人员。",
            ),
            (
                "Internal error",
                "Something went wrong in the server. Try again.",
                "If it happens again, give the operations staff the number {incident}.",
            ),
        ),
    }
)
