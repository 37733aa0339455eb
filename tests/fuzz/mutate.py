"""Changes HTTP answers at random: status lines, headers, JSON and bytes. Pure but for the
random source, which is the caller's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any

NASTY = (
    "", " ", "\t", "-1", "0", "9" * 40, "1e9", "NaN", "null", "\x00", "\x1b[31m", "\xff\xfe",
    "a" * 5000, "../../etc/passwd", "//", "?", "#", "http://", "http://[::1", "ftp://x/y",
    "http://127.0.0.1:1/", "https://127.0.0.1:1/x?y=z", "http://user:pw@127.0.0.1:1/",
    "sha256:" + "0" * 64, "sha256:" + "0" * 63, "sha512:" + "1" * 128, "md5:00", "%00%ff",
    "bytes 5-1/*", "bytes 0-0/1", "bytes=0-7", "0-99999999999999999999", "0--1",
    "Basic", 'Basic realm="x', 'Bearer realm="/",service=', 'Bearer realm="http://127.0.0.1:1/t"',
    'Negotiate, Bearer realm="http://[', "Bearer " * 50, '<?n=1&last=x>; rel="next"',
    "<>;rel=next", '<http://127.0.0.1:1/>; rel="next"', "</v2/app/tags/list>; rel=next",
    "application/json", "text/html; charset=\xe9", "gzip", "chunked", "identity, chunked",
    "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 99 Foo 9999 99:99:99 GMT", "1;w=2,3;w=4", "100;w=",
    "299 - \"deprecated\"", "299 - \"" + "w" * 3000,
)  # fmt: skip
HEADERS = (
    "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Content-Range",
    "Docker-Content-Digest", "Link", "Location", "Range", "Retry-After", "WWW-Authenticate",
    "OCI-Filters-Applied", "OCI-Subject", "OCI-Tag", "OCI-Chunk-Min-Length", "Warning",
    "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Remaining", "ETag", "Connection",
    "Docker-Distribution-Api-Version", "Set-Cookie",
)  # fmt: skip
STATUSES = (
    100, 101, 199, 200, 201, 202, 203, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401,
    403, 404, 405, 406, 408, 409, 411, 412, 413, 416, 418, 425, 429, 499, 500, 501, 502, 503, 504,
    520, 521, 524, 599, 600, 999,
)  # fmt: skip
FIRST_LINES = (
    b"HTTP/1.0 200 OK", b"HTTP/2 200", b"HTTP/1.1 200", b"HTTP/1.1 abc OK", b"ICY 200 OK", b"",
    b"HTTP/1.1 99999 x", b"HTTP/1.1 -1 x", b"\x16\x03\x01\x00\x05", b"SSH-2.0-OpenSSH_9.2",
    b"HTTP/1.1 200 " + b"x" * 70000, b"HTTP/9.9 200 OK", b"HTTP/1.1 2\xb2 0 OK",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, "", "x", [], {}, [[]], [None],
    [{}], {"a": {}}, "\ud800", "\x1b[2J", "sha256:" + "0" * 64, "sha256:" + "f" * 63,
    "../../../../tmp/x", "application/vnd.oci.image.index.v1+json", "linux", ["x"] * 500,
    "application/vnd.docker.distribution.manifest.v1+json", "y" * 10_000, [1] * 3,
)  # fmt: skip
KEYS = (
    "digest", "size", "mediaType", "platform", "config", "layers", "manifests", "schemaVersion",
    "subject", "annotations", "urls", "data", "artifactType", "token", "access_token",
    "expires_in", "refresh_token", "tags", "name", "errors", "code", "message", "history",
    "fsLayers", "rootfs", "diff_ids", "signatures",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as bytes: the first line, header lines without ends, and the body."""

    first: bytes
    headers: tuple[bytes, ...]
    body: bytes

    def encode(self) -> bytes:
        """What goes over the wire."""
        return b"\r\n".join((self.first, *self.headers, b"", self.body))


def mutate(answer: Answer, random: Random) -> bytes:
    """The answer with one to three things changed, and sometimes cut."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = random.choice((_status, _header, _header, _json, _json, _json, _bytes, _length))
        answer = change(answer, random)
    sent = answer.encode()
    if random.random() < 0.1:
        sent = sent[: random.randrange(len(sent) + 1)]
    return sent


def _status(answer: Answer, random: Random) -> Answer:
    if random.random() < 0.2:
        first = random.choice(FIRST_LINES)
        if random.random() < 0.1:
            first = b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + answer.first
        return replace(answer, first=first)
    return replace(answer, first=b"HTTP/1.1 %d Changed" % random.choice(STATUSES))


def _header(answer: Answer, random: Random) -> Answer:
    lines = list(answer.headers)
    kind = random.randrange(8)
    name = random.choice(HEADERS)
    line = f"{name}: {random.choice(NASTY)}".encode("latin-1")
    if kind == 0 and lines:
        del lines[random.randrange(len(lines))]
    elif kind == 1 and lines:
        lines.append(random.choice(lines))
    elif kind == 2 and lines:
        at = random.randrange(len(lines))
        old = lines[at].partition(b":")[0]
        lines[at] = old + b": " + random.choice(NASTY).encode("latin-1")
    elif kind == 3:
        lines.insert(random.randrange(len(lines) + 1), random.choice(
            (b"no colon here", b" folded: line", b": no name", b"Bad Name: x", b"X: a\nY: b",
             b"X: " + b"z" * 70000, b"\x00: \x00", b"X" * 300 + b": y")
        ))  # fmt: skip
    elif kind == 4:
        lines += [b"X-Many-%d: y" % number for number in range(random.choice((50, 99, 101, 300)))]
    else:
        lines = [each for each in lines if not each.lower().startswith(name.lower().encode())]
        lines.append(line)
    return replace(answer, headers=tuple(lines))


def _json(answer: Answer, random: Random) -> Answer:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return _bytes(answer, random)
    if random.random() < 0.03:
        depth = random.choice((50, 101, 5000, 100_000))
        body = b"[" * depth + b"]" * depth
    elif random.random() < 0.05:
        body = answer.body.replace(b"{", b'{"schemaVersion":2,', 1)
    else:
        changed = _changed(value, random)
        body = json.dumps(changed).encode("utf-8", "surrogatepass")
    return _with_body(answer, body)


def _changed(value: Any, random: Random) -> Any:
    """`value` with one place in it replaced, removed or added to."""
    if random.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return random.choice(VALUES)
    if isinstance(value, list):
        at = random.randrange(len(value))
        if random.random() < 0.1:
            return value * random.choice((0, 2, 40))
        return [*value[:at], _changed(value[at], random), *value[at + 1 :]]
    kind = random.random()
    key = random.choice(sorted(value))
    if kind < 0.15:
        return {k: v for k, v in value.items() if k != key}
    if kind < 0.35:
        return {**value, random.choice(KEYS): random.choice(VALUES)}
    return {**value, key: _changed(value[key], random)}


def _bytes(answer: Answer, random: Random) -> Answer:
    body = bytearray(answer.body)
    kind = random.randrange(5)
    if kind == 0 and body:
        body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    elif kind == 1:
        del body[random.randrange(len(body) + 1) :]
    elif kind == 2:
        body += random.randbytes(random.choice((1, 100, 100_000)))
    elif kind == 3:
        body = bytearray(random.choice((b"<html><title>no</title></html>", b"", b"{}", b"null")))
    else:
        body = bytearray(random.randbytes(random.randrange(64)))
    return _with_body(answer, bytes(body))


def _length(answer: Answer, random: Random) -> Answer:
    """A Content-Length that lies, or chunks that are none."""
    lines = _without_length(answer.headers)
    if random.random() < 0.3:
        body = random.choice(
            (b"zz\r\nabc\r\n0\r\n\r\n", b"5\r\nab", b"-5\r\n", b"ffffffffffffffff\r\nx",
             b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body), b"0\r\nX: y\r\n\r\n")
        )  # fmt: skip
        return replace(answer, headers=(*lines, b"Transfer-Encoding: chunked"), body=body)
    size = random.choice((0, 1, len(answer.body) + 1, len(answer.body) * 2, 10**12, 10**19, -5))
    return replace(answer, headers=(*lines, b"Content-Length: %d" % size))


def _with_body(answer: Answer, body: bytes) -> Answer:
    length = b"Content-Length: %d" % len(body)
    return replace(answer, headers=(*_without_length(answer.headers), length), body=body)


def _without_length(headers: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(line for line in headers if not line.lower().startswith(b"content-length:"))
