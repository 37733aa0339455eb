"""Options of the transports, as frozen data that a command line or a library caller fills in.

Nothing here reads the environment: search paths come in as values.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves who we are to a registry; `identity_token` is an OAuth2 refresh token,
    `registry_token` a ready bearer token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds after which a stage of a request counts as failed."""

    connect: float = 15.0
    first_byte: float = 60.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxies of HTTP_PROXY and HTTPS_PROXY ("" for none, may hold a password) and the
    rules of NO_PROXY."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How registries are reached.

    `tls_verify` False accepts any certificate and, where no TLS answers, plain http.
    `cert_dir` holds `*.crt` (CAs), `*.cert` with `*.key` (client pair), as in certs.d; without
    it the first directory named `host[:port]` in one of `certs_dirs` is used, if there is any.
    `ca_file` is one further PEM file of CAs. `credentials` wins over `auth_files` (containers
    auth.json or docker config.json, first match wins); `anonymous` uses none at all.
    `challenge_cache` is a file that remembers, per host, scheme and token realm; None keeps
    nothing. `user_agent` is sent with every request. `max_connections` is how many idle
    connections are kept per host.
    """

    tls_verify: bool = True
    cert_dir: str | None = None
    certs_dirs: tuple[str, ...] = ()
    ca_file: str | None = None
    credentials: Credentials | None = None
    anonymous: bool = False
    auth_files: tuple[str, ...] = ()
    challenge_cache: str | None = None
    user_agent: str = "imgtools"
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 16
    proxies: Proxies = field(default_factory=Proxies)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of whatever transport a source name turns out to have.

    `tmpdir` is where input that cannot be read in place (standard input, compressed
    archives) is spooled; `shared_blob_dir` is skopeo's directory of blobs that several OCI
    layouts share.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    tmpdir: str | None = None
    shared_blob_dir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationOptions:
    """Options of whatever transport a destination name turns out to have.

    `additional_tags` are further names given to the image (docker-archive: and registries).
    `accept_uncompressed` lets OCI layouts keep uncompressed layers.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    tmpdir: str | None = None
    shared_blob_dir: str | None = None
    additional_tags: tuple[str, ...] = ()
    accept_uncompressed: bool = False
