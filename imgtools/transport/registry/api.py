"""The endpoints of the distribution-spec, one method each, and no policy.

Every method sends one request (authorised and retried by the session) and returns the
answer whatever its status; what a status means is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from imgtools.errors import Error
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import CancelToken
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import with_query

ACCEPT_MANIFESTS = ", ".join(mt.ACCEPTED_MANIFESTS)
"""One line with all types, because some proxies keep only the first of several lines."""

_OCTETS = "application/octet-stream"


class Repository:
    """One repository of a registry, to read or, with `push`, to write as well."""

    def __init__(self, session: Session, name: str, *, push: bool = False) -> None:
        self.session = session
        self.name = name
        self.scopes: tuple[str, ...] = (pull_scope(name) if not push else push_scope(name),)

    def manifest(self, method: str, target: str) -> Response:
        """GET or HEAD a manifest by tag or digest (end-3)."""
        return self._request(method, f"manifests/{target}", headers={"Accept": ACCEPT_MANIFESTS})

    def put_manifest(self, target: str, raw: RawManifest, *, if_match: str = "") -> Response:
        """PUT a manifest by tag or digest (end-7); with the entity tag `if_match` only in place
        of what has it, where the registry goes by that (412 else)."""
        condition = {"If-Match": if_match} if if_match else {}
        return self._request(
            "PUT",
            f"manifests/{target}",
            headers={"Content-Type": raw.media_type, **condition},
            body=Body.of(raw.content),
        )

    def delete_manifest(self, target: str) -> Response:
        """DELETE a manifest by digest, or one tag where the registry can (end-9)."""
        return self._request("DELETE", f"manifests/{target}")

    def head_blob(self, digest: Digest) -> Response:
        """HEAD a blob (end-2)."""
        return self._request("HEAD", f"blobs/{digest}")

    def get_blob(
        self,
        digest: Digest,
        start: int = 0,
        end: int | None = None,
        *,
        cancel: CancelToken | None = None,
    ) -> Response:
        """GET a blob (end-2), from byte `start` to before byte `end`."""
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        return self._request("GET", f"blobs/{digest}", headers=headers, cancel=cancel)

    def start_upload(
        self,
        *,
        mount: Digest | None = None,
        source: str = "",
        cancel: CancelToken | None = None,
    ) -> Response:
        """POST an upload session (end-4a), or ask for a mount from repository `source`
        (end-11), which opens a session when it cannot be had."""
        path = "blobs/uploads/"
        scopes = self.scopes
        if mount is not None:
            path += "?" + urlencode({"mount": str(mount), "from": source}, safe="/:")
            if source != self.name:
                # Some token servers read only the first scope, so ours is in front.
                scopes = (*scopes, pull_scope(source))
        return self._request("POST", path, scopes=scopes, cancel=cancel)

    def put_upload(
        self,
        location: str,
        digest: Digest,
        body: Body | None,
        *,
        alone: bool = False,
        cancel: CancelToken | None = None,
    ) -> Response:
        """PUT the rest of an upload, or nothing, and close it (end-6); sent once, and with
        `alone` as the only request on its connection."""
        url = with_query(location, f"digest={quote(str(digest), safe='')}")
        headers = {"Content-Type": _OCTETS, **_own_connection(alone)}
        return self._request("PUT", url, headers=headers, body=body, repeat=False, cancel=cancel)

    def patch_upload(
        self,
        location: str,
        offset: int,
        body: Body,
        *,
        alone: bool = False,
        cancel: CancelToken | None = None,
    ) -> Response:
        """PATCH one chunk of an upload (end-5); sent once, and with `alone` as the only
        request on its connection."""
        headers = {
            "Content-Type": _OCTETS,
            "Content-Range": f"{offset}-{offset + body.length - 1}",
            **_own_connection(alone),
        }
        return self._request(
            "PATCH", location, headers=headers, body=body, repeat=False, cancel=cancel
        )

    def upload_status(self, location: str, *, cancel: CancelToken | None = None) -> Response:
        """GET how far an upload session is (end-13)."""
        return self._request("GET", location, cancel=cancel)

    def cancel_upload(self, location: str) -> None:
        """DELETE an upload session (end-14), even when everything was aborted.

        Takes a few seconds at most and tells nothing: a registry that does not do it, or
        does not let us, forgets the session in time.
        """
        self.session.give_up("DELETE", location, repository=self.name, scopes=self.scopes)

    def referrers(self, digest: Digest, artifact_type: str = "") -> Response:
        """GET the referrers of a manifest (end-12)."""
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        return self._request("GET", f"referrers/{digest}{query}", headers={"Accept": mt.OCI_INDEX})

    def tags(self, page: int, after: str = "") -> Response:
        """GET the first `page` tags (end-8b), or those that come behind the tag `after`."""
        behind = f"&last={quote(after, safe='')}" if after else ""
        return self._request("GET", f"tags/list?n={page}{behind}")

    def ping(self) -> Response:
        """GET the base of the API (end-1) without credentials, so that a registry that asks
        for some answers 401; its headers say what it can do."""
        return self.session.anonymous_request("GET", f"{self.session.base}/v2/", {})

    def signatures(self, digest: Digest) -> Response:
        """GET the simple signatures of a manifest (OpenShift's extension of the API)."""
        return self._request("GET", self._extension(digest))

    def put_signature(self, digest: Digest, content: bytes) -> Response:
        """PUT one more simple signature of a manifest (OpenShift's extension of the API)."""
        return self._request("PUT", self._extension(digest), body=Body.of(content))

    def _extension(self, digest: Digest) -> str:
        return f"/extensions/v2/{self.name}/signatures/{digest}"

    def get(self, url: str, accept: str = "application/json") -> Response:
        """GET a further page at an absolute URL."""
        return self._request("GET", url, headers={"Accept": accept})

    def failure(self, response: Response) -> Error:
        """The error for an answer with an unexpected status; reads and closes it."""
        return self.session.failure(response, self.name)

    def _request(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        scopes: Sequence[str] | None = None,
        repeat: bool = True,
        cancel: CancelToken | None = None,
    ) -> Response:
        if not target.startswith("/") and "://" not in target.partition("?")[0]:
            target = f"/v2/{self.name}/{target}"
        return self.session.request(
            method,
            target,
            repository=self.name,
            scopes=self.scopes if scopes is None else scopes,
            headers=headers,
            body=body,
            repeat=repeat,
            cancel=cancel,
        )


def _own_connection(alone: bool) -> dict[str, str]:
    return {"Connection": "close"} if alone else {}


def pull_scope(repository: str) -> str:
    """The scope that reads `repository`."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The scope that reads and writes `repository`."""
    return f"repository:{repository}:pull,push"


def content_digest(response: Response) -> Digest | None:
    """Docker-Content-Digest, None when it is missing or of an algorithm we do not know."""
    from imgtools.errors import InvalidDigest

    try:
        return Digest.parse(response.header("Docker-Content-Digest").strip())
    except InvalidDigest:
        return None
