"""Makes typed errors of answers: which status means what, and what the registry said.

Error bodies are JSON in the specification's form, JSON of other forms, XML of object stores,
HTML of a proxy or plain text; all are read up to 64 KiB, shortened to one line, and rid of
what looks like a secret.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgtools.errors import Denied, Error, InvalidJSON, LimitExceeded, RegistryError
from imgtools.spec import strict_json
from imgtools.transport.registry.wire.url import clean, redact

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.http import Response

ERROR_BODY_LIMIT = 64 * 1024

_HINTS = {
    413: "a proxy before the registry, or the registry itself, limits the size of requests",
}
# An element without an end is taken to the end of the text, so that no text is searched twice.
_MARKUP = re.compile(
    r"<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL
)
# The form of S3 and its kin, whose other elements quote the request with its signature.
_XML_ERROR = re.compile(r"<Error\b[^<>]{0,300}>.{0,300}?<Code>([^<]{0,300})</Code>", re.DOTALL)
_XML_MESSAGE = re.compile(r"<Message>([^<]{0,1000})</Message>")
_SECRETS = re.compile(
    r"\b(?P<header>(?:proxy-)?authorization|(?:set-)?cookie)(?P<to>[\"']?\s*[=:]\s*)"
    r"[\[\"']{0,4}(?:(?:bearer|basic|digest)\s+)?[^\s\"'\],;]+"
    r"|\b(?P<scheme>bearer|basic)\s+(?P<proof>[\w.~+/=-]{4,})"
    r"|(?P<url>\bhttps?://[^\s\"'<>]+)"
    r"|\b(?P<name>(?:access_|refresh_|id_)?token|passw(?:or)?d|secret|signature|api_?key)"
    r"(?P<is>[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]+",
    re.IGNORECASE,
)
_LONG = 16
"""Characters from which what follows a scheme of authentication is no word."""
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)


class Forbidden(Denied):
    """403, or 401 to more than a name and password: the registry knows enough about us to
    refuse. Some say so of what is not there."""


def failure(response: Response, *, host: str, authenticated: Callable[[], bool]) -> Error:
    """The error that `response`, whose status nobody expected, stands for.

    401 and 403 are Denied, everything else RegistryError. The body is read and the
    response closed. `host` is the registry, `authenticated` whether we have
    credentials, which is asked only when that matters.
    """
    code, detail = read_error(response)
    url = redact(response.url)
    limited = _rate_limit_hint(response) if response.status in (403, 429) else None
    if response.status in (401, 403) and limited is None:
        said = " ".join(part for part in (code, detail) if part)
        kind = Denied if _wants_password(response) else Forbidden
        return kind(
            f"{response.method} {url}: {response.status}" + (f" {said}" if said else ""),
            host=host,
            hint=denied_hint(host, authenticated=authenticated()),
        )
    hint = limited or _HINTS.get(response.status)
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


def _wants_password(response: Response) -> bool:
    """Whether a refusal asks for a name and password, so that ours, if any, are wrong.

    Where there are tokens, a wrong password has already been refused by their server.
    """
    if response.status != 401:
        return False
    from imgtools.transport.registry.access.challenge import parse_challenges

    schemes = {c.scheme for c in parse_challenges(response.header_list("WWW-Authenticate"))}
    return "basic" in schemes and "bearer" not in schemes


def denied_hint(host: str, *, authenticated: bool) -> str:
    """What to do about a refusal."""
    if authenticated:
        return (
            f"the credentials for {host} do not allow this; "
            f"imgtools login {host} replaces them, --creds overrides them"
        )
    return f"imgtools login {host}, or give credentials with --creds"


def coding_hint(response: Response) -> str | None:
    """Why the bytes of an answer may be others than were stored, None for no reason to think
    so: we ask for no coding, and decode none."""
    coding = clean(response.header("Content-Encoding").strip())
    if not coding or coding.lower() == "identity":
        return None
    return (
        f"the answer came with Content-Encoding: {coding}, which nobody had asked for; probably"
        f" a proxy before {response.origin.authority} compresses what passes"
    )


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
        code, message = _from_json(strict_json.loads(content, limit=ERROR_BODY_LIMIT))
    except (InvalidJSON, LimitExceeded):
        code, message = _from_text(content.decode("utf-8", "replace"))
    return clean(without_secrets(code)), clean(without_secrets(message))


def without_secrets(text: str) -> str:
    """`text` without tokens, and with URLs as `redact` shows them."""

    def replace(match: re.Match[str]) -> str:
        if match["header"]:
            return f"{match['header']}{match['to']}…"
        if match["scheme"]:
            return f"{match['scheme']} …" if _is_proof(match["proof"]) else match[0]
        if match["url"]:
            return redact(match["url"])
        return f"{match['name']}{match['is']}…"

    return _SECRETS.sub(replace, text[:ERROR_BODY_LIMIT])


def _is_proof(text: str) -> bool:
    """Whether what follows `Bearer` or `Basic` is more than the next word of a sentence."""
    if len(text) >= _LONG:
        return True
    from base64 import b64decode

    try:
        return b":" in b64decode(text, validate=True)
    except ValueError:
        return False


def _rate_limit_hint(response: Response) -> str | None:
    """What to do when the answer is about the rate of requests, else None."""
    from imgtools.transport.registry.wire.ratelimit import advice, is_rate_limited

    if not is_rate_limited(response.status, response.header):
        return None
    return advice(response.header, time.time(), status=response.status)


def _from_text(text: str) -> tuple[str, str]:
    code = _XML_ERROR.search(text)
    if code:
        message = _XML_MESSAGE.search(text)
        return code[1], message[1] if message else ""
    title = _TITLE.search(text)
    return "", title[1] if title else _MARKUP.sub(" ", text)


def _from_json(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        errors = value.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            first = errors[0]
            code, message = _text(first, "code"), _text(first, "message")
            detail = first.get("detail")
            if isinstance(detail, str) and detail and detail not in message:
                message = f"{message}: {detail}" if message else detail
            return code, message
        # OAuth2 token servers, and registries with forms of their own.
        code = _text(value, "error")
        for name in ("error_description", "message", "details", "detail"):
            if message := _text(value, name):
                return code, message
        return code, ""
    return "", value if isinstance(value, str) else ""


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return str(found) if isinstance(found, str | int) else ""
