"""From a profile to a program: a binary search over the system call numbers of each architecture.

Neighbouring numbers with one answer are one range. Calls of an architecture that the profile
does not select are killed, as libseccomp does with its default for bad architectures.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.seccomp.actions import ENOSYS, ERRNO, KILL_THREAD, NOTIFY, flags_value
from engine.runtime.seccomp.architectures import X32_BIT, X86_64, Architecture, selected
from engine.runtime.seccomp.assembler import JEQ, JGE, JGT, Assembler
from engine.runtime.seccomp.filter import (
    FLAG_NEW_LISTENER,
    FLAG_SPEC_ALLOW,
    FLAG_TSYNC,
    FLAG_TSYNC_ESRCH,
    FLAG_WAIT_KILLABLE_RECV,
    Filter,
)
from engine.runtime.seccomp.rules import (
    checked_rules,
    choices,
    default_value,
    hides_new_calls,
    newest_known,
)
from engine.runtime.seccomp.tables import TABLES, numbers
from engine.runtime.spec.model import Seccomp, SeccompArg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.runtime.seccomp.rules import Choice, Rule

    Range = tuple[int, Choice]  # from this number up to the next range

_NUMBER, _TOKEN, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_LOW = 0xFFFFFFFF


def compile_profile(profile: Seccomp, machine: str) -> Filter:
    """The filter of `profile` for kernels of `machine` (uname's word for it).

    Raises InvalidConfig for what the runtime-spec does not admit, Unsupported for a machine
    without tables and a profile that is too large for the kernel.
    """
    default = default_value(profile)
    rules = checked_rules(profile)
    architectures = selected(profile.architectures, machine)
    tables = {a.table: numbers(a.table) for a in architectures}
    assembler = Assembler()
    trees: list[tuple[int, int]] = []
    # The native architecture is written last, so that it is found first.
    for token in dict.fromkeys(a.token for a in reversed(architectures)):
        family = [a for a in architectures if a.token == token]
        ranges: list[Range] = []
        for architecture in family:
            table = tables[architecture.table]
            ranges += _ranges(rules, default, table, architecture)
        if family == [X86_64]:
            # -1 is no x32 call but what a tracer leaves of a call that it took away.
            ranges += [(X32_BIT, (((), KILL_THREAD),)), (_LOW, (((), default),))]
        writer = _Writer(assembler, family)
        trees.append((token, assembler.load(_NUMBER, writer.search(_merged(ranges)))))
    entry = assembler.finish(KILL_THREAD)
    for token, label in trees:
        entry = assembler.branch(JEQ, token, label, entry)
    assembler.load(_TOKEN, entry)
    flags, optional = _flags(profile, rules)
    return Filter(
        program=assembler.program(big_endian=architectures[0].big_endian),
        flags=flags,
        optional_flags=optional,
        unknown_names=_unknown(rules, tables),
    )


def _flags(profile: Seccomp, rules: tuple[Rule, ...]) -> tuple[int, int]:
    """The flags of seccomp(2), those asked for and those to be set where possible."""
    flags = flags_value(profile.flags or ())
    if any(rule.value == NOTIFY for rule in rules):
        flags |= FLAG_NEW_LISTENER
        if flags & FLAG_TSYNC:
            flags |= FLAG_TSYNC_ESRCH
    elif flags & FLAG_WAIT_KILLABLE_RECV:
        raise InvalidConfig(
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with "
            "SCMP_ACT_NOTIFY"
        )
    # runc's rule: no list of flags at all means this one, an empty list means none.
    return flags, FLAG_SPEC_ALLOW if profile.flags is None else 0


def _unknown(rules: tuple[Rule, ...], tables: dict[str, dict[str, int]]) -> tuple[str, ...]:
    """The names that no table of any architecture has."""
    missing = {name for rule in rules for name in rule.names}
    for known in tables.values():
        missing -= known.keys()
    for table in TABLES:
        if missing and table not in tables:
            missing -= numbers(table).keys()
    return tuple(sorted(missing))


def _ranges(
    rules: tuple[Rule, ...], default: int, table: dict[str, int], architecture: Architecture
) -> list[Range]:
    """The ranges of one architecture, in order, from its offset on."""
    otherwise: Choice = (((), default),)
    not_there: Choice = (((), ERRNO | ENOSYS),)
    found = choices(rules, default, table, architecture)
    newest = newest_known(rules, table)
    hidden = hides_new_calls(default)
    if hidden and architecture.table in ("s390", "s390x"):
        # Number 0 is how the kernel spells a call whose number it does not know.
        found[0] = not_there
    ranges: list[Range] = [(architecture.offset, otherwise)]
    for number, choice in sorted(found.items(), key=lambda item: item[0]):
        ranges += [(number, choice), (number + 1, otherwise)]
    if hidden and newest is not None:
        limit = newest + architecture.offset + 1
        late = [one for one in ranges if one[0] > limit and one[1] is not otherwise]
        ranges = [one for one in ranges if one[0] < limit] + [(limit, not_there)]
        for start, choice in late:
            ranges += [(start, choice), (start + 1, not_there)]
    return ranges


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Ranges without empty ones and without neighbours that say the same."""
    found: list[Range] = []
    for start, choice in ranges:
        if found and found[-1][0] == start:
            found.pop()
        if not found or found[-1][1] != choice:
            found.append((start, choice))
    return found


class _Writer:
    """Writes the decisions of one token: the search tree and the argument conditions."""

    def __init__(self, assembler: Assembler, family: list[Architecture]) -> None:
        self._assembler = assembler
        self._wide = {a.offset: a.wide for a in family}
        self._low, self._high = (4, 0) if family[0].big_endian else (0, 4)
        self._written: dict[tuple[Choice, bool], int] = {}

    def search(self, ranges: list[Range]) -> int:
        """The label of a search for the number loaded, over `ranges`."""
        if len(ranges) == 1:
            start, choice = ranges[0]
            return self._choice(choice, self._wide.get(start & X32_BIT, self._wide[0]))
        middle = len(ranges) // 2
        above = self.search(ranges[middle:])
        below = self.search(ranges[:middle])
        return self._assembler.branch(JGE, ranges[middle][0], above, below)

    def _choice(self, choice: Choice, wide: bool) -> int:
        """The label of what decides by the arguments; equal choices are written once."""
        label = self._written.get((choice, wide))
        if len(choice) > 1 and label is not None:
            return label
        for conditions, value in reversed(choice):
            result = self._assembler.finish(value)
            if not conditions:
                label = result
                continue
            assert label is not None  # the last of a choice has no conditions
            for condition in reversed(conditions):
                result = self._condition(condition, wide, result, label)
            label = result
        assert label is not None
        self._written[choice, wide] = label
        return label

    def _condition(self, arg: SeccompArg, wide: bool, true: int, false: int) -> int:
        """The label of a test that goes on at `true` if `arg` holds and at `false` if not."""
        if arg.op == "SCMP_CMP_MASKED_EQ":
            return self._masked(arg, wide, true, false)
        if arg.op in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
            true, false = false, true
        code = {
            "SCMP_CMP_EQ": JEQ,
            "SCMP_CMP_NE": JEQ,
            "SCMP_CMP_GT": JGT,
            "SCMP_CMP_LE": JGT,
        }.get(arg.op, JGE)
        assembler = self._assembler
        offset = _ARGUMENTS + 8 * arg.index
        label = assembler.branch(code, arg.value & _LOW, true, false)
        label = assembler.load(offset + self._low, label)
        if wide:
            high = arg.value >> 32
            label = assembler.branch(JEQ, high, label, false)
            if code != JEQ:
                label = assembler.branch(JGT, high, true, label)
            label = assembler.load(offset + self._high, label)
        return label

    def _masked(self, arg: SeccompArg, wide: bool, true: int, false: int) -> int:
        """As `_condition`, for (argument & value) == value_two."""
        assembler = self._assembler
        offset = _ARGUMENTS + 8 * arg.index
        halves = [(self._low, arg.value & _LOW, arg.value_two & _LOW)]
        if wide:
            halves.append((self._high, arg.value >> 32, arg.value_two >> 32))
        label = true
        for half, mask, value in halves:
            if mask:
                label = assembler.branch(JEQ, value & mask, label, false)
                if mask != _LOW:
                    label = assembler.mask(mask, label)
                label = assembler.load(offset + half, label)
        return label
