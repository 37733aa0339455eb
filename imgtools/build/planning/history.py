"""What the history of an image says of a step, in the form that docker and buildah gave it."""

from __future__ import annotations

from imgtools.build.language.model import Add, Copy, Instruction, Run
from imgtools.build.planning.model import CopyWork, RunWork, StageState, Work

NOP = "/bin/sh -c #(nop)"


def created_by(instruction: Instruction, state: StageState, work: Work | None) -> str:
    """`created_by` of a step; COPY and ADD have `{}` where the digest of what was copied goes
    (`copied` puts it there)."""
    if isinstance(instruction, Run) and isinstance(work, RunWork):
        return _declared(state) + " ".join(_visible(work))
    if isinstance(instruction, Copy | Add) and isinstance(work, CopyWork):
        flags = "".join(f" --{flag}" for flag in _flags(work))
        return f"{NOP} {instruction.keyword}{flags} {{}} in {work.destination} "
    rest = instruction.text.partition(" ")[2].strip()
    return f"{NOP} {instruction.keyword} {rest}".rstrip()


def copied(text: str, digest: str) -> str:
    """The text of `created_by` with what was copied: kind and digest, such as `file:3f...`."""
    return text.replace("{}", digest, 1)


def _declared(state: StageState) -> str:
    """The arguments that were declared, as `|2 A=1 B= `. What they hold now counts."""
    if not state.arguments:
        return ""
    pairs = [
        f"{name}={state.variables.get(name, value or '')}"
        for name, value in state.arguments.items()
    ]
    return f"|{len(pairs)} {' '.join(pairs)} "


def _visible(work: RunWork) -> tuple[str, ...]:
    """The command; of a document that is executed itself, its content."""
    if work.script is None:
        return work.args
    return (*work.args, work.script.content.decode("utf-8", "replace"))


def _flags(work: CopyWork) -> list[str]:
    named = (("chown", work.chown), ("chmod", work.chmod), ("checksum", work.checksum))
    found = [f"{name}={value}" for name, value in named if value]
    found += [name for name, on in (("link", work.link), ("parents", work.parents)) if on]
    if work.unpack is not None:
        found.append(f"unpack={str(work.unpack).lower()}")
    return found + [f"exclude={pattern}" for pattern in work.exclude]
