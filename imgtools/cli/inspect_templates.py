"""What `inspect --format` templates see: skopeo's Go types, built from the JSON we print."""

from __future__ import annotations

from typing import Any

from imgtools.cli.gotemplate import Struct, Time

_SETTINGS: dict[str, Any] = {
    "User": "",
    "ExposedPorts": {},
    "Env": [],
    "Entrypoint": [],
    "Cmd": [],
    "Volumes": {},
    "WorkingDir": "",
    "Labels": {},
    "StopSignal": "",
    "ArgsEscaped": False,
}


def output_struct(value: dict[str, Any], *, artifact: bool = False) -> Any:
    """The data for a template over `value`, which is `inspect.summary` or a struct already.

    Fields that JSON leaves out are there and empty. An artifact, for which Go has no type, is
    a struct of what it has.
    """
    if isinstance(value, Struct):
        return value
    fields: dict[str, Any] = {"Name": "", "Tag": ""} if not artifact else {"Name": ""}
    fields.update(value)
    if fields.get("Created") is not None:
        fields["Created"] = Time(fields["Created"])
    for key in ("Labels", "Env"):
        if key in fields and fields[key] is None:
            fields[key] = {} if key == "Labels" else []
    fields["LayersData"] = [Struct("types.ImageInspectLayer", d) for d in fields["LayersData"]]
    return Struct("inspect.Output", fields, omitempty=("Name", "Tag"))


def config_struct(value: dict[str, Any]) -> Any:
    """The data for a template over the config: Go's v1.Image, by its Go field names."""
    settings = Struct("v1.ImageConfig", {**_SETTINGS, **value["config"]})
    rootfs = Struct(
        "v1.RootFS",
        {"Type": value["rootfs"]["type"], "DiffIDs": value["rootfs"]["diff_ids"] or []},
    )
    return Struct(
        "v1.Image",
        {
            "Created": _time(value.get("created")),
            "Author": value.get("author", ""),
            "Architecture": value["architecture"],
            "OS": value["os"],
            "OSVersion": value.get("os.version", ""),
            "OSFeatures": value.get("os.features", []),
            "Variant": value.get("variant", ""),
            "Config": settings,
            "RootFS": rootfs,
            "History": [_step(step) for step in value.get("history", [])],
        },
    )


def _step(step: dict[str, Any]) -> Struct:
    return Struct(
        "v1.History",
        {
            "Created": _time(step.get("created")),
            "CreatedBy": step.get("created_by", ""),
            "Author": step.get("author", ""),
            "Comment": step.get("comment", ""),
            "EmptyLayer": step.get("empty_layer", False),
        },
    )


def _time(text: str | None) -> Time | None:
    return None if text is None else Time(text)
