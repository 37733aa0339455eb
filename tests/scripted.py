"""What the tests of the scripted registry share: a plain client and some content."""

from __future__ import annotations

import http.client
from typing import Any

from imgtools.spec.digest import Digest
from imgtools.testing.registry import ScriptedRegistry

CONTENT = bytes(range(256)) * 40
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/app/blobs/{DIGEST}"


class Reply:
    """What a client got: everything up to the end of the body or of the connection."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, whole: bool) -> None:
        self.status, self.headers, self.body, self.whole = status, headers, body, whole


def ask(
    registry: ScriptedRegistry,
    method: str,
    target: str,
    body: Any = None,
    timeout: float = 10,
    **headers: str,
) -> Reply:
    connection = http.client.HTTPConnection(registry.host, timeout=timeout)
    try:
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        fields = {k.lower(): v for k, v in response.getheaders()}
        try:
            return Reply(response.status, fields, response.read(), True)
        except http.client.IncompleteRead as e:
            return Reply(response.status, fields, e.partial, False)
    finally:
        connection.close()
