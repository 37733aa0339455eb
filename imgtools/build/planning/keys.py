"""Cache keys: what a step depends on, each part with its length in front, in one SHA-256.

Parts that are ambiguous together (a list of words, say) are counted, so that two different
steps never give the same bytes. Secrets, agents, proxies, what is in cache mounts and volumes of
the host, limits of resources and times of files are not in a key; neither is anything about how
RUN is isolated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from imgtools.build.options import Stamps
from imgtools.build.planning.model import CopyWork, MountWork, RunWork, WorkdirWork
from imgtools.build.protocols import HostSettings
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform

VERSION = "imgtools build 1"
LINKED = "linked"
"""In place of the layer below, of which COPY --link reads nothing."""
USUAL_NETWORKS = ("default", "private")
"""What --network calls the network that a step has anyway."""


def digest_of(*parts: object) -> str:
    """The key of nested parts: text, bytes, numbers, None, and tuples of these."""
    hasher = hashlib.sha256()
    for piece in _pieces(parts):
        hasher.update(piece)
    return hasher.hexdigest()


def _pieces(value: object) -> Iterable[bytes]:
    if isinstance(value, tuple):
        yield b"(%d:" % len(value)
        for item in value:
            yield from _pieces(item)
    elif value is None:
        yield b"-"
    elif isinstance(value, bool | int):
        yield b"i%d;" % int(value)
    else:
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        yield b"s%d:" % len(data)
        yield data


def run_key(
    parent: Digest | None,
    work: RunWork,
    mounted: tuple[str, ...],
    platform: Platform,
    stamps: Stamps,
    host: HostSettings,
    kept_out: tuple[str, ...] = (),
) -> str:
    """The key of RUN on the layer `parent`; `mounted` says for each mount what it shows, ""
    for those whose content does not count. `kept_out` are paths of which nothing becomes part
    of the layer."""
    network = "" if host.network in USUAL_NETWORKS else host.network
    given = _given(host)
    return digest_of(
        VERSION,
        "run",
        parent,
        str(platform),
        work.args,
        tuple(sorted(work.env)),
        work.user,
        work.workdir,
        tuple(_mount(mount, shown) for mount, shown in zip(work.mounts, mounted, strict=True)),
        work.script.content if work.script is not None else None,
        work.network or network,
        work.insecure,
        _times(stamps),
        *((kept_out,) if kept_out or given else ()),
        *((given,) if given else ()),
    )


def _given(host: HostSettings) -> tuple[object, ...]:
    """What options give all commands that shows in what they make; nothing where there is no
    such option. Servers of names are a way to the network, as proxies are."""
    parts = (
        ("add-host", host.add_hosts),
        ("no-hosts", host.no_hosts),
        ("no-hostname", host.no_hostname),
        ("dns", tuple(word for word in host.dns if word == "none")),
        ("cap-add", tuple(sorted(host.cap_add))),
        ("cap-drop", tuple(sorted(host.cap_drop))),
        ("security-opt", tuple(sorted(host.security_opt))),
        ("group-add", tuple(sorted(host.group_add))),
        ("device", host.devices),
        # Where a directory of the host is shown, and how: what is written there is in no layer.
        ("volume", tuple(text.partition(":")[2] for text in host.volumes)),
        ("hostname", host.hostname),
    )
    return tuple(part for part in parts if part[1])


def _mount(work: MountWork, shown: str) -> tuple[object, ...]:
    mount = work.mount
    return (
        mount.kind,
        mount.target,
        mount.source if mount.kind == "bind" else "",
        mount.id if mount.kind in ("cache", "secret", "ssh") else "",
        mount.env,
        mount.read_only,
        mount.mode,
        mount.uid,
        mount.gid,
        shown,
    )


def copy_key(
    parent: Digest | str | None,
    work: CopyWork,
    content: tuple[str, ...],
    platform: Platform,
    stamps: Stamps,
) -> str:
    """The key of COPY or ADD; `content` says of each source what is copied from it, be it by
    the digest of the files or by where they come from. `parent` is LINKED for a layer that is
    the same whatever is below it."""
    return digest_of(
        VERSION,
        "add" if work.add else "copy",
        parent,
        str(platform),
        work.destination,
        work.from_stage,
        work.chown,
        work.chmod,
        work.link,
        work.parents,
        work.exclude,
        work.checksum,
        work.keep_git_dir,
        work.unpack,
        content,
        _times_made(stamps),
    )


def workdir_key(parent: Digest | None, work: WorkdirWork, stamps: Stamps) -> str:
    """The key of WORKDIR."""
    return digest_of(VERSION, "workdir", parent, work.path, work.user, _times_made(stamps))


def image_key(document: Mapping[str, Any], texts: tuple[str, ...]) -> str:
    """The key by which it is found when an image with this config was made first, so that
    making it again gives the same image: `document` has no times, `texts` are its history."""
    return digest_of(VERSION, "image", strict_json.dumps(dict(document)), texts)


def _times_made(stamps: Stamps) -> tuple[int | None, ...]:
    """`_times`, and the time of directories and documents that are made, where it is fixed."""
    found = _times(stamps)
    return found if found != (None, None) or stamps.created is None else (*found, stamps.created)


def _times(stamps: Stamps) -> tuple[int | None, int | None]:
    clamp = stamps.source_date_epoch if stamps.rewrite and stamps.timestamp is None else None
    return stamps.timestamp, clamp
