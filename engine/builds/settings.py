"""What a RUN asks for, in the words of a container: a pure function but for the files that
options name."""

from __future__ import annotations

from engine.containers.options import Limits, Security
from engine.containers.security import parse_security
from engine.containers.steps import StepOptions
from engine.containers.volumes import parse_device, parse_volume
from engine.network.model import DnsOptions
from engine.probe.model import Choice
from imgtools.build.protocols import HostSettings, RunSpec
from imgtools.errors import Unsupported

HOSTNAME = "build"
"""The same in every build, or what writes it down would never be the same."""
CAPABILITIES = ("CAP_MKNOD",)
"""Scripts that make a root file system make nodes, as they may with BuildKit; which of them can
be opened is a matter of the container's cgroup."""
TERM = "TERM=xterm"
DEFAULTS = ("", "default", "private")


def step_options(spec: RunSpec, choice: Choice) -> StepOptions:
    """The step of a RUN, its mounts left out. Raises InvalidInput, and Unsupported for what
    cannot be had with the isolation `choice`."""
    settings = spec.settings
    return StepOptions(
        args=spec.args,
        env=(*(() if _has(spec.env, "TERM") else (TERM,)), *spec.env),
        workdir=spec.workdir or "/",
        user=spec.user,
        volumes=tuple(parse_volume(text, "/") for text in settings.volumes),
        devices=tuple(parse_device(text) for text in settings.devices),
        group_add=settings.group_add,
        network=_network(spec),
        dns=DnsOptions(
            servers=settings.dns, searches=settings.dns_search, options=settings.dns_options
        ),
        stdin=settings.stdin,
        add_hosts=settings.add_hosts,
        no_hosts=settings.no_hosts,
        hostname=settings.hostname or (HOSTNAME if choice.hostname else ""),
        no_hostname=settings.no_hostname,
        security=_security(spec, choice),
        limits=_limits(settings),
    )


def _has(env: tuple[str, ...], name: str) -> bool:
    return any(entry.partition("=")[0] == name for entry in env)


def _network(spec: RunSpec) -> str:
    """That of the RUN, else that of the build; "" is the best there is."""
    name = spec.settings.network if spec.network in DEFAULTS else spec.network
    return "" if name in DEFAULTS else name


def _security(spec: RunSpec, choice: Choice) -> Security:
    settings = spec.settings
    if spec.insecure and choice.kind == "chroot":
        raise Unsupported(
            "RUN --security=insecure: a process in a chroot cannot be given more than it has",
            hint="build where namespaces can be made; imgtools info says why they cannot",
        )
    security = Security(
        cap_usual=CAPABILITIES,
        cap_add=settings.cap_add,
        cap_drop=settings.cap_drop,
        privileged=spec.insecure,
    )
    return parse_security(settings.security_opt, security)


def _limits(settings: HostSettings) -> Limits:
    """Limits are a wish: a build that runs without is better than none."""
    return Limits(
        memory=settings.memory,
        memory_swap=settings.memory_swap,
        cpu_shares=settings.cpu_shares,
        cpu_period=settings.cpu_period,
        cpu_quota=settings.cpu_quota,
        cpuset_cpus=settings.cpuset_cpus,
        cpuset_mems=settings.cpuset_mems,
        ulimits=settings.ulimits,
        shm_size=settings.shm_size,
        lenient=True,
    )
