"""Source policies: which images and URLs a build may use, and which others it uses instead.

The file and its meaning are BuildKit's (sourcepolicy/pb/policy.proto): rules that allow, deny or
convert what they match; of those that allow or deny the last one that matches counts, and what is
converted is looked at again by all rules. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidInput, Rejected
from imgtools.frozen import dataclass

MOST_CONVERSIONS = 20
_ACTIONS = ("ALLOW", "DENY", "CONVERT")
_KINDS = ("WILDCARD", "EXACT", "REGEX")
_CONDITIONS = ("EQUAL", "NOTEQUAL", "MATCHES")
# Go's regexp.Expand: the longest name of letters, digits and underscores, or what is in braces.
_TEMPLATE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceName:
    """A source as policies see it: `docker-image://...`, `https://...` or `git://...`, and what
    else is known of it, such as `http.checksum`."""

    identifier: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What an attribute has to be: `condition` is EQUAL, NOTEQUAL or MATCHES."""

    key: str
    value: str
    condition: str = "EQUAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: `kind` is how `identifier` matches, `updated` and `attributes` are what CONVERT
    makes of the source."""

    action: str
    identifier: str
    kind: str = "WILDCARD"
    constraints: tuple[Constraint, ...] = ()
    updated: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    def matches(self, source: SourceName) -> bool:
        """Whether the rule is about `source`."""
        if not all(_holds(constraint, source.attributes) for constraint in self.constraints):
            return False
        return self.identifier == source.identifier or self._found(source.identifier) is not None

    def converted(self, source: SourceName) -> SourceName:
        """What CONVERT makes of a source that matches; without a new name only attributes
        change."""
        now = identifier = source.identifier
        found = self._found(now)
        if self.updated and self.kind == "EXACT":
            identifier = self.updated
        elif self.updated and self.kind == "REGEX":
            identifier = re.sub(self.identifier, lambda each: _expanded(self.updated, each), now)
        elif self.updated and found is not None:
            identifier = _expanded(self.updated, found)
        attributes = {**source.attributes, **self.attributes}
        return SourceName(identifier=identifier or now, attributes=attributes)

    def _found(self, identifier: str) -> re.Match[str] | None:
        if self.kind == "EXACT":
            return None
        if self.kind == "REGEX":
            return re.search(self.identifier, identifier)
        return re.fullmatch(_wildcard(self.identifier), identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """The rules of one file, in their order."""

    rules: tuple[Rule, ...] = ()

    def admitted(self, source: SourceName) -> SourceName:
        """What is used where `source` is named. Raises Rejected for one that is denied,
        InvalidInput where rules convert it for ever."""
        for _ in range(MOST_CONVERSIONS + 1):
            changed = self._once(source)
            if changed == source:
                return source
            source = changed
        raise InvalidInput(f"source policy: {source.identifier} is converted again and again")

    def _once(self, source: SourceName) -> SourceName:
        denied = False
        for rule in self.rules:
            if not rule.matches(source):
                continue
            if rule.action != "CONVERT":
                denied = rule.action == "DENY"
                continue
            changed = rule.converted(source)
            if changed != source:
                return changed
        if denied:
            raise Rejected(f"the source policy denies {source.identifier}")
        return source


def parse_policy(text: str, name: str) -> SourcePolicy:
    """The policy in a file's `text`; `name` is for messages. Raises InvalidInput."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InvalidInput(f"source policy {name} is not JSON: {e}") from e
    try:
        document = _object(value, "the file", ("version", "rules"))
        version = document.get("version", 1)
        if version not in (0, 1):
            raise InvalidInput(f"version {version!r} is not known, expected 1")
        rules = tuple(_rule(each) for each in _list(document.get("rules"), "rules"))
    except InvalidInput as e:
        raise e.with_context(f"source policy {name}") from None
    return SourcePolicy(rules=rules)


def _rule(value: Any) -> Rule:
    found = _object(value, "a rule", ("action", "selector", "updates"))
    action = _word(found.get("action", "ALLOW"), "action", _ACTIONS)
    selector = _object(
        found.get("selector"), "selector",
        ("identifier", "match_type", "matchType", "constraints"),
    )  # fmt: skip
    kind = selector.get("match_type", selector.get("matchType", "WILDCARD"))
    updates = _object(found.get("updates") or {}, "updates", ("identifier", "attrs"))
    if action == "CONVERT" and not updates:
        raise InvalidInput("a rule that converts needs updates")
    attributes = _object(updates.get("attrs") or {}, "attrs", None)
    rule = Rule(
        action=action,
        identifier=_text(selector.get("identifier"), "identifier"),
        kind=_word(kind, "matchType", _KINDS),
        constraints=tuple(
            _constraint(each) for each in _list(selector.get("constraints"), "constraints")
        ),
        updated=_text(updates.get("identifier", ""), "identifier", empty=True),
        attributes=MappingProxyType(
            {key: _text(text, key, empty=True) for key, text in attributes.items()}
        ),
    )
    if rule.kind == "REGEX":
        _check_expression(rule.identifier)
    elif rule.kind == "WILDCARD" and "**" in rule.identifier:
        raise InvalidInput(f"{rule.identifier!r}: ** is no wildcard, * is")
    return rule


def _constraint(value: Any) -> Constraint:
    found = _object(value, "a constraint", ("key", "value", "condition"))
    constraint = Constraint(
        key=_text(found.get("key"), "key"),
        value=_text(found.get("value", ""), "value", empty=True),
        condition=_word(found.get("condition", "EQUAL"), "condition", _CONDITIONS),
    )
    if constraint.condition == "MATCHES":
        _check_expression(constraint.value)
    return constraint


def _object(value: Any, what: str, keys: Sequence[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what}: expected an object")
    for key in value:
        if keys is not None and key not in keys:
            raise InvalidInput(f"{what}: unexpected {key!r}, expected {', '.join(keys)}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(f"{what}: expected a list")
    return value


def _text(value: Any, what: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise InvalidInput(f"{what}: expected a text")
    return value


def _word(value: Any, what: str, words: Sequence[str]) -> str:
    """One of `words`, or its number, as protobuf's JSON has it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(words):
        return words[value]
    if value not in words:
        raise InvalidInput(f"{what} {value!r}: expected one of {', '.join(words)}")
    return str(value)


def _check_expression(text: str) -> None:
    try:
        re.compile(text)
    except re.error as e:
        raise InvalidInput(f"{text!r} is no regular expression: {e}") from e


def _holds(constraint: Constraint, attributes: Mapping[str, str]) -> bool:
    value = attributes.get(constraint.key, "")
    if constraint.condition == "MATCHES":
        return re.search(constraint.value, value) is not None
    return (value == constraint.value) == (constraint.condition == "EQUAL")


def _wildcard(text: str) -> str:
    return "(.*)".join(re.escape(part) for part in text.split("*"))


def _expanded(template: str, match: re.Match[str]) -> str:
    """Go's Expand: a group that is not there is empty."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        if name.isascii() and name.isdigit():
            number = int(name[:9])
            return (match[number] or "") if number <= (match.re.groups) else ""
        return match.groupdict().get(name) or ""

    return _TEMPLATE.sub(group, template)


def with_attribute(source: SourceName, key: str, text: str) -> SourceName:
    """`source` with one more attribute, unless `text` is ""."""
    return replace(source, attributes={**source.attributes, key: text}) if text else source
