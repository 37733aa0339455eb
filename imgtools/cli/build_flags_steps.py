"""The options of `build` that say how RUN is run: isolation, network, privileges, limits. They
are buildah's, which `from` and `run` of working containers have too."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.build_flags import Decorator, many, text, together
from imgtools.cli.command import go_bool


def step_flags(function: Any) -> Any:
    """A decorator that adds them all."""
    return together((*_kind_flags(), *_network_flags(), *_limit_flags(), *_share_flags()))(function)


def _kind_flags() -> tuple[Decorator, ...]:
    return (
        text("--isolation", metavar="KIND",
             help="root, userns, ranges, single, chroot or none (default: the strongest that "
             "works, which auto, oci and rootless mean too; BUILDAH_ISOLATION)."),
        text("--userns", metavar="MODE",
             help="private: a user namespace, as --isolation userns; host: none of its own."),
        many("--cap-add", metavar="CAP", help="Add a capability, or ALL."),
        many("--cap-drop", metavar="CAP", help="Drop a capability, or ALL."),
        many("--security-opt", metavar="OPTION",
             help="no-new-privileges, seccomp=FILE|unconfined, mask=, unmask=, ..."),
        many("--group-add", metavar="GROUP", help="A further group, by name or number."),
        text("--cgroupns", metavar="MODE", help="private, which it always is."),
        text("--ipc", metavar="MODE", help="private, which it always is."),
        text("--pid", metavar="MODE", help="private, which it always is."),
        text("--uts", metavar="MODE", help="private, which it always is."),
    )  # fmt: skip


def _network_flags() -> tuple[Decorator, ...]:
    return (
        text("--network", "--net", metavar="MODE",
             help="host, none, pasta, slirp4netns or private (default: what works)."),
        many("--add-host", metavar="NAME:ADDRESS", help="Entry of /etc/hosts."),
        go_bool("--no-hosts", help="Leave /etc/hosts as the image has it."),
        go_bool("--no-hostname", help="Leave /etc/hostname as the image has it."),
        many("--dns", metavar="ADDRESS",
             help="Name server; none leaves /etc/resolv.conf as the image has it."),
        many("--dns-search", metavar="DOMAIN", help="Search domain."),
        many("--dns-option", metavar="OPTION", help="Option of the resolver."),
        go_bool("--http-proxy", default=True,
                help="Show RUN the variables of proxies that we have (default true)."),
    )  # fmt: skip


def _limit_flags() -> tuple[Decorator, ...]:
    return (
        click.option("--memory", "-m", metavar="SIZE", help="Limit of memory, such as 512m."),
        click.option("--memory-swap", metavar="SIZE", help="Limit of memory and swap; -1: none."),
        click.option("--cpu-shares", "-c", type=click.IntRange(0, 262144), metavar="N",
                     help="Weight among others."),
        click.option("--cpu-period", type=click.IntRange(0), metavar="N",
                     help="Period of --cpu-quota in microseconds (default 100000)."),
        click.option("--cpu-quota", type=int, metavar="N",
                     help="Microseconds of processor time per period; -1: no limit."),
        text("--cpuset-cpus", metavar="LIST", help="Processors to run on, such as 0-3."),
        text("--cpuset-mems", metavar="LIST", help="Nodes of memory to use."),
        click.option("--shm-size", metavar="SIZE", help="Size of /dev/shm (default: 64m)."),
        many("--ulimit", metavar="NAME=SOFT[:HARD]", help="Resource limit."),
    )  # fmt: skip


def _share_flags() -> tuple[Decorator, ...]:
    return (
        many("--volume", "-v", metavar="SOURCE:DESTINATION[:OPTIONS]",
             help="Show every RUN a directory or file of the host."),
        many("--mount", "mounts", metavar="type=TYPE,...",
             help="Give every RUN this mount, as RUN --mount has it."),
        many("--device", metavar="SOURCE[:PATH[:ACCESS]]", help="Show every RUN a device."),
    )  # fmt: skip
