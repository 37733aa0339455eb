"""The architectures that a filter tells apart, and which of them a machine can run.

A system call arrives with an AUDIT_ARCH_... token (linux/audit.h), which is all a filter sees.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.record import Record

X32_BIT = 0x40000000


class Architecture(Record):
    """`name` as in the runtime-spec; `token` what the kernel reports; `table` the numbers.

    `wide` says that arguments are compared as 64 bits. x32 shares the token of x86_64 and is
    told from it by X32_BIT in the number, which is `offset`.
    """

    name: str
    token: int
    table: str
    wide: bool = True
    big_endian: bool = False
    offset: int = 0


X86_64 = Architecture(name="SCMP_ARCH_X86_64", token=0xC000003E, table="x86_64")
X86 = Architecture(name="SCMP_ARCH_X86", token=0x40000003, table="i386", wide=False)
X32 = Architecture(name="SCMP_ARCH_X32", token=0xC000003E, table="x32", wide=False, offset=X32_BIT)
AARCH64 = Architecture(name="SCMP_ARCH_AARCH64", token=0xC00000B7, table="aarch64")
ARM = Architecture(name="SCMP_ARCH_ARM", token=0x40000028, table="arm", wide=False)
RISCV64 = Architecture(name="SCMP_ARCH_RISCV64", token=0xC00000F3, table="riscv64")
PPC64LE = Architecture(name="SCMP_ARCH_PPC64LE", token=0xC0000015, table="ppc64le")
LOONGARCH64 = Architecture(name="SCMP_ARCH_LOONGARCH64", token=0xC0000102, table="loongarch64")
S390X = Architecture(name="SCMP_ARCH_S390X", token=0x80000016, table="s390x", big_endian=True)
S390 = Architecture(
    name="SCMP_ARCH_S390", token=0x00000016, table="s390", wide=False, big_endian=True
)

# uname(2)'s machine -> what its kernel runs, the native one first.
RUNNABLE = {
    "x86_64": (X86_64, X86, X32),
    "aarch64": (AARCH64, ARM),
    "riscv64": (RISCV64,),
    "ppc64le": (PPC64LE,),
    "s390x": (S390X, S390),
    "loongarch64": (LOONGARCH64,),
}

# SCMP_ARCH_... of the runtime-spec that never arrive on any machine above.
_FOREIGN = (
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PARISC",
    "PARISC64",
    "SH",
    "SHEB",
    "M68K",
)
FOREIGN = frozenset("SCMP_ARCH_" + name for name in _FOREIGN)


def known() -> tuple[str, ...]:
    """Every name the runtime-spec lets a profile use that this package accepts."""
    return tuple(sorted({a.name for family in RUNNABLE.values() for a in family} | FOREIGN))


def runnable(machine: str) -> tuple[Architecture, ...]:
    """The architectures of `machine` (as uname says it), the native one first."""
    found = RUNNABLE.get(machine)
    if found is None:
        raise Unsupported(f"seccomp: no system call table for the machine {machine}")
    return found


def selected(names: tuple[str, ...], machine: str) -> tuple[Architecture, ...]:
    """The architectures of a profile on `machine`: those it names, and always the native one.

    A name that this machine cannot run needs no rules, as its calls never arrive. Raises
    InvalidConfig for a name that is none, Unsupported for a machine without tables.
    """
    here = runnable(machine)
    allowed = known()
    for name in names:
        if name != "SCMP_ARCH_NATIVE" and name not in allowed:
            raise InvalidConfig(f"linux.seccomp.architectures: {name} is not an architecture")
    return tuple(a for a in here if a is here[0] or a.name in names)
