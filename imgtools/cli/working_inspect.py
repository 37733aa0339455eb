"""`imgtools inspect CONTAINER|IMAGE`: what is recorded of a working container, or of an image of
the store, in the form of buildah."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.output import flush, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import records_of, working_verb
from imgtools.errors import ImageNotFound, InvalidInput

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.model import WorkingContainer
    from engine.working.registry import WorkingContainers

TYPE = "buildah 0.0.1"
_NAMESPACES = (("cgroup", False), ("ipc", False), ("mount", False), ("network", False),
               ("pid", False), ("user", True), ("uts", False))  # fmt: skip
_DOCKER_SETTINGS: Mapping[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "ExposedPorts": None,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Healthcheck": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
    "StopSignal": "",
    "Shell": None,
}
_LEFT_OUT = ("ExposedPorts", "Healthcheck", "StopSignal", "Shell")


@working_verb("inspect", program=True, short_help="Show what is recorded of a container or image.")
@click.argument("words_", nargs=-1, metavar="CONTAINER|IMAGE")
@click.option("--format", "-f", "template", metavar="TEMPLATE", help="A Go template.")
@click.option("--type", "-t", "kind", metavar="TYPE",
              help="container or image (default: a container, else an image).")  # fmt: skip
@store_flags
@click.pass_obj
def command(
    cli: Cli, /, words_: tuple[str, ...], template: str | None, kind: str | None, **kwargs: Any
) -> None:
    """Show what is recorded of a working container, or of an image of the store."""
    if len(words_) != 1:
        raise InvalidInput(
            "too many arguments specified" if words_
            else "container or image name must be specified"
        )  # fmt: skip
    if kind not in (None, "container", "image"):
        raise InvalidInput(f'the only recognized types are "container" and "image", not {kind!r}')
    with records_of(cli, kwargs) as containers:
        found, place = _found(containers, words_[0], kind)
        value = document(containers.store, found, place)
    if template is None:
        from imgtools.inspect.text import json_text

        write_text(json_text(value) + "\n")
    else:
        from imgtools.cli.gotemplate import render
        from imgtools.cli.working_templates import builder_struct

        text = render(template, builder_struct(value), name="format")
        write_text(text if text.endswith("\n") else text + "\n")
    flush()


def _found(
    containers: WorkingContainers, word: str, kind: str | None
) -> tuple[WorkingContainer, str]:
    """The container with the directory where it is mounted, or the image as if it were one."""
    from engine.working.create import CreateOptions, described
    from engine.working.registry import ContainerNotKnown
    from engine.working.show import shown_at

    if kind != "image":
        try:
            container = containers.find(word)
            return container, shown_at(containers.store, container)
        except ContainerNotKnown:
            if kind == "container" and word.startswith("sha256:"):
                raise
    try:
        image, name = containers.store.find(word)
    except ImageNotFound as e:
        raise ImageNotFound(
            f"{word}: there is no working container and no image of this name in the store",
            hint=f"an image in a registry is docker://{word}",
        ) from e
    name = name or next(
        (n.name for n in containers.store.names().values() if n.image_id == image.id), ""
    )
    return described(containers.store, image, name, "", CreateOptions()), ""


def document(store: Store, container: WorkingContainer, place: str) -> dict[str, Any]:
    """What buildah prints of a container; that of an image has no id."""
    is_image = not container.id
    config = dict(container.document)
    history = [*(config.get("history") or []), *(e.to_json() for e in container.before),
               *(e.to_json() for e in container.after)]  # fmt: skip
    return {
        "Type": TYPE,
        "FromImage": container.image if container.image_id else "",
        "FromImageID": container.image_id,
        "FromImageDigest": container.image_digest,
        "Config": container.config,
        "Manifest": container.manifest,
        "Container": container.name,
        "ContainerID": container.id,
        "MountPoint": place,
        "ProcessLabel": "",
        "MountLabel": "",
        "ImageAnnotations": dict(sorted(container.annotations.items())) or None,
        "ImageCreatedBy": container.created_by,
        "OCIv1": _oci(config),
        "Docker": _docker(config, container),
        "DefaultMountsFilePath": "",
        "Isolation": container.isolation or "default",
        "NamespaceOptions": [
            {"Name": name, "Host": host, "Path": ""} for name, host in _NAMESPACES
        ],
        "Capabilities": None if is_image else _capabilities(container),
        "ConfigureNetwork": "NetworkDefault",
        "CNIPluginPath": "",
        "CNIConfigDir": "",
        "IDMappingOptions": {
            "HostUIDMapping": os.geteuid() == 0,
            "HostGIDMapping": os.geteuid() == 0,
            "UIDMap": [],
            "GIDMap": [],
        },
        "History": history,
        "Devices": None if is_image else list(container.settings.devices),
    }


def _oci(config: dict[str, Any]) -> dict[str, Any]:
    """The config as OCI has it: settings of docker alone are left out."""
    order = ("created", "author", "architecture", "variant", "os", "os.version", "os.features")
    settings = {
        key: value
        for key, value in (config.get("config") or {}).items()
        if key in ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir",
                   "Labels", "StopSignal") and value
    }  # fmt: skip
    found = {key: config[key] for key in order if config.get(key)}
    found["config"] = settings
    found["rootfs"] = config.get("rootfs") or {"type": "", "diff_ids": None}
    if config.get("history"):
        found["history"] = config["history"]
    return found


def _docker(config: dict[str, Any], container: WorkingContainer) -> dict[str, Any]:
    """The config as docker has it."""
    settings = {**_DOCKER_SETTINGS, **(config.get("config") or {})}
    if container.hostname:
        settings["Hostname"] = container.hostname
    if container.domainname:
        settings["Domainname"] = container.domainname
    settings = {k: v for k, v in settings.items() if v or k not in _LEFT_OUT}
    found: dict[str, Any] = {}
    for key in ("comment", "created"):
        if config.get(key):
            found[key] = config[key]
    found["container_config"] = settings
    if config.get("author"):
        found["author"] = config["author"]
    found["config"] = settings
    for key in ("architecture", "variant", "os", "os.version", "os.features"):
        if config.get(key):
            found[key] = config[key]
    if (config.get("rootfs") or {}).get("diff_ids"):
        found["rootfs"] = config["rootfs"]
    if config.get("history"):
        found["history"] = config["history"]
    return found


def _capabilities(container: WorkingContainer) -> list[str]:
    """What commands in the container may do, by default and as it was asked for."""
    from engine.runtime.process.capabilities import DEFAULT

    def named(names: tuple[str, ...]) -> set[str]:
        return {n.upper() if n.upper().startswith("CAP_") else f"CAP_{n.upper()}" for n in names}

    more, less = named(container.settings.cap_add), named(container.settings.cap_drop)
    kept = set() if "CAP_ALL" in less else set(DEFAULT)
    return sorted((kept | more) - less - {"CAP_ALL"})
