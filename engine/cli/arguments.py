"""Reads command lines as runc's and crun's users write them, from tables of options.

`--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`, `-abc` for switches, `--` to
end; a switch may be given a truth value (`--tty=false`). No argparse: it takes longer to load
than a container takes to start.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TRUE = ("1", "t", "true", "yes")
FALSE = ("0", "f", "false", "no")
MAX_INTEGER = (1 << 31) - 1


class Option(Record):
    """An option: its long name, its letter, what its value is called (empty for a switch).

    One with `refusal` is known to other runtimes and cannot be honoured here: that is why.
    """

    name: str
    letter: str = ""
    value: str = ""
    help: str = ""
    refusal: str = ""


class Syntax(Record):
    """What may follow a command's name.

    `options_first` ends the options at the first argument, so that what follows belongs to a
    command in the container. `maximum` None is any number of arguments.
    """

    usage: str
    description: str
    options: tuple[Option, ...] = ()
    minimum: int = 0
    maximum: int | None = 0
    options_first: bool = False


class Arguments:
    """What was given: options with their values in order, and the other arguments."""

    def __init__(self) -> None:
        self.options: dict[str, list[str]] = {}
        self.positional: list[str] = []
        self.help = False

    def flag(self, name: str) -> bool:
        """Whether a switch is on; the last one counts."""
        return self.options.get(name, ["false"])[-1] == "true"

    def given(self, name: str) -> bool:
        """Whether an option was there at all."""
        return name in self.options

    def text(self, name: str, default: str = "") -> str:
        """The last value of an option."""
        return self.options.get(name, [default])[-1]

    def texts(self, name: str) -> list[str]:
        """All values of an option."""
        return self.options.get(name, [])

    def count(self, name: str) -> int:
        """The value of an option that counts something, 0 if it was not given; raises
        InvalidConfig."""
        value = self.text(name)
        return decimal(value, f"option --{name}", MAX_INTEGER) if value else 0


def decimal(text: str, name: str, maximum: int) -> int:
    """The number that `text` writes in decimal digits, without sign or leading zero.

    Raises InvalidConfig calling it `name`. Stricter than int(): what is "+0", "0x0" or empty
    somewhere else must not turn into root here.
    """
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(maximum))
    if not plain or (len(text) > 1 and text[0] == "0") or int(text) > maximum:
        raise InvalidConfig(f"{name}: expected a number from 0 to {maximum}, got {text!r}")
    return int(text)


def parse_arguments(syntax: Syntax, words: Sequence[str]) -> Arguments:
    """What `words` say; raises InvalidConfig for what `syntax` does not have.

    With --help among the options nothing else is checked. The number of arguments is the
    caller's to check (`check_count`).
    """
    return _Parser(syntax).parse(list(words))


def check_count(command: str, syntax: Syntax, arguments: Arguments) -> None:
    """Raises InvalidConfig if there are too many or too few arguments."""
    number, minimum, maximum = len(arguments.positional), syntax.minimum, syntax.maximum
    if number < minimum or (maximum is not None and number > maximum):
        if minimum == maximum:
            wanted = f"exactly {minimum} argument(s)"
        elif number < minimum:
            wanted = f"a minimum of {minimum} argument(s)"
        else:
            wanted = f"a maximum of {maximum} argument(s)"
        raise InvalidConfig(
            f'"{command}" requires {wanted}', hint=f"usage: imgtools-runtime {syntax.usage}"
        )


class _Parser:
    def __init__(self, syntax: Syntax) -> None:
        self.syntax = syntax
        self.result = Arguments()

    def parse(self, words: list[str]) -> Arguments:
        words.reverse()
        while words:
            word = words.pop()
            if word == "--":
                self.result.positional.extend(reversed(words))
                break
            if word.startswith("--"):
                self.long(word[2:], words)
            elif word.startswith("-") and len(word) > 1:
                self.short(word[1:], words)
            else:
                self.result.positional.append(word)
                if self.syntax.options_first:
                    self.result.positional.extend(reversed(words))
                    break
            if self.result.help:
                break
        return self.result

    def long(self, word: str, rest: list[str]) -> None:
        name, sign, value = word.partition("=")
        if name == "help":
            self.result.help = True
            return
        option = self.find(name)
        if option is None:
            raise InvalidConfig(f"unknown option --{name}", hint=self.hint())
        self.store(option, value if sign else None, f"--{name}", rest)

    def short(self, word: str, rest: list[str]) -> None:
        # A single hyphen before a long name is how Go's flags may be written.
        if len(word) > 1 and self.find(word.partition("=")[0]) is not None:
            self.long(word, rest)
            return
        while word:
            letter, word = word[0], word[1:]
            if letter in "h?":
                self.result.help = True
                return
            option = next((o for o in self.syntax.options if o.letter == letter), None)
            if option is None:
                raise InvalidConfig(f"unknown option -{letter}", hint=self.hint())
            if option.value or word.startswith("="):
                self.store(option, word.removeprefix("=") if word else None, f"-{letter}", rest)
                return
            self.store(option, None, f"-{letter}", rest)

    def store(self, option: Option, value: str | None, written: str, rest: list[str]) -> None:
        if option.refusal:
            raise InvalidConfig(f"option {written}: {option.refusal}")
        if not option.value:
            value = _truth("true" if value is None else value, written)
        elif value is None:
            if not rest:
                raise InvalidConfig(f"option {written} needs a value", hint=self.hint())
            value = rest.pop()
        if "\0" in value:
            raise InvalidConfig(f"option {written}: contains a NUL character")
        self.result.options.setdefault(option.name, []).append(value)

    def find(self, name: str) -> Option | None:
        return next((o for o in self.syntax.options if o.name == name), None)

    def hint(self) -> str:
        return f"usage: imgtools-runtime {self.syntax.usage}"


def _truth(value: str, written: str) -> str:
    if value.lower() in TRUE:
        return "true"
    if value.lower() in FALSE:
        return "false"
    raise InvalidConfig(f"option {written}: expected true or false, got {value!r}")
