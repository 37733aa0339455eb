"""What templates of `inspect` see of a working container: buildah's Go types, by their Go field
names, built from the JSON that we print."""

from __future__ import annotations

from typing import Any

from imgtools.cli.gotemplate import Struct, Time
from imgtools.cli.inspect_templates import config_struct

NEVER = "0001-01-01T00:00:00Z"
"""What Go takes a time for that nobody has set."""
_DOCKER = (
    ("ID", "id", ""),
    ("Parent", "parent", ""),
    ("Comment", "comment", ""),
    ("Created", "created", NEVER),
    ("Container", "container", ""),
    ("DockerVersion", "docker_version", ""),
    ("Author", "author", ""),
    ("Architecture", "architecture", ""),
    ("Variant", "variant", ""),
    ("OS", "os", ""),
    ("OSVersion", "os.version", ""),
)
_LISTS = ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")
_MAPS = ("ExposedPorts", "Volumes", "Labels")


def builder_struct(value: dict[str, Any]) -> Any:
    """The data for a template over what `working_inspect.document` made."""
    fields = dict(value)
    fields["OCIv1"] = config_struct({"architecture": "", "os": "", **value["OCIv1"]})
    fields["Docker"] = _docker(value["Docker"])
    fields["ImageAnnotations"] = value["ImageAnnotations"] or {}
    fields["NamespaceOptions"] = [
        Struct("define.NamespaceOption", each) for each in value["NamespaceOptions"]
    ]
    fields["IDMappingOptions"] = Struct("define.IDMappingOptions", value["IDMappingOptions"])
    for key in ("Capabilities", "Devices"):
        fields[key] = value[key] or []
    fields["History"] = [_history(each) for each in value["History"]]
    return Struct("buildah.BuilderInfo", fields)


def _docker(value: dict[str, Any]) -> Any:
    settings = _settings(value["config"])
    fields: dict[str, Any] = {name: value.get(key, usual) for name, key, usual in _DOCKER}
    rootfs = value.get("rootfs") or {}
    fields["Created"] = Time(fields["Created"] or NEVER)
    fields |= {
        "ContainerConfig": settings,
        "Config": settings,
        "Size": 0,
        "OSFeatures": value.get("os.features") or [],
        "RootFS": Struct(
            "docker.V2S2RootFS",
            {"Type": rootfs.get("type", "layers"), "DiffIDs": rootfs.get("diff_ids") or []},
        ),
        "History": [_history(each) for each in value.get("history") or []],
    }
    return Struct("docker.V2Image", fields)


def _settings(value: dict[str, Any]) -> Any:
    fields = {**value}
    for key in _LISTS:
        fields[key] = value.get(key) or []
    for key in _MAPS:
        fields[key] = value.get(key) or {}
    fields.setdefault("StopSignal", "")
    check = value.get("Healthcheck")
    usual = {"Test": [], "Interval": 0, "Timeout": 0, "StartPeriod": 0, "Retries": 0}
    fields["Healthcheck"] = Struct("docker.HealthConfig", {**usual, **check}) if check else None
    return Struct("docker.Config", fields)


def _history(entry: dict[str, Any]) -> Any:
    return Struct(
        "v1.History",
        {
            "Created": Time(entry.get("created") or NEVER),
            "CreatedBy": entry.get("created_by", ""),
            "Author": entry.get("author", ""),
            "Comment": entry.get("comment", ""),
            "EmptyLayer": bool(entry.get("empty_layer")),
        },
    )
