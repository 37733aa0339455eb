"""The environment and the host as frozen values; no other file of imgtools reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from imgtools.spec.platform import Platform, from_machine
from imgtools.transport.options import Proxies, RegistriesFiles

DEFAULT_TMPDIR = "/var/tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says, with the search orders of containers/image resolved."""

    auth_files: tuple[str, ...] = ()
    tmpdir: str = DEFAULT_TMPDIR
    cache_dir: str | None = None
    policy_files: tuple[str, ...] = ()
    certs_dirs: tuple[str, ...] = ()
    registries: RegistriesFiles = field(default_factory=RegistriesFiles)
    state_dir: str | None = None
    host: Platform = field(default_factory=Platform)
    proxies: Proxies = field(default_factory=Proxies)

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
        return cls(
            auth_files=_auth_files(env, home, config, uid),
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
            registries=_registries(env, containers, cache),
            state_dir=os.path.join(state, "imgtools") if state else None,
            host=from_machine(host.sysname.lower(), host.machine),
            proxies=_proxies(env),
        )


def _auth_files(env: Mapping[str, str], home: str, config: str, uid: int) -> tuple[str, ...]:
    """containers-auth.json(5): REGISTRY_AUTH_FILE alone, else the run-time directory, the
    configuration directory, and docker's files."""
    override = env.get("REGISTRY_AUTH_FILE")
    if override:
        return (override,)
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/containers/{uid}"
    runtime_file = "containers/auth.json" if env.get("XDG_RUNTIME_DIR") else "auth.json"
    docker = env.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
    return _named(
        os.path.join(runtime, runtime_file),
        os.path.join(config, "containers/auth.json") if config else "",
        os.path.join(docker, "config.json") if docker else "",
        os.path.join(home, ".dockercfg") if home else "",
    )


def _registries(env: Mapping[str, str], containers: str, cache: str) -> RegistriesFiles:
    """containers-registries.conf(5): CONTAINERS_REGISTRIES_CONF replaces the files but not the
    drop-ins, which are the system's and then the user's."""
    override = env.get("CONTAINERS_REGISTRIES_CONF")
    own = os.path.join(containers, "registries.conf") if containers else ""
    return RegistriesFiles(
        main=(override,) if override else _named(own, "/etc/containers/registries.conf"),
        drop_ins=_named("/etc/containers/registries.conf.d", f"{own}.d" if own else ""),
        aliases=os.path.join(cache, "containers/short-name-aliases.conf") if cache else None,
    )


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
