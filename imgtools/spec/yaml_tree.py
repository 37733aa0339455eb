"""YAML as a tree of texts: nothing is made of a scalar but what was written.

A tag `1.10` is no number here. Size, depth and the number of nodes, those that aliases
repeat included, are bounded; a key that comes twice is an error. The YAML parser is imported
when a file is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imgtools.errors import InvalidInput, LimitExceeded
from imgtools.frozen import dataclass

_DEEPEST = 32
_MOST_NODES = 200_000
_NULL = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar as its text, a list, or a mapping in the order of the file.

    `line` counts from 1; `nodes` is how many nodes there are in it, itself included.
    """

    value: str | list[Node] | dict[str, Node]
    line: int
    nodes: int = 1
    is_null: bool = False


def parse_yaml(content: bytes, name: str) -> Node | None:
    """The only document in `content`, None when there is none; `name` is for messages.

    Raises InvalidInput for what is not YAML, a key that comes twice or is no text, an alias
    without anchor, a merge key, or a second document; and LimitExceeded.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(name, yaml.parse(content, Loader=loader), yaml).document()
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark is not None else 0
        raise InvalidInput(f"{name}:{line}: {e.problem or e.context}") from e
    except (yaml.YAMLError, UnicodeError) as e:
        raise InvalidInput(f"{name}: {' '.join(str(e).split())}") from e


class _Builder:
    """Makes the tree from the parser's events."""

    def __init__(self, name: str, events: Iterator[Any], yaml: Any) -> None:
        self.name, self.events, self.yaml = name, events, yaml
        self.anchors: dict[str, Node] = {}
        self.nodes = 0

    def document(self) -> Node | None:
        """The document that the events tell of."""
        found: list[Node] = []
        for event in self.events:
            if isinstance(event, self.yaml.DocumentStartEvent):
                if found:
                    raise self._error(event, "a second document")
                found.append(self._node(next(self.events), 0))
        return found[0] if found else None

    def _node(self, event: Any, depth: int) -> Node:
        if depth > _DEEPEST:
            raise LimitExceeded(f"{self.name}: the nesting", _DEEPEST, unit="levels")
        line = event.start_mark.line + 1
        if isinstance(event, self.yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._error(event, f"alias {event.anchor!r} has no anchor before it")
            node = self.anchors[event.anchor]
            self._count(node.nodes)
            return node
        self._count(1)
        if isinstance(event, self.yaml.ScalarEvent):
            plain = event.implicit[0] and not event.style
            node = Node(event.value, line, is_null=plain and event.value in _NULL)
        elif isinstance(event, self.yaml.SequenceStartEvent):
            items = list(self._items(self.yaml.SequenceEndEvent, depth))
            node = Node(items, line, 1 + sum(item.nodes for item in items))
        else:
            entries = self._mapping(depth)
            node = Node(entries, line, 1 + sum(1 + entry.nodes for entry in entries.values()))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _items(self, end: type, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self.events), end):
            yield self._node(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), self.yaml.MappingEndEvent):
            key = self._node(event, depth + 1).value
            if not isinstance(key, str):
                raise self._error(event, "a key that is no text")
            if key == "<<":
                raise self._error(event, "merge keys (<<) are not supported")
            if key in entries:
                raise self._error(event, f"key {key!r} comes twice")
            entries[key] = self._node(next(self.events), depth + 1)
        return entries

    def _count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > _MOST_NODES:
            raise LimitExceeded(f"{self.name}: with its aliases it", _MOST_NODES, unit="nodes")

    def _error(self, event: Any, reason: str) -> InvalidInput:
        return InvalidInput(f"{self.name}:{event.start_mark.line + 1}: {reason}")
