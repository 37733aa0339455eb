"""What the tests of the scripted registry share: a plain client and some content."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry

CONTENT = bytes(range(256)) * 40
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/app/blobs/{DIGEST}"
UPLOADS = "/v2/app/blobs/uploads/"


class Reply:
    """What a client got: everything up to the end of the body or of the connection.

    `headers` has the last of each name, `lines` every header line.
    """

    def __init__(self, status: int, lines: list[tuple[str, str]], body: bytes, whole: bool) -> None:
        self.status, self.body, self.whole = status, body, whole
        self.lines = [(name.lower(), value) for name, value in lines]
        self.headers = dict(self.lines)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json()["errors"][0]["code"])


def ask(
    registry: ScriptedRegistry,
    method: str,
    target: str,
    body: Any = None,
    timeout: float = 10,
    host: str = "",
    **headers: str,
) -> Reply:
    connection = http.client.HTTPConnection(host or registry.host, timeout=timeout)
    try:
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        try:
            return Reply(response.status, response.getheaders(), response.read(), True)
        except http.client.IncompleteRead as e:
            return Reply(response.status, response.getheaders(), e.partial, False)
    finally:
        connection.close()


def speaking(**switches: Any) -> ScriptedRegistry:
    """A registry with these switches of the dialect."""
    return ScriptedRegistry(dialect=Dialect(**switches))


def begin(registry: ScriptedRegistry, **headers: str) -> str:
    """A new upload; its Location without scheme and host."""
    reply = ask(registry, "POST", UPLOADS, **headers)
    assert reply.status in (200, 201, 202), reply.body
    return on_host(registry, reply.headers["location"])


def on_host(registry: ScriptedRegistry, location: str) -> str:
    return location.removeprefix("http:").removeprefix(f"//{registry.host}")


def manifest(registry: ScriptedRegistry, tags: tuple[str, ...] = ("v1",), **more: Any) -> str:
    """Put a manifest in without a request; its digest."""
    content = manifest_bytes(registry, mediaType=mt.OCI_MANIFEST, **more)
    return str(registry.push_manifest("app", content, tags=tags).digest)


def manifest_bytes(registry: ScriptedRegistry, **more: Any) -> bytes:
    config = registry.push_blob("app", b"{}")
    value = {
        "schemaVersion": 2,
        "config": {"mediaType": mt.OCI_CONFIG, "digest": str(config), "size": 2},
        "layers": [],
        **more,
    }
    return json.dumps(value).encode()


def put_manifest(
    registry: ScriptedRegistry, reference: str, content_type: str = "", **more: Any
) -> Reply:
    """PUT a manifest; "@" in the reference is its digest."""
    content = manifest_bytes(registry, **more)
    target = f"/v2/app/manifests/{reference.replace('@', str(Digest.of(content)))}"
    headers = {"Content_Type": content_type} if content_type else {}
    return ask(registry, "PUT", target, content, **headers)


def basic(user: str = "user", password: str = "secret") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token(registry: ScriptedRegistry, *scopes: str, **headers: Any) -> str:
    """A token's Authorization."""
    query = "&".join(f"scope={scope}" for scope in scopes)
    reply = ask(registry, "GET", f"/token?service=s&{query}", **headers)
    assert reply.status == 200, reply.body
    answer = reply.json()
    return f"Bearer {answer.get('token') or answer['access_token']}"
