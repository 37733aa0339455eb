"""A Config can be written as the document that it was read from, and every property counts."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings

from engine.runtime.jsontext import encode, parse
from engine.runtime.record import Record
from engine.runtime.spec import model
from engine.runtime.spec.document import to_document
from engine.runtime.spec.parse import parse_config, parse_process, parse_resources
from tests.engine import spec_documents

SLOW = settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)


@SLOW
@given(spec_documents.configs)
def test_config_survives_being_written(document: dict[str, Any]) -> None:
    """Through JSON, and once written it is written the same again."""
    config = parse_config(document)
    written = to_document(config)
    content = encode(written).encode()
    assert json.loads(content) == written
    assert parse_config(parse(content, "config.json")) == config
    assert to_document(parse_config(written)) == written


@SLOW
@given(spec_documents.processes)
def test_process_survives_being_written(document: dict[str, Any]) -> None:
    """process.json."""
    process = parse_process(document)
    assert parse_process(to_document(process)) == process


@SLOW
@given(spec_documents.resources)
def test_resources_survive_being_written(document: dict[str, Any]) -> None:
    """What `update` is given."""
    resources = parse_resources(document)
    assert parse_resources(to_document(resources)) == resources


def records(value: object) -> list[Record]:
    """All records within `value`."""
    if isinstance(value, Record):
        inner = [one for field in value._fields for one in records(getattr(value, field))]
        return [value, *inner]
    return [one for part in value for one in records(part)] if isinstance(value, tuple) else []


def test_every_property_is_read_and_written() -> None:
    """So that none of the model's fields is one that nobody fills."""
    config = parse_config(spec_documents.EVERYTHING)
    assert to_document(config) == spec_documents.EVERYTHING
    found = {
        (type(record).__name__, field)
        for record in records(config)
        for field in record._fields
        if field in record._required or getattr(record, field) != getattr(type(record), field)
    }
    kinds = [
        kind
        for kind in vars(model).values()
        if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
    ]
    every = {(kind.__name__, field) for kind in kinds for field in kind._fields}
    # The specification defines no flags of personalities, and those of schedulers exclude each
    # other.
    others = {("Scheduler", "nice"), ("Scheduler", "priority")}
    assert every - found == {("Personality", "flags"), *others}
    for policy, name in (("SCHED_OTHER", "nice"), ("SCHED_RR", "priority")):
        document = {"args": ["a"], "cwd": "/", "scheduler": {"policy": policy, name: 5}}
        assert to_document(parse_process(document)) == document
