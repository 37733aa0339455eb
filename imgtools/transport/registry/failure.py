"""Makes typed errors of answers: which status means what, and what the registry said.

Error bodies are JSON in the specification's form, JSON of other forms, HTML of a proxy or
plain text; all are read up to 64 KiB and shortened to one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgtools.errors import Denied, Error, InvalidJSON, LimitExceeded, RegistryError
from imgtools.spec import strict_json
from imgtools.transport.registry.url import clean, redact

if TYPE_CHECKING:
    from imgtools.transport.registry.http import Response

ERROR_BODY_LIMIT = 64 * 1024

_HINTS = {
    413: "a proxy before the registry, or the registry itself, limits the size of requests",
    429: "the registry limits the rate of requests: log in, or try again later",
}
# An element without an end is taken to the end of the text, so that no text is searched twice.
_MARKUP = re.compile(
    r"<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)


class Forbidden(Denied):
    """403: the registry knows enough about us to refuse. Some say so of what is not there."""


def failure(response: Response, *, host: str, authenticated: Callable[[], bool]) -> Error:
    """The error that `response`, whose status nobody expected, stands for.

    401 and 403 are Denied, everything else RegistryError. The body is read and the
    response closed. `host` is the registry, `authenticated` whether we have
    credentials, which is asked only when that matters.
    """
    code, detail = read_error(response)
    url = redact(response.url)
    if response.status in (401, 403):
        said = " ".join(part for part in (code, detail) if part)
        kind = Forbidden if response.status == 403 else Denied
        return kind(
            f"{response.method} {url}: {response.status}" + (f" {said}" if said else ""),
            host=host,
            hint=denied_hint(host, authenticated=authenticated()),
        )
    hint = _HINTS.get(response.status)
    if code == "NAME_UNKNOWN":
        hint = "the repository does not exist and this registry does not make it by a push"
    return RegistryError(
        method=response.method,
        url=url,
        status=response.status,
        code=code,
        detail=detail,
        hint=hint,
    )


def denied_hint(host: str, *, authenticated: bool) -> str:
    """What to do about a refusal."""
    if authenticated:
        return (
            f"the credentials for {host} do not allow this; "
            f"imgtools login {host} replaces them, --creds overrides them"
        )
    return f"imgtools login {host}, or give credentials with --creds"


def read_error(response: Response) -> tuple[str, str]:
    """Code and message of an error answer, "" for what it does not say; closes it."""
    with response:
        if response.method == "HEAD":
            return "", ""
        try:
            content = response.body(ERROR_BODY_LIMIT, "error message")
        except Error:
            return "", ""
    return parse_error(content)


def parse_error(content: bytes) -> tuple[str, str]:
    """Code and message in the body of an error answer."""
    try:
        return _from_json(strict_json.loads(content, limit=ERROR_BODY_LIMIT))
    except (InvalidJSON, LimitExceeded):
        text = content.decode("utf-8", "replace")
    title = _TITLE.search(text)
    if title:
        return "", clean(title[1])
    return "", clean(_MARKUP.sub(" ", text))


def _from_json(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        errors = value.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            first = errors[0]
            code, message = _text(first, "code"), _text(first, "message")
            detail = first.get("detail")
            if isinstance(detail, str) and detail and detail not in message:
                message = f"{message}: {detail}" if message else detail
            return clean(code), clean(message)
        # OAuth2 token servers, and registries with forms of their own.
        code = _text(value, "error")
        for name in ("error_description", "message", "details", "detail"):
            if message := _text(value, name):
                return clean(code), clean(message)
        return clean(code), ""
    return "", clean(value) if isinstance(value, str) else ""


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return str(found) if isinstance(found, str | int) else ""
