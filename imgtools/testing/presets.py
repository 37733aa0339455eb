"""Presets: what belongs together, as it is reported of registries and of what stands in front.

No hosted service was asked. Each preset collects what trackers and documents say of one, so
that a client can be held to all of it at once; it is no statement about what the service does
today. What was observed is in `imgtools.testing.dialects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from imgtools.frozen import dataclass
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialect_errors import Rate
from imgtools.testing.dialects import DISTRIBUTION_2, GGCR, Dialect

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A dialect with the credentials that go with it; `dialect.auto_create` False means that
    tests must make their repository first."""

    dialect: Dialect
    auth: AuthOptions = AuthOptions()


ECR_LIKE = Preset(
    dialect=Dialect(
        monolithic_post=False,
        mount="no",
        patch_status=201,
        range_form="stuck",
        chunk_min=5 * _MIB,
        chunk_min_header=False,
        resume=False,
        auto_create=False,
        page_limit=1000,
        content_type_needed=400,
        tag_parameters=False,
        delete_tag=405,
        location="absolute",
    ),
    auth=AuthOptions(scheme="basic", username="AWS", password="ecr" * 600, basic_realm="not a URL"),
)
"""As reported of ECR: Basic with a long password, PATCH 201 whose Range never moves, parts of
5 MiB, repositories that must exist, n up to 1000."""

QUAY_LIKE = Preset(
    dialect=Dialect(
        monolithic_post=False,
        from_required=400,
        not_found="unauthorized",
        tag_parameters=False,
        location="absolute",
        no_tags="null",
        content_range=False,
    ),
    auth=AuthOptions(
        scheme="bearer",
        known_actions=frozenset(("pull", "push", "*", "")),
        delete_action="*",
        content_challenge="no-scope",
    ),
)
"""As reported of Quay: 401 for what is not there, no action `delete`, mounts need `from`."""

HARBOR_LIKE = Preset(
    dialect=replace(
        DISTRIBUTION_2,
        not_found="harbor",
        auto_create=403,
        accept=False,
        referrers="yes",
        subject=True,
        delete_tag=True,
    ),
    auth=AuthOptions(scheme="bearer", announce_errors=False),
)
"""As reported of Harbor: distribution underneath, projects that must exist, code NOT_FOUND."""

ACR_LIKE = Preset(
    dialect=Dialect(
        monolithic_post=False,
        location="encoded",
        resume=False,
        link="query",
        presigned="host",
        presigned_head=False,
        tag_parameters=False,
    ),
    auth=AuthOptions(
        scheme="bearer",
        token_field="access_token",
        announce_lifetime=False,
        refresh_token="identity",
    ),
)
"""As reported of ACR: access_token alone, upload addresses with state to return as they are,
blobs in signed storage."""

GAR_LIKE = Preset(
    dialect=Dialect(
        mount="no",
        upload_status=False,
        resume=False,
        content_range=False,
        link="opaque",
        referrers="404-json",
        subject=False,
        tag_parameters=False,
        delete_tagged=400,
        presigned="port",
        location="absolute",
        post_status=202,
    ),
    auth=AuthOptions(scheme="bearer", missing_repository=404, content_challenge="none"),
)
"""As reported of GCR and GAR: no resumption, opaque cursors, the token server says 404, no
challenge but that of /v2/, digests that have tags cannot be deleted."""

ARTIFACTORY_LIKE = Preset(
    dialect=Dialect(
        monolithic_post=False,
        not_found="denied",
        tags="digests",
        ranges=False,
        etags=False,
        digest_header=False,
        referrers="html",
        subject=False,
        tag_parameters=False,
        delete_tag=405,
        head="no-length",
    ),
    auth=AuthOptions(
        scheme="bearer", challenges=('Basic realm="Artifactory Realm"', "{own}"), token_field="both"
    ),
)
"""As reported of Artifactory: 403 for what is not there, digests among the tags, no digest
headers, a page of HTML for unknown endpoints, two challenges."""

HUB_LIKE = Preset(
    dialect=replace(
        DISTRIBUTION_2,
        presigned="host",
        presigned_head=True,
        accept=False,
        referrers="404-json",
        deletes=False,
        rate=Rate(allowed=5000, refused=None, methods=("GET",), headers=True),
    ),
    auth=AuthOptions(scheme="bearer", token_field="both"),
)
"""As reported of Docker Hub: blobs behind a CDN, no deletion, RateLimit headers, no resumption."""

GHCR_LIKE = Preset(
    dialect=Dialect(
        monolithic_post=False,
        n_zero="itself",
        presigned="host",
        referrers="404-text",
        subject=False,
        tag_parameters=False,
        deletes=False,
        errors="text",
        not_found="spec",
    ),
    auth=AuthOptions(scheme="bearer", announce_lifetime=False),
)
"""As reported of ghcr.io: a first page of n=0 that leads to itself, no referrers, no deletion."""

ZOT_LIKE = Preset(
    dialect=Dialect(
        octet_stream=415,
        manifest_limit=4 * _MIB,
        empty_needs_length=True,
        location="relative",
    ),
)
"""As zot's source has it: single POSTs want application/octet-stream, manifests up to 4 MiB."""

PROXY_IN_FRONT = Preset(
    dialect=Dialect(
        body_limit=_MIB,
        keep_alive=100,
        errors="html",
        expect="ignored",
        version_header=False,
        etags=False,
    ),
)
"""A registry behind a proxy as often set up: 1 MiB of body, pages of HTML for errors."""

PRESETS: Mapping[str, Preset] = {
    "distribution-2": Preset(dialect=DISTRIBUTION_2),
    "ggcr": Preset(dialect=GGCR),
    "ecr": ECR_LIKE,
    "quay": QUAY_LIKE,
    "harbor": HARBOR_LIKE,
    "acr": ACR_LIKE,
    "gar": GAR_LIKE,
    "artifactory": ARTIFACTORY_LIKE,
    "hub": HUB_LIKE,
    "ghcr": GHCR_LIKE,
    "zot": ZOT_LIKE,
    "proxy": PROXY_IN_FRONT,
}
"""Every preset by a short name, for tests that hold a client to all of them."""
