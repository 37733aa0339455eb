"""A machine that runs the few AArch64 instructions that the trampoline is written in.

Each is decoded as the architecture's manual has it (C4, "A64 instruction set encoding"); what
is not known here ends the run, so a wrong byte cannot pass for another instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

MASK64, MASK32 = (1 << 64) - 1, (1 << 32) - 1
SP, ZR = 31, 31

SystemCall = Callable[[int, list[int]], int]


class Ended(Exception):
    """The program is over: by an instruction that is a trap, or by a system call."""


class Machine:
    """Memory as segments of bytes, 31 registers, the stack pointer, and flags."""

    def __init__(self, segments: dict[int, bytes], stack: int, call: SystemCall) -> None:
        self._segments = segments
        self._call = call
        self._stack = stack
        self._registers = [0] * 32
        self._less = self._equal = False

    def read(self, address: int, size: int) -> int:
        """A little-endian number."""
        for start, content in self._segments.items():
            if start <= address and address + size <= start + len(content):
                return int.from_bytes(content[address - start :][:size], "little")
        raise AssertionError(f"{address:#x} is not mapped")

    def text(self, address: int, size: int = 1 << 20) -> bytes:
        """The bytes up to a NUL or `size`."""
        found = b""
        while len(found) < size and (byte := self.read(address + len(found), 1)):
            found += bytes((byte,))
        return found

    def run(self, address: int) -> None:
        """Run from `address` until Ended is raised."""
        for _ in range(10000):
            address = self._step(address, self.read(address, 4))
        raise AssertionError("the program does not end")

    def _step(self, at: int, word: int) -> int:
        for step in (self._branch, self._immediate, self._load, self._register):
            following = step(at, word)
            if following is not None:
                return following
        raise AssertionError(f"{word:#010x} at {at:#x} is not known")

    def _get(self, number: int, *, stack: bool = False) -> int:
        return self._stack if stack and number == SP else self._registers[number]

    def _set(self, number: int, value: int, wide: int) -> None:
        if number != ZR:
            self._registers[number] = value & (MASK64 if wide else MASK32)

    def _branch(self, at: int, word: int) -> int | None:
        wide = word >> 31
        if word >> 26 == 0b000101:
            return at + 4 * _signed(word & (1 << 26) - 1, 26)
        if word >> 24 == 0x54 and not word & 0x10:
            holds = {0: self._equal, 1: not self._equal, 3: self._less,
                     9: self._less or self._equal}[word & 15]  # fmt: skip
            return at + 4 * (_signed(word >> 5 & 0x7FFFF, 19) if holds else 1)
        if word >> 25 & 0x3F == 0b011010:
            value = self._get(word & 31) & (MASK64 if wide else MASK32)
            taken = (value != 0) if word >> 24 & 1 else (value == 0)
            return at + 4 * (_signed(word >> 5 & 0x7FFFF, 19) if taken else 1)
        if word == 0xD4000001:
            result = self._call(self._registers[8], self._registers[:6])
            self._set(0, result, 1)
            return at + 4
        if word & 0xFFE0001F == 0xD4200000:
            raise Ended("brk")
        return None

    def _immediate(self, at: int, word: int) -> int | None:
        wide, target, source = word >> 31, word & 31, word >> 5 & 31
        operation = word >> 23 & 0x3F
        if operation == 0b100101 and word >> 29 & 3 in (2, 3):
            shift, value = word >> 21 & 3, word >> 5 & 0xFFFF
            kept = self._get(target) & ~(0xFFFF << 16 * shift) if word >> 29 & 1 else 0
            self._set(target, kept | value << 16 * shift, wide)
            return at + 4
        if operation == 0b100010 and word >> 29 & 3 in (0, 3):
            value = word >> 10 & 0xFFF
            assert not word >> 22 & 1
            left = self._get(source, stack=True)
            if word >> 30 & 1:
                self._compare(left, value, wide)
                self._set(target, left - value, wide)
            else:
                assert target != SP
                self._set(target, left + value, wide)
            return at + 4
        return None

    def _load(self, at: int, word: int) -> int | None:
        target, base, offset = word & 31, word >> 5 & 31, word >> 10 & 0xFFF
        if word >> 22 in (0b1111100101, 0b1011100101):
            size = 8 if word >> 30 & 1 else 4
            self._set(target, self.read(self._get(base, stack=True) + offset * size, size), 1)
            return at + 4
        if word >> 21 == 0b00111000010 and word >> 10 & 3 == 1:
            address = self._get(base)
            self._set(target, self.read(address, 1), 0)
            self._set(base, address + _signed(word >> 12 & 0x1FF, 9), 1)
            return at + 4
        return None

    def _register(self, at: int, word: int) -> int | None:
        wide, target, left, right = word >> 31, word & 31, word >> 5 & 31, word >> 16 & 31
        kind, shift = word >> 24 & 0x1F, word >> 10 & 0x3F
        assert word >> 22 & 3 == 0 or kind == 0b11011
        value = self._get(right) << shift
        if kind == 0b01011 and not word >> 21 & 1:
            if word >> 29 & 3 == 3:
                self._compare(self._get(left), value, wide)
            sign = -1 if word >> 30 & 1 else 1
            self._set(target, self._get(left) + sign * value, wide)
            return at + 4
        if word >> 24 & 0x7F == 0b0101010 and not word >> 21 & 1:
            self._set(target, self._get(left) | value, wide)
            return at + 4
        if word >> 21 & 0x3FF == 0b0011011000 and not word >> 15 & 1:
            product = self._get(left) * self._get(right)
            self._set(target, product + self._get(word >> 10 & 31), wide)
            return at + 4
        return None

    def _compare(self, left: int, right: int, wide: int) -> None:
        mask = MASK64 if wide else MASK32
        self._less, self._equal = left & mask < right & mask, left & mask == right & mask


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def stack_with(address: int, arguments: list[bytes], environment: list[bytes]) -> bytes:
    """The stack of a program that has just been executed, without auxiliary vector."""
    count = len(arguments) + len(environment) + 3
    texts, pointers = b"", []
    for item in (*arguments, *environment):
        pointers.append(address + 8 * count + len(texts))
        texts += item + b"\0"
    first, rest = pointers[: len(arguments)], pointers[len(arguments) :]
    numbers = (len(arguments), *first, 0, *rest, 0)
    return struct.pack(f"<{count}Q", *numbers) + texts.ljust(len(texts) + 8, b"\0")
