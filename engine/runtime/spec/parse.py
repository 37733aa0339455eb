"""config.json as data: the value of a JSON document becomes a frozen Config, or an error that
names the property, what was expected and what is there.

config.md of the runtime-spec, up to version 1.3. Unknown properties are ignored as it demands,
invalid values are errors, and properties of other platforms are Unsupported.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.linux import read_linux, read_mappings
from engine.runtime.spec.model import Config, Hook, Hooks, Linux, Mount, Process, Resources, Root
from engine.runtime.spec.process import read_process
from engine.runtime.spec.resources import read_resources
from engine.runtime.spec.values import Object
from engine.runtime.spec.version import check_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.values import Range

OTHER_PLATFORMS = ("vm", "solaris", "windows", "zos", "freebsd")
HOST_NAME_MAX = 64  # __NEW_UTS_LEN of the kernel
TIMEOUT: Range = (1, (1 << 31) - 1, "a number of seconds greater than 0")


def parse_config(document: object) -> Config:
    """The Config that the value of a config.json stands for; raises InvalidConfig, Unsupported.

    Relative mount destinations, which old versions allowed, are taken from `/`.
    """
    at = Object(document, "")
    version = check_version(at.text("ociVersion"))
    for platform in OTHER_PLATFORMS:
        if at.members.get(platform):
            raise Unsupported(f"{platform}: this runtime runs Linux containers only")
    config = Config(
        oci_version=version,
        root=_read_root(at),
        process=at.read("process", read_process),
        hostname=_read_host_name(at, "hostname"),
        domainname=_read_host_name(at, "domainname"),
        mounts=at.each("mounts", _read_mount),
        hooks=at.read("hooks", _read_hooks) or Hooks(),
        annotations=at.pairs("annotations"),
        linux=at.read("linux", read_linux) or Linux(),
    )
    _check_together(config)
    return config


def parse_process(document: object) -> Process:
    """The Process of a document that is only that; raises InvalidConfig."""
    return read_process(Object(document, "process"))


def parse_resources(document: object) -> Resources:
    """The Resources of a document that is only that; raises InvalidConfig, Unsupported."""
    return read_resources(Object(document, "resources"))


def _read_root(at: Object) -> Root:
    root = at.object("root")
    if root is None:
        raise at.wrong("root", "an object with the path of the root file system")
    return Root(path=root.required_text("path"), readonly=root.flag("readonly"))


def _read_host_name(at: Object, name: str) -> str:
    value = at.text(name)
    if len(value.encode("utf-8", "surrogateescape")) > HOST_NAME_MAX:
        raise at.wrong(name, f"a name of at most {HOST_NAME_MAX} bytes")
    return value


def _read_mount(at: Object) -> Mount:
    destination = at.required_text("destination")
    return Mount(
        destination=destination if destination.startswith("/") else f"/{destination}",
        type=at.text("type"),
        source=at.text("source"),
        options=at.texts("options"),
        uid_mappings=read_mappings(at, "uidMappings"),
        gid_mappings=read_mappings(at, "gidMappings"),
    )


def _read_hooks(at: Object) -> Hooks:
    return Hooks(
        prestart=at.each("prestart", _read_hook),
        create_runtime=at.each("createRuntime", _read_hook),
        create_container=at.each("createContainer", _read_hook),
        start_container=at.each("startContainer", _read_hook),
        poststart=at.each("poststart", _read_hook),
        poststop=at.each("poststop", _read_hook),
    )


def _read_hook(at: Object) -> Hook:
    return Hook(
        path=at.required_absolute("path"),
        args=at.texts("args"),
        env=at.texts("env") if at.members.get("env") is not None else None,
        timeout=at.number("timeout", TIMEOUT),
    )


def _check_together(config: Config) -> None:
    """What the specification or the kernel forbids although each part is valid on its own."""
    linux = config.linux
    namespaces = {one.type for one in linux.namespaces}
    needs = (
        ("hostname", bool(config.hostname), "uts"),
        ("domainname", bool(config.domainname), "uts"),
        ("linux.uidMappings", bool(linux.uid_mappings), "user"),
        ("linux.gidMappings", bool(linux.gid_mappings), "user"),
        ("linux.maskedPaths", bool(linux.masked_paths), "mount"),
        ("linux.readonlyPaths", bool(linux.readonly_paths), "mount"),
        ("linux.timeOffsets", bool(linux.time_offsets), "time"),
        ("linux.netDevices", bool(linux.net_devices), "network"),
    )
    for name, present, namespace in needs:
        if present and namespace not in namespaces:
            raise InvalidConfig(f"{name}: needs a {namespace} namespace in linux.namespaces")
    if linux.time_offsets and any(n.type == "time" and n.path for n in linux.namespaces):
        raise InvalidConfig("linux.timeOffsets: the time namespace is joined, so it is set already")
    if bool(linux.uid_mappings) != bool(linux.gid_mappings):
        raise InvalidConfig("linux: uidMappings and gidMappings have to be given together")
