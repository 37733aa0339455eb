"""Classic BPF, written from its end to its beginning.

Every jump of classic BPF goes forward, so its target is known when it is written in this
order, and a target more than 255 instructions away gets a stepping stone right behind the jump.
"""

from __future__ import annotations

import struct

from engine.runtime.errors import Unsupported
from engine.runtime.seccomp.filter import MAX_INSTRUCTIONS

LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05  # LD|W|ABS, ALU|AND|K, RET|K, JMP|JA
JEQ, JGT, JGE = 0x15, 0x25, 0x35  # JMP|...|K
# The farthest a conditional jump reaches, less the two stepping stones that may come between.
REACH = 253


class Assembler:
    """Instructions in reverse; a label is the number of instructions from it to the end."""

    def __init__(self) -> None:
        self._reversed: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}
        self._stones: dict[int, int] = {}

    def _put(self, code: int, true: int, false: int, value: int) -> int:
        self._reversed.append((code, true, false, value))
        if len(self._reversed) > MAX_INSTRUCTIONS:
            raise Unsupported(
                f"seccomp: the profile needs more than {MAX_INSTRUCTIONS} instructions",
                hint="use fewer argument conditions or fewer architectures",
            )
        return len(self._reversed)

    def finish(self, value: int) -> int:
        """The label of an instruction that ends the program with `value`."""
        label = self._returns.get(value)
        if label is None or len(self._reversed) - label > REACH:
            label = self._returns[value] = self._put(RETURN, 0, 0, value)
        return label

    def load(self, offset: int, then: int) -> int:
        """Load the word at `offset` of struct seccomp_data and go on at `then`."""
        self._follow(then)
        return self._put(LOAD, 0, 0, offset)

    def mask(self, mask: int, then: int) -> int:
        """Keep the bits of `mask` and go on at `then`."""
        self._follow(then)
        return self._put(AND, 0, 0, mask)

    def branch(self, code: int, value: int, true: int, false: int) -> int:
        """Compare by `code` (JEQ, JGT, JGE) and go on at `true` or `false`."""
        if true == false:
            return true
        true, false = self._near(true), self._near(false)
        here = len(self._reversed)
        return self._put(code, here - true, here - false, value)

    def _follow(self, label: int) -> None:
        """See that `label` is what the next instruction written falls through to."""
        here = len(self._reversed)
        if label != here:
            self._put(JUMP, 0, 0, here - label)

    def _near(self, label: int) -> int:
        """A label within reach that leads to `label`."""
        here = len(self._reversed)
        if here - label <= REACH:
            return label
        stone = self._stones.get(label)
        if stone is None or here - stone > REACH:
            code, _, _, value = self._reversed[label - 1]
            if code == RETURN:
                return self.finish(value)
            stone = self._stones[label] = self._put(JUMP, 0, 0, here - label)
        return stone

    def program(self, *, big_endian: bool) -> bytes:
        """The whole program as struct sock_filter[]."""
        order = ">" if big_endian else "<"
        pack = struct.Struct(order + "HBBI").pack
        return b"".join([pack(*one) for one in reversed(self._reversed)])
