"""A client for the rules of the distribution-spec: raw HTTP against any registry on loopback."""

from __future__ import annotations

import http.client
import json
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.scripted import Reply

ABSENT = str(Digest.of(b"nobody has this"))


@dataclass(frozen=True)
class Put:
    """A manifest that was put: its bytes, its digest and the answer."""

    content: bytes
    digest: str
    reply: Reply

    def descriptor(self, media_type: str = mt.OCI_MANIFEST) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest, "size": len(self.content)}


class Repo:
    """One repository of a registry; paths begin below /v2/NAME/ unless they begin with "/"."""

    def __init__(self, host: str, name: str) -> None:
        self.host, self.name = host, name

    def other(self) -> Repo:
        return Repo(self.host, f"{self.name}/other")

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        base = f"http://{self.host}/v2/{self.name}/"
        path = urljoin(base, target).removeprefix(f"http://{self.host}")
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            fields = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read(), True)
        finally:
            connection.close()

    # --- blobs --------------------------------------------------------------------------------

    def begin(self) -> str:
        """The Location of a new upload."""
        reply = self.ask("POST", "blobs/uploads/", Content_Length="0")
        assert reply.status == 202
        return reply.headers["location"]

    def close(self, location: str, digest: object, body: bytes = b"", **headers: str) -> Reply:
        joint = "&" if "?" in location else "?"
        return self.ask("PUT", f"{location}{joint}digest={digest}", body, **headers)

    def blob(self, content: bytes | None = None) -> tuple[bytes, str]:
        """A blob that is there now, and its digest."""
        content = os.urandom(100) if content is None else content
        digest = str(Digest.of(content))
        assert self.close(self.begin(), digest, content).status == 201
        return content, digest

    # --- manifests ----------------------------------------------------------------------------

    def image(self, **more: Any) -> dict[str, Any]:
        """An image manifest whose blobs are there."""
        config, layer = self.blob(b"{}"), self.blob()
        return {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": descriptor(mt.OCI_CONFIG, *config),
            "layers": [descriptor(mt.OCI_LAYER_GZIP, *layer)],
            **more,
        }

    def put(self, reference: str, value: dict[str, Any], query: str = "") -> Put:
        """PUT of a manifest; "@" stands for its digest."""
        content = json.dumps(value, indent=1).encode()
        digest = str(Digest.of(content))
        target = f"manifests/{digest if reference == '@' else reference}{query}"
        reply = self.ask("PUT", target, content, Content_Type=value["mediaType"])
        return Put(content, digest, reply)

    def pushed(self, *tags: str, **more: Any) -> Put:
        """An image under these tags."""
        value = self.image(**more)
        for tag in tags or ("@",):
            found = self.put(tag, value)
            assert found.reply.status == 201, found.reply.body
        return found

    def manifest(self, reference: str, method: str = "GET") -> Reply:
        return self.ask(
            method, f"manifests/{reference}", Accept=f"{mt.OCI_MANIFEST}, {mt.OCI_INDEX}"
        )

    def referrers(self, digest: str, query: str = "") -> Reply:
        return self.ask("GET", f"referrers/{digest}{query}")


def descriptor(media_type: str, content: bytes, digest: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": len(content), **more}


def index(*children: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [*children], **more}


def refused(reply: Reply, statuses: int | tuple[int, ...], *codes: str) -> None:
    """An error of the specification: its status, and its document with one of the codes."""
    assert reply.status in (statuses if isinstance(statuses, tuple) else (statuses,))
    errors = reply.json()["errors"]
    assert isinstance(errors, list)
    assert all(isinstance(e["code"], str) for e in errors)
    assert any(e["code"] in codes for e in errors)
