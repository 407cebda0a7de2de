"""The OpenAPI 3.1 document of the server, built from the list of operations and their shapes."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata

import msgspec
from aiohttp import web

from signaling.openapi_operations import OPERATIONS, Content, Operation
from signaling.openapi_shapes import Problem
from signaling.problems import MEDIA_TYPE

PATH = "/api/v1/openapi.json"
_PARAMETER = re.compile(r"\{(\w+)\}")
_SCHEMAS = "#/components/schemas/{name}"


def routes() -> list[web.RouteDef]:
    return [web.get(PATH, _serve)]


async def _serve(_request: web.Request) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document()),
        content_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )


@cache
def document() -> dict[str, object]:
    """The whole document."""
    types = _types()
    references, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    by_type = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tongke",
            "version": metadata.version("tongke"),
            "description": "Lessons, seats, caps and media sessions. Words and events are in "
            "docs/protocol.md.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _types() -> list[type]:
    """Every JSON shape that an operation takes or answers, each once."""
    found: dict[type, None] = {Problem: None}
    for operation in OPERATIONS:
        for content in (operation.body, *operation.answers.values()):
            if isinstance(content, type):
                found[content] = None
    return list(found)


def _operation(operation: Operation, by_type: dict[type, dict[str, object]]) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "security": [{"token": []}] if operation.token else [],
        "responses": {
            str(status): _response(operation, status, by_type) for status in operation.statuses
        },
    }
    parameters: list[dict[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(operation.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": {"type": kind}}
        for name, kind in operation.query
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body, by_type)}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z0-9]+", operation.path.removeprefix("/api/v1"))
    return "_".join([operation.method, *words]) if words else f"{operation.method}_root"


def _response(
    operation: Operation, status: int, by_type: dict[type, dict[str, object]]
) -> dict[str, object]:
    if status not in operation.answers:
        return {
            "description": "A problem document (RFC 9457)",
            "content": {MEDIA_TYPE: {"schema": by_type[Problem]}},
        }
    response: dict[str, object] = {"description": operation.summary}
    content = operation.answers[status]
    if content is not None:
        response["content"] = _content(content, by_type)
    return response


def _content(content: Content, by_type: dict[type, dict[str, object]]) -> dict[str, object]:
    if isinstance(content, type):
        return {"application/json": {"schema": by_type[content]}}
    return {str(content): {"schema": {"type": "string"}}}
