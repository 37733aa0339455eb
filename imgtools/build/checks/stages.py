"""A file's stages as checks see them: the FROM, what follows it, and which stage it builds on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from imgtools.build.checks.model import CheckOptions
from imgtools.build.language.expand import Expanded, expand_word
from imgtools.build.language.model import Arg, Containerfile, Copy, From, Instruction, Run
from imgtools.build.language.numbers import stage_number
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. `base` is the name of its base after expansion, "" if that fails; `parent` the
    number of the stage that it means, None for an image."""

    index: int
    head: From
    body: tuple[Instruction, ...]
    base: str
    parent: int | None


def words_of_from(head: From) -> list[str]:
    """The words of a FROM behind its flags: the image, `AS` and the name, as written."""
    return [word for word in head.text.split()[1:] if not word.startswith("--")]


def global_args(file: Containerfile) -> Iterator[Arg]:
    """The ARG instructions in front of the first FROM."""
    for instruction in file.instructions:
        if isinstance(instruction, From):
            return
        if isinstance(instruction, Arg):
            yield instruction


def global_variables(
    file: Containerfile, options: CheckOptions, given: Mapping[str, str]
) -> dict[str, str]:
    """What FROM may use: platforms, and the arguments in front of it with the values `given` or
    their defaults. Raises InvalidInput if a default cannot be expanded."""
    variables: dict[str, str] = {}
    platforms = (("BUILD", options.build_platform), ("TARGET", options.target_platform))
    for prefix, platform in platforms:
        variables |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    variables["TARGETSTAGE"] = options.target or "default"
    variables |= {name: given[name] for name in variables if name in given}
    for instruction in global_args(file):
        for name, default in instruction.pairs:
            if name in given:
                variables[name] = given[name]
            elif default is not None:
                expanded = expand_word(default, variables, escape=file.directives.escape)
                variables[name] = expanded.text
    return variables


def expand_or_none(word: str, variables: Mapping[str, str], escape: str) -> Expanded | None:
    """The expansion; None where it fails, which the build itself will report."""
    try:
        return expand_word(word, variables, escape=escape)
    except InvalidInput:
        return None


def stages_of(
    file: Containerfile, variables: Mapping[str, str], contexts: Collection[str] = ()
) -> tuple[Stage, ...]:
    """The stages of a file; `variables` are those that FROM may use. Build contexts with the
    name of a stage go before it."""
    heads = [n for n, found in enumerate(file.instructions) if isinstance(found, From)]
    stages: list[Stage] = []
    for index, (start, end) in enumerate(
        zip(heads, [*heads[1:], len(file.instructions)], strict=True)
    ):
        head = file.instructions[start]
        assert isinstance(head, From)
        expanded = expand_or_none(head.image, variables, file.directives.escape)
        base = expanded.text if expanded else ""
        stages.append(
            Stage(
                index=index,
                head=head,
                body=file.instructions[start + 1 : end],
                base=base,
                parent=None if base in contexts else named_stage(base, stages),
            )
        )
    return tuple(stages)


def named_stage(name: str, stages: Sequence[Stage]) -> int | None:
    """The last of `stages` with this name, in any case; None if there is none."""
    for stage in reversed(stages):
        if stage.head.name and stage.head.name == name.lower():
            return stage.index
    return None


def sources_of(stage: Stage, stages: Sequence[Stage], contexts: Collection[str]) -> Iterator[int]:
    """The numbers of the stages that `stage` reads from: not of those that one of the build
    contexts takes the place of."""
    if stage.parent is not None:
        yield stage.parent
    earlier = stages[: stage.index]
    for instruction in stage.body:
        names = []
        if isinstance(instruction, Copy):
            names.append(instruction.from_)
        elif isinstance(instruction, Run):
            fields = [mount.split(",") for mount in instruction.mounts]
            names += [f[5:] for mount in fields for f in mount if f.lower().startswith("from=")]
        for name in names:
            if name in contexts:
                continue
            found = named_stage(name, earlier)
            if found is not None:
                yield found
            elif (number := stage_number(name)) is not None and number < stage.index:
                yield number
