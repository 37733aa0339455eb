"""The image of the ladder's tests, made of programs of this machine, and what is run in it."""

from __future__ import annotations

import encodings
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = (
    "sh cat chmod chown chgrp cp id install ln ls mkdir mkfifo mknod mv printf rm rmdir sed sleep "
    "stat tar touch true find grep diff setpriv setcap groupadd useradd dpkg dpkg-deb dpkg-query "
    "dpkg-split ldconfig start-stop-daemon"
)
LINKS = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64",
         "usr/sbin": "bin"}  # fmt: skip
DIRECTORIES = {"usr/bin": 0o755, "usr/lib": 0o755, "usr/lib64": 0o755, "root": 0o700,
               "home": 0o755, "var/log": 0o755, "var/lib/dpkg/info": 0o755, "proc": 0o755,
               "var/lib/dpkg/updates": 0o755, "tmp": 0o1777}  # fmt: skip
FILES = {
    "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n", 0o644, 0, 0),
    "etc/group": (b"root:x:0:\nshadow:x:42:\nwww-data:x:33:\n", 0o644, 0, 0),
    "etc/shadow": (b"root:*:1::::::\nwww-data:*:1::::::\n", 0o640, 0, 42),
    "etc/gshadow": (b"root:*::\nshadow:*::\nwww-data:*::\n", 0o640, 0, 42),
    "etc/login.defs": (b"UID_MIN 1000\nGID_MIN 1000\n", 0o644, 0, 0),
    "etc/apt/apt.conf.d/01mine": (b"", 0o644, 0, 0),
    "etc/resolv.conf": (b"nameserver 192.0.2.1\n", 0o644, 0, 0),
    "var/lib/dpkg/status": (b"", 0o644, 0, 0),
    "var/lib/dpkg/available": (b"", 0o644, 0, 0),
    "srv/mine": (b"mine\n", 0o600, 33, 33),
    "srv/old": (b"old\n", 0o644, 33, 33),
    "srv/name": (b"name\n", 0o644, 33, 42),
    "srv/both": (b"both\n", 0o640, 33, 33),
    "srv/given": (b"given\n", 0o644, 33, 33),
    "srv/roots": (b"roots\n", 0o644, 0, 0),
}
SCRIPT = """
set -eu
umask 022
groupadd -g 150 workers
useradd -u 1500 -g workers -d /home/wim -m -k /nowhere wim 2>/dev/null
mkdir -p /srv/data/sub /opt/tool /var/spool
echo hello > /srv/data/file
chown -R wim:workers /srv/data
chown 33:42 /srv/data/sub
chmod 2775 /srv/data/sub
install -o wim -g workers -m 4755 /usr/bin/true /opt/tool/suid
install -d -o 33 -g 33 -m 0700 /var/spool/mail
echo more >> /etc/shadow
chown 33 /etc/passwd && chown 0 /etc/passwd
chmod 600 /srv/mine && chgrp shadow /srv/mine
rm /srv/old && echo new > /srv/old
sed -i s/root/toor/ /etc/gshadow
mv /srv/name /srv/named && ln /srv/both /srv/linked && mv /srv/roots /srv/given
ln -s nowhere /srv/link && chown -h 7:8 /srv/link
ln /srv/data/file /srv/data/hard
mkfifo /srv/fifo && chmod 620 /srv/fifo && chown 9:10 /srv/fifo
if mknod /srv/node c 1 3 2>/dev/null; then chmod 620 /srv/node; echo made; else echo refused; fi
setcap cap_net_raw+ep /opt/tool/suid
cp -p /opt/tool/suid /opt/tool/copy && rm /opt/tool/copy
touch /tmp/moved && chown 12:12 /tmp/moved && mv /tmp/moved /var/spool/moved
mkdir -p /tmp/in && touch /tmp/in/a /tmp/in/b && chown 5:6 /tmp/in/a
tar -C /tmp -cf /tmp/t.tar --owner=77 --group=78 in && tar -C /srv -xpf /tmp/t.tar
mkdir -p /tmp/pkg/DEBIAN /tmp/pkg/usr/lib/pkg
printf 'Package: pkg\\nVersion: 1\\nArchitecture: all\\nMaintainer: m\\nDescription: d\\n' \
    > /tmp/pkg/DEBIAN/control
printf '#!/bin/sh\\nset -e\\nchown 33:33 /usr/lib/pkg/owned\\nchmod 2755 /usr/lib/pkg/owned\\n' \
    > /tmp/pkg/DEBIAN/postinst
chmod 755 /tmp/pkg/DEBIAN/postinst
echo owned > /tmp/pkg/usr/lib/pkg/owned
dpkg-deb --root-owner-group -b /tmp/pkg /tmp/pkg.deb >/dev/null
dpkg -i /tmp/pkg.deb >/dev/null
rm -rf /tmp/pkg /tmp/pkg.deb /tmp/in /tmp/t.tar /var/log/* /etc/*- /var/lib/dpkg/*-old /var/cache
rm -f /etc/.pwd.lock
"""
OWNERS = {
    "etc/shadow": (0, 42, 0o640),
    "etc/gshadow": (0, 42, 0o640),
    "etc/passwd": (0, 0, 0o644),
    "srv/data/file": (1500, 150, 0o644),
    "srv/data/sub": (33, 42, 0o2775),
    "opt/tool/suid": (1500, 150, 0o4755),
    "var/spool/mail": (33, 33, 0o700),
    "srv/mine": (33, 42, 0o600),
    "srv/old": (0, 0, 0o644),
    "srv/named": (33, 42, 0o644),
    "srv/linked": (33, 33, 0o640),
    "srv/given": (0, 0, 0o644),
    "srv/link": (7, 8, 0o777),
    "srv/fifo": (9, 10, 0o620),
    "var/spool/moved": (12, 12, 0o644),
    "srv/in/a": (77, 78, 0o644),
    "usr/lib/pkg/owned": (33, 33, 0o2755),
}
"""Owner, group and mode that the script is to leave."""


def busybox() -> bytes:
    """A small image's only layer: busybox, and the same accounts."""
    path = shutil.which("busybox", path=PATH)
    assert path is not None, "busybox is not installed"
    applets = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout
    links = {f"bin/{name}": "busybox" for name in applets.split() if name != "busybox"}
    kept = {name: FILES[name] for name in ("etc/passwd", "etc/group", "etc/resolv.conf")}
    kept["f"] = (b"f\n", 0o640, 33, 42)
    return _layer({"bin/busybox": path}, links, kept)


def layer(*more: str) -> bytes:
    """The only layer of the image with the programs, `more` of this machine's among them."""
    return _layer(_programs(more), LINKS, FILES)


def layer_with_python(*more: str) -> bytes:
    """The same, and an interpreter of Python with as much of its library as lets it start."""
    library = os.path.dirname(encodings.__file__)
    files = dict(FILES)
    for name in ("__init__.py", "aliases.py", "utf_8.py", "latin_1.py"):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        content = Path(library, name).read_bytes()
        files[f"usr/lib/python{version}/encodings/{name}"] = (content, 0o644, 0, 0)
    interpreter = os.path.realpath(sys.executable)
    links = {**LINKS, "usr/bin/python": os.path.basename(interpreter)}
    return _layer(_programs((*more, interpreter)), links, files)


def _layer(
    programs: dict[str, str],
    links: dict[str, str],
    files: dict[str, tuple[bytes, int, int, int]],
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        seen: set[str] = set()

        def directory(path: str, mode: int = 0o755) -> None:
            if path and path not in seen:
                directory(os.path.dirname(path))
                seen.add(path)
                info = tarfile.TarInfo(path)
                info.type, info.mode = tarfile.DIRTYPE, mode
                archive.addfile(info)

        def file(path: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
            directory(os.path.dirname(path))
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.uid, info.gid = len(content), mode, uid, gid
            archive.addfile(info, io.BytesIO(content))

        for name, mode in DIRECTORIES.items():
            directory(name, mode)
        for name, target in links.items():
            directory(os.path.dirname(name))
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, source in sorted(programs.items()):
            file(name, Path(source).read_bytes(), 0o755)
        for name, (content, mode, uid, gid) in files.items():
            file(name, content, mode, uid, gid)
    return buffer.getvalue()


def _programs(more: Sequence[str]) -> dict[str, str]:
    """The programs and what they are linked with: this machine's files, by their place."""
    found = {}
    for name in (*PROGRAMS.split(), *more):
        path = shutil.which(name, path=PATH)
        assert path is not None, f"{name} is not installed"
        found[f"usr/bin/{os.path.basename(name)}"] = os.path.realpath(path)
    listed = subprocess.run(
        ["ldd", *found.values()], capture_output=True, text=True, check=False
    ).stdout
    for word in listed.replace(":", " ").split():
        if word.startswith("/") and word not in found.values():
            place = os.path.join(os.path.realpath(os.path.dirname(word)), os.path.basename(word))
            found[place.lstrip("/")] = os.path.realpath(word)
    return found
