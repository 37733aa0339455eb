"""Probes the host: reads the facts, tries each kind of isolation, then tries everything else
inside the strongest one, and remembers the results."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace

from engine.ids.model import IdFacts, IdMode, IdOptions
from engine.ids.plan import plan_id_maps
from engine.ids.session import enter
from engine.ids.survey import survey_ids
from engine.probe import cache
from engine.probe.attempt import attempt, attempt_inside
from engine.probe.choose import choose_isolation
from engine.probe.host import Facts, survey_host
from engine.probe.isolation import isolation_trials, private_mounts
from engine.probe.kernel import kernel_trials
from engine.probe.model import Choice, Probe, ProbeOptions, Report
from engine.probe.namespaces import namespace_trials
from engine.probe.overlay import TRIAL_DIRECTORY, overlay_trials

NETWORK_HELPERS = (("pasta", "passt"), ("slirp4netns", "slirp4netns"))


def probe_host(options: ProbeOptions, asked: str | None = None) -> Report:
    """Everything about this host; `asked` is the isolation the user wants, if any.

    Takes some 300 ms, or 3 ms where the results are remembered. Errors are those of
    `choose_isolation`, and StorageError without a procfs.
    """
    id_options = IdOptions(subuid=options.subuid, subgid=options.subgid, path=options.path)
    ids = survey_ids(id_options)
    facts = survey_host(ids, options.path)
    storage = existing_directory(options.storage)
    name = cache.fingerprint(facts, storage_device=os.stat(storage).st_dev, version=options.version)
    found = None
    if options.cache_dir is not None and not options.fresh:
        found = cache.load(options.cache_dir, name)
    cached = found is not None
    if found is None:
        found = _try_all(ids, id_options, storage, facts, options.seconds)
        if options.cache_dir is not None:
            cache.save(options.cache_dir, name, found)
    return Report(facts=facts, probes=found, choice=choose_isolation(found, asked), cached=cached)


def existing_directory(path: str) -> str:
    """`path`, or the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _try_all(
    ids: IdFacts, id_options: IdOptions, storage: str, facts: Facts, seconds: float
) -> tuple[Probe, ...]:
    kinds = isolation_trials(ids, id_options)
    isolation = tuple(attempt(name, trial, seconds=seconds) for name, trial in kinds)
    kernel = tuple(attempt(name, trial, seconds=seconds) for name, trial in kernel_trials())
    choice = choose_isolation(isolation + kernel)
    scratch, problem = _scratch(storage)
    try:
        if scratch:
            os.chmod(scratch, 0o777)
        trials = [*namespace_trials(scratch or storage), *overlay_trials(scratch)]
        inside = attempt_inside(_entering(choice, ids, id_options), trials, seconds=seconds)
    finally:
        if scratch:
            _remove_inside(choice, ids, id_options, scratch, seconds)
    if problem:
        inside = tuple(_spoilt(p, problem) if p.name == "overlay-storage" else p for p in inside)
    network = _network_probes(facts, kernel, inside)
    return isolation + inside + kernel + network


def _scratch(storage: str) -> tuple[str, str]:
    """An empty directory on the storage's file system, or why there is none."""
    try:
        return tempfile.mkdtemp(prefix=TRIAL_DIRECTORY, dir=storage), ""
    except OSError as e:
        return "", f"{storage}: {(e.strerror or str(e)).lower()}"


def _spoilt(probe: Probe, why: str) -> Probe:
    return replace(
        probe, works=False, why=why, remedy="choose a storage directory that is writable"
    )


def _entering(choice: Choice, ids: IdFacts, options: IdOptions) -> Callable[[], None]:
    """What moves a child into the chosen isolation."""

    def move() -> None:
        if choice.kind in ("ranges", "single"):
            mode: IdMode = "ranges" if choice.kind == "ranges" else "single"
            enter(plan_id_maps(ids, mode), ids, options)
        elif choice.kind == "root":
            private_mounts()

    return move


def _remove_inside(
    choice: Choice, ids: IdFacts, options: IdOptions, scratch: str, seconds: float
) -> None:
    """Remove the trials' files as whoever made them, then the directory as ourselves."""

    def removing() -> str:
        shutil.rmtree(scratch, ignore_errors=True)
        return ""

    attempt_inside(_entering(choice, ids, options), [("remove", removing)], seconds=seconds)
    shutil.rmtree(scratch, ignore_errors=True)


def _network_probes(
    facts: Facts, kernel: tuple[Probe, ...], inside: tuple[Probe, ...]
) -> tuple[Probe, ...]:
    """Whether pasta and slirp4netns can work: installed, with a tun device, and able to enter
    the container's network namespace."""
    by_name = {probe.name: probe for probe in kernel + inside}
    found = []
    for name, package in NETWORK_HELPERS:
        path = facts["helpers"][name]
        lacking = [
            by_name[needed]
            for needed in ("tun", "network-namespace", "join-namespaces")
            if not by_name[needed].works
        ]
        if not path.startswith("/"):
            probe = Probe(
                name=name, works=False, why=f"{name} is not installed", remedy=f"install {package}"
            )
        elif lacking:
            probe = replace(lacking[0], name=name)
        else:
            probe = Probe(name=name, works=True, detail=path)
        found.append(probe)
    return tuple(found)
