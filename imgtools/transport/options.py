"""Options of the transports, as frozen data that a command line or a library caller fills in.

Nothing here reads the environment: search paths come in as values.
"""

from __future__ import annotations

from dataclasses import field

from imgtools.frozen import dataclass


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
    """Seconds after which a stage of a request counts as failed.

    `idle` is the longest silence. `crawl` is for who is never silent: a blob that comes at
    less than 1 KiB a second for so long is asked for anew, from where it is, as after a cut.
    Only the waits for its bytes count.
    """

    connect: float = 15.0
    first_byte: float = 60.0
    idle: float = 60.0
    crawl: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxies of HTTP_PROXY and HTTPS_PROXY ("" for none, may hold a password) and the
    rules of NO_PROXY."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesFiles:
    """Where containers-registries.conf(5) is: the first of `main` that exists is the only one
    read, then every `*.conf` of the directories `drop_ins`, in their order; `aliases` is the
    file of short names that were resolved before. A file of `main` before the last one stands
    for the others and their drop-ins (the path with ".d") too. With `required` it is an error
    if there is none."""

    main: tuple[str, ...] = ()
    drop_ins: tuple[str, ...] = ()
    aliases: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDetails:
    """What may be negotiated: the lowest version ("1.2", "1.3", "" for 1.2), the names of
    cipher suites and of groups (empty: OpenSSL's own choice), as in containers-tls-details."""

    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    named_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that is asked of the network, None for no limit: `requests` per second and
    host, `bandwidth` in bytes per second, over all connections of a command and both ways."""

    requests: float | None = None
    bandwidth: int | None = None


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

    `registries` is where registries.conf is; `tls_verify_given` says that it may not change
    `tls_verify`, and `mirrors` False that it may not send us to mirrors. `private_hosts`
    lists hosts (names, addresses or networks) that registries on public addresses may lead
    us to although they are private. `journal_dir` is where interrupted transfers are
    remembered for the next run; None remembers nothing. `tmpdir` is where blobs are spooled
    between a fast and a slow side. `credential_helpers` are helpers that are asked for every
    registry, in order, where `containers-auth.json` means `auth_files`; empty means only those.
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
    registries: RegistriesFiles = field(default_factory=RegistriesFiles)
    tls_verify_given: bool = False
    mirrors: bool = True
    tls: TlsDetails = field(default_factory=TlsDetails)
    limits: Limits = field(default_factory=Limits)
    private_hosts: tuple[str, ...] = ()
    journal_dir: str | None = None
    tmpdir: str | None = None
    credential_helpers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of whatever transport a source name turns out to have.

    `tmpdir` is where input that cannot be read in place (standard input, compressed
    archives) is spooled; `shared_blob_dir` is skopeo's directory of blobs that several OCI
    layouts share. `as_received` asks a store of unpacked images for the manifest that an
    image came with, whose compressed layers it cannot give, to be looked at.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    tmpdir: str | None = None
    shared_blob_dir: str | None = None
    as_received: bool = False


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
