"""`imgtools info`: what this host lets containers do, what is chosen, and what would have to
change for better."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.engine_host import locate_store, probe_options, search_path
from imgtools.cli.output import flush, write_lines, write_text
from imgtools.cli.state import Cli
from imgtools.errors import Error

if TYPE_CHECKING:
    from engine.network.model import NetworkFacts
    from engine.probe.model import Report


@verb("info", short_help="Show what this host lets containers do.")
@click.option(
    "--format", "-f", "template", metavar="FORMAT", help='"json" or a Go template over the JSON.'
)
@click.option(
    "--isolation",
    metavar="KIND",
    help="Say whether KIND works: root, userns, ranges, single, chroot or none.",
)
@go_bool("--refresh", help="Try everything anew, whatever is remembered.")
@click.pass_obj
def command(cli: Cli, /, template: str | None, isolation: str | None, refresh: bool) -> None:
    """Show what was found out about this host by trying it: which isolation containers get
    and why not a stronger one, what would have to change for better, and every single attempt.

    Results are remembered until the next boot, or until something that they depend on changes.
    """
    from engine.network.survey import survey_network
    from engine.probe.survey import probe_host
    from imgtools.inspect.text import json_text, printable

    env = dict(os.environ)
    store = locate_store(env)
    options = probe_options(cli.settings, env, store.location.root, fresh=refresh)
    report = probe_host(options, isolation)
    network = survey_network(search_path(env), join_problem=report.probe("join-namespaces").why)
    value = document(report, network)
    value["storage"] = {
        "graphRoot": store.location.root,
        "runRoot": store.location.runroot,
        **_driver(report, store.location.driver),
        "warnings": list(store.warnings),
    }
    if template is None:
        write_lines(printable(line) for line in text_lines(value))
    elif template == "json":
        write_text(json_text(value) + "\n")
    else:
        from imgtools.cli.gotemplate import render_report

        write_text(render_report(template, value, name="imgtools info"))
    flush()


def _driver(report: Report, wanted: str) -> dict[str, str]:
    """The storage driver, and why: overlay where it works on the store's file system."""
    probe = report.probe("overlay-storage")
    if wanted:
        return {"driver": wanted, "why": "asked for"}
    if probe.works:
        return {"driver": "overlay", "why": f"overlay works here ({probe.detail})"}
    return {"driver": "flat", "why": probe.why}


def document(report: Report, network: NetworkFacts) -> dict[str, Any]:
    """The JSON document: facts by topic, the isolation that is chosen, and every probe."""
    from imgtools import __version__

    choice = report.choice
    return {
        "version": __version__,
        **report.facts,
        "isolation": {
            "kind": choice.kind,
            "rung": choice.rung,
            "why": choice.why,
            "rootChange": choice.root_change,
            "proc": choice.proc,
            "pidNamespace": choice.pid_namespace,
            "emulation": choice.emulation,
            "rejected": [
                {"kind": r.kind, "why": r.why, "remedy": r.remedy} for r in choice.rejected
            ],
            "improve": list(choice.improve),
        },
        "network": _network(network),
        "probes": {
            p.name: {
                "works": p.works,
                "detail": p.detail,
                "step": p.step,
                "errno": p.errno,
                "why": p.why,
                "remedy": p.remedy,
            }
            for p in report.probes
        },
        "remembered": report.cached,
    }


def _network(facts: NetworkFacts) -> dict[str, str]:
    """The default network, or why there is none."""
    from engine.network.plan import prepare_network

    try:
        plan = prepare_network(None, facts)
    except Error as e:
        return {"default": "", "why": e.message, "remedy": e.hint or ""}
    return {"default": plan.mode, "why": plan.why, "remedy": ""}


def text_lines(value: dict[str, Any]) -> Iterator[str]:
    """The document for people."""
    chosen = value["isolation"]
    yield f"imgtools {value['version']} on {value['host']['kernel']} {value['host']['machine']}"
    yield ""
    yield f"isolation: {chosen['kind']} ({_rung(chosen['rung'])}): {chosen['why']}"
    yield from (
        f"  {label}: {chosen[key]}"
        for label, key in (("root by", "rootChange"), ("/proc", "proc"), ("ids", "emulation"))
        if chosen[key] not in ("", "none")
    )
    yield from (f"  not {r['kind']}: {r['why']}" for r in chosen["rejected"])
    yield from (f"  for better: {remedy}" for remedy in chosen["improve"])
    storage, network = value["storage"], value["network"]
    yield f"storage: {storage['driver']} in {storage['graphRoot']}: {storage['why']}"
    yield from (f"  warning: {text}" for text in storage["warnings"])
    yield f"network: {network['default'] or 'none'}: {network['why']}"
    if network["remedy"]:
        yield f"  for better: {network['remedy']}"
    for topic in ("host", "process", "ids", "limits", "cgroups", "helpers"):
        yield f"{topic}:"
        yield from (f"  {name}: {text}" for name, text in value[topic].items() if text)
    yield f"probes{' (remembered)' if value['remembered'] else ''}:"
    yield from (_probe_line(name, probe) for name, probe in value["probes"].items())


def _rung(rung: str) -> str:
    return "no rung of the ladder" if rung == "none" else f"rung {rung}"


def _probe_line(name: str, probe: dict[str, Any]) -> str:
    if probe["works"]:
        return f"  yes  {name}{': ' + probe['detail'] if probe['detail'] else ''}"
    return f"  no   {name}: {probe['why']}" + (f" ({probe['remedy']})" if probe["remedy"] else "")
