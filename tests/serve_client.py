"""A client that calls the registry application directly, and images to push with it."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgtools.serve.app import RegistryApp
from imgtools.serve.layouts import LayoutsStore
from imgtools.serve.message import Request, Response
from imgtools.serve.storage import RegistryStore
from imgtools.serve.wsgi import parse_query
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.memory_store import MemoryStore

REPO = "library/app"


@dataclass
class Answer:
    """A response with its body read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The first error code."""
        return str(json.loads(self.body)["errors"][0]["code"])

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an application directly."""

    def __init__(self, app: RegistryApp) -> None:
        self.app = app

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        chunked: bool = False,
        **headers: str,
    ) -> Answer:
        path, _, query = target.partition("?")
        response: Response = self.app.handle(
            Request(
                method=method,
                path=path,
                query=parse_query(query),
                headers={k.replace("_", "-").lower(): v for k, v in headers.items()},
                body=io.BytesIO(body),
                length=None if chunked else len(body),
            )
        )
        content = b"".join(response.body) if response.body is not None else b""
        fields = dict(response.complete_headers())
        response.close()
        answer = Answer(response.status, fields, content)
        if answer.status >= 400 and content:
            assert answer.code in CODES
        return answer

    def blob(self, content: bytes, repo: str = REPO, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(content, algorithm)
        answer = self("POST", f"/v2/{repo}/blobs/uploads/?digest={digest}", content)
        assert answer.status == 201, answer
        return digest

    def manifest(self, ref: str, value: dict[str, Any], repo: str = REPO) -> Answer:
        content = json.dumps(value).encode()
        kind = value.get("mediaType", mt.OCI_MANIFEST)
        if ref == "@":
            ref = str(Digest.of(content))
        return self("PUT", f"/v2/{repo}/manifests/{ref}", content, content_type=kind)


def both_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryStore]:
    """The body of a fixture with the parameters "memory" and "layouts": an empty storage."""
    made: RegistryStore = MemoryStore()
    if request.param == "layouts":
        made = LayoutsStore(str(tmp_path), writable=True)
    yield made
    made.close()


def image(client: Client, repo: str = REPO, **more: Any) -> dict[str, Any]:
    """A manifest whose blobs are there."""
    config = b'{"architecture":"amd64","os":"linux"}'
    layer = b"layer" + repr(sorted(more.items())).encode()
    return {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {
            "mediaType": mt.OCI_CONFIG,
            "digest": str(client.blob(config, repo)),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": mt.OCI_LAYER_GZIP,
                "digest": str(client.blob(layer, repo)),
                "size": len(layer),
            }
        ],
        **more,
    }


def index_of(*answers: Answer, sizes: list[int], **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [
            {
                "mediaType": mt.OCI_MANIFEST,
                "digest": answer.headers["Docker-Content-Digest"],
                "size": size,
            }
            for answer, size in zip(answers, sizes, strict=True)
        ],
        **more,
    }


# distribution-spec "Error Codes": a code MUST be one of these.
CODES = frozenset(
    {
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    }
)
ABSENT = "sha256:" + "0" * 64


def start(client: Client, query: str = "") -> str:
    answer = client("POST", f"/v2/{REPO}/blobs/uploads/{query}")
    assert (answer.status, answer.headers["Range"]) == (202, "0-0")
    location = answer.headers["Location"]
    assert str(uuid.UUID(location.rpartition("/")[2])) in location
    return location
