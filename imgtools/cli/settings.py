"""The environment and the host as frozen values; no other file of imgtools reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import quote

from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform, from_machine
from imgtools.transport.options import Proxies, RegistriesFiles

DEFAULT_TMPDIR = "/var/tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says, with the search orders of containers/image resolved.

    `login_file` is where credentials are written, in docker's form with `login_docker`;
    `login_file_given` says that the user chose it, and `runtime_dir` is the directory of
    XDG_RUNTIME_DIR if the file is in it. `passphrase` is that of private keys, None if the
    environment has none. `identity_token` is a secret that stands in the environment, ""
    without one, and `projected_token` the file that Kubernetes puts one into for cosign.
    """

    auth_files: tuple[str, ...] = ()
    login_file: str = ""
    login_file_given: bool = False
    login_docker: bool = False
    runtime_dir: str = ""
    tmpdir: str = DEFAULT_TMPDIR
    cache_dir: str | None = None
    policy_files: tuple[str, ...] = ()
    certs_dirs: tuple[str, ...] = ()
    registries: RegistriesFiles = field(default_factory=RegistriesFiles)
    state_dir: str | None = None
    host: Platform = field(default_factory=Platform)
    proxies: Proxies = field(default_factory=Proxies)
    passphrase: bytes | None = field(default=None, repr=False)
    registries_d: tuple[str, ...] = ()
    lookaside: str = ""
    identity_token: str = field(default="", repr=False)
    projected_token: str = "/var/run/sigstore/cosign/oidc-token"

    @classmethod
    def from_environment(cls, env: Mapping[str, str], uid: int | None = None) -> Settings:
        """The settings that `env` (as os.environ) and the host imply for user `uid`."""
        uid = os.getuid() if uid is None else uid
        home = env.get("HOME", "")
        config = env.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
        cache = env.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
        state = env.get("XDG_STATE_HOME") or (os.path.join(home, ".local/state") if home else "")
        host = os.uname()
        containers = os.path.join(config, "containers") if config else ""
        override, docker = env.get("REGISTRY_AUTH_FILE", ""), env.get("DOCKER_CONFIG", "")
        primary = _primary_auth_file(env, uid)
        docker_file = os.path.join(docker, "config.json") if docker else ""
        return cls(
            auth_files=_auth_files(env, home, config, uid),
            login_file=override or docker_file or primary,
            login_file_given=bool(override or docker_file),
            login_docker=bool(docker_file and not override),
            runtime_dir=env.get("XDG_RUNTIME_DIR", ""),
            tmpdir=env.get("TMPDIR") or DEFAULT_TMPDIR,
            cache_dir=os.path.join(cache, "imgtools") if cache else None,
            policy_files=_named(
                os.path.join(containers, "policy.json") if containers else "",
                "/etc/containers/policy.json",
            ),
            certs_dirs=_named(
                os.path.join(containers, "certs.d") if containers else "",
                "/etc/containers/certs.d",
                "/etc/docker/certs.d",
            ),
            registries=_registries(env, containers, cache if uid else "/var/cache"),
            state_dir=os.path.join(state, "imgtools") if state else None,
            host=from_machine(host.sysname.lower(), host.machine),
            proxies=_proxies(env),
            registries_d=_named(
                os.path.join(containers, "registries.d") if containers else "",
                os.path.join(home, ".config/containers/registries.d") if home else "",
                "/etc/containers/registries.d",
            ),
            lookaside=_lookaside(home, uid),
            identity_token=env.get("SIGSTORE_ID_TOKEN", ""),
            passphrase=os.fsencode(env["COSIGN_PASSWORD"]) if "COSIGN_PASSWORD" in env else None,
        )


def _auth_files(env: Mapping[str, str], home: str, config: str, uid: int) -> tuple[str, ...]:
    """containers-auth.json(5): REGISTRY_AUTH_FILE alone, else the run-time directory, the
    configuration directory, and docker's files."""
    override = env.get("REGISTRY_AUTH_FILE")
    if override:
        return (override,)
    docker = env.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
    return _named(
        _primary_auth_file(env, uid),
        os.path.join(config, "containers/auth.json") if config else "",
        os.path.join(docker, "config.json") if docker else "",
        os.path.join(home, ".dockercfg") if home else "",
    )


def _primary_auth_file(env: Mapping[str, str], uid: int) -> str:
    """containers-auth.json(5): the one file that is written unless another is chosen."""
    runtime = env.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "containers/auth.json")
    return f"/run/containers/{uid}/auth.json"


def _registries(env: Mapping[str, str], containers: str, cache: str) -> RegistriesFiles:
    """containers-registries.conf(5): CONTAINERS_REGISTRIES_CONF replaces the files but not the
    drop-ins, which are the system's and then the user's."""
    override = env.get("CONTAINERS_REGISTRIES_CONF")
    own = os.path.join(containers, "registries.conf") if containers else ""
    return RegistriesFiles(
        main=(override,) if override else _named(own, "/etc/containers/registries.conf"),
        required=bool(override),
        drop_ins=_named("/etc/containers/registries.conf.d", f"{own}.d" if own else ""),
        aliases=os.path.join(cache, "containers/short-name-aliases.conf") if cache else None,
    )


def _lookaside(home: str, uid: int) -> str:
    """containers-registries.d(5): where signatures are that no section has a place for."""
    if uid and home:
        return f"file://{quote(os.path.join(home, '.local/share/containers/sigstore'))}"
    return "file:///var/lib/containers/sigstore"


def _named(*paths: str) -> tuple[str, ...]:
    return tuple(path for path in paths if path)


def _proxies(env: Mapping[str, str]) -> Proxies:
    """HTTP_PROXY and its kin as Go reads them: the lower-case form wins only if the upper-case
    one is empty, and HTTP_PROXY is a request header's value, not ours, under CGI."""

    def value(name: str) -> str:
        return env.get(name.upper()) or env.get(name) or ""

    http = "" if "REQUEST_METHOD" in env else value("http_proxy")
    rules = tuple(rule.strip() for rule in value("no_proxy").split(",") if rule.strip())
    return Proxies(http=http, https=value("https_proxy"), no_proxy=rules)
