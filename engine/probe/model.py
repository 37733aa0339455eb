"""The results of probing a host, and the isolation that follows from them. Frozen data only."""

from __future__ import annotations

from typing import Literal

from imgtools.frozen import dataclass

Kind = Literal["root", "ranges", "single", "chroot", "none"]
Rung = Literal["A", "B", "C", "D-crio", "D", "none"]
Emulation = Literal["", "notify", "errno"]

KINDS: tuple[Kind, ...] = ("root", "ranges", "single", "chroot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One thing that was tried.

    `step` names the system call or file that failed and `errno` how ("EPERM"), both empty where
    it works. `why` and `remedy` are one line for people. `detail` is what was learned besides:
    a version, a mode, a variant that worked.
    """

    name: str
    works: bool
    step: str = ""
    errno: str = ""
    why: str = ""
    remedy: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A kind of isolation that is stronger, or was asked for, and not chosen: why, and what
    would change that."""

    kind: Kind
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How containers are isolated here.

    `kind` is "root" (namespaces as the root that this process is), "ranges" (a user namespace
    with many ids), "single" (one with a single id, others have to be emulated), "chroot" (no
    namespace at all) or "none" (nothing can be run). `rung` is the kind of environment.
    `root_change` is how a root is entered; `proc` whether a fresh procfs can be mounted in a PID
    namespace ("mount") or the host's has to be bound without one ("bind"). `emulation` is how
    ownership is pretended where ids are missing: "notify", "errno" or "". `hostname` says
    whether containers can have host names of their own, `own_user` whether a program can be
    another user than root where there is a single id, `shares_network` whether the network is
    the host's unless another is asked for.
    """

    kind: Kind
    rung: Rung
    why: str
    root_change: Literal["pivot_root", "move", "chroot", "none"] = "none"
    proc: Literal["mount", "bind", "none"] = "none"
    emulation: Emulation = ""
    hostname: bool = True
    own_user: bool = False
    shares_network: bool = False
    rejected: tuple[Rejection, ...] = ()
    improve: tuple[str, ...] = ()

    @property
    def pid_namespace(self) -> bool:
        """Whether containers get PIDs of their own: procfs of other ones confuses programs."""
        return self.proc == "mount"

    @property
    def in_place_of(self) -> Rejection | None:
        """The weaker kind that was asked for, where this one was chosen instead."""
        weaker = KINDS[KINDS.index(self.kind) + 1 :] if self.kind in KINDS else ()
        return next((one for one in self.rejected if one.kind in weaker), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything `imgtools info` tells of a host. `facts` are what was read, by topic; `choice`
    what follows from `probes`. `cached` says that nothing was tried anew."""

    facts: dict[str, dict[str, str]]
    probes: tuple[Probe, ...]
    choice: Choice
    cached: bool = False

    def probe(self, name: str) -> Probe:
        """The probe `name`; one that was never tried does not work."""
        found = (probe for probe in self.probes if probe.name == name)
        return next(found, Probe(name=name, works=False, why="not tried"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """What to probe and where to remember it.

    `storage` is the directory whose file system overlay is tried on, or the nearest one above
    that exists. `cache_dir` holds results until the next boot, None for none. `seconds` bounds
    each attempt. `path` is where helper programs are looked for. `fresh` ignores what is
    remembered.
    """

    storage: str
    cache_dir: str | None = None
    path: tuple[str, ...] = ("/usr/local/bin", "/usr/bin", "/bin")
    subuid: str = "/etc/subuid"
    subgid: str = "/etc/subgid"
    seconds: float = 5.0
    version: str = ""
    fresh: bool = False
