"""Applies a source policy to what a build names: images, URLs and repositories, in contexts, FROM,
--from and ADD. A directory of this machine is no source of that kind."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlencode, urlsplit

from imgtools.build.contexts.classify import ContextKind, classify
from imgtools.build.contexts.git_source import parse_git
from imgtools.build.options import BuildOptions
from imgtools.build.planning.model import CopyFrom, CopyWork, GitFrom, StagePlan, Step, UrlFrom
from imgtools.build.source_policy import SourceName, SourcePolicy, with_attribute
from imgtools.errors import Error, InvalidReference, Unsupported
from imgtools.spec.reference import Reference

IMAGE = "docker-image://"
GIT = "git://"
# What of a repository's query says nothing about which commit is meant.
_KEPT = ("submodules", "keep-git-dir", "mtime")


def admitted_options(options: BuildOptions) -> BuildOptions:
    """`options` with contexts and Containerfiles that are URLs as the policy wants them."""
    policy = options.source_policy
    if policy is None:
        return options
    return replace(
        options,
        context=_context(policy, options.context),
        files=tuple(_context(policy, name) for name in options.files),
        contexts=tuple(
            replace(each, value=_context(policy, each.value)) for each in options.contexts
        ),
    )


def _context(policy: SourcePolicy, value: str) -> str:
    kind = classify(value) if value else None
    if kind is ContextKind.GIT and "://" in value:
        return admitted_git(policy, value, "")[0]
    return admitted_url(policy, value, "")[0] if kind is ContextKind.HTTP else value


def admitted_image(policy: SourcePolicy | None, name: str) -> str:
    """The image to use where `name` is asked for: a reference, or TRANSPORT:REST. Raises
    Rejected, Unsupported."""
    if policy is None:
        return name
    before = IMAGE + _full(name.removeprefix("docker://"))
    after = policy.admitted(SourceName(identifier=before)).identifier
    if after == before:
        return name
    if not after.startswith(IMAGE):
        raise _changed(before, after)
    return after.removeprefix(IMAGE)


def _full(name: str) -> str:
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return name
    if reference.digest is None and not reference.tag:
        return str(reference.with_tag("latest"))
    return str(reference)


def admitted_url(policy: SourcePolicy, url: str, checksum: str) -> tuple[str, str]:
    """The URL to fetch, and the digest that it has to have ("" for none), where `url` with
    `checksum` is asked for. Raises Rejected, Unsupported."""
    before = with_attribute(SourceName(identifier=url), "http.checksum", checksum)
    after = policy.admitted(before)
    if not after.identifier.startswith(("http://", "https://")):
        raise _changed(url, after.identifier)
    _check_attributes(before, after, ("http.checksum",))
    return after.identifier, after.attributes.get("http.checksum", "")


def admitted_git(policy: SourcePolicy, url: str, checksum: str) -> tuple[str, str]:
    """The repository to use, and what its commit has to begin with, where `url` with `checksum`
    is asked for. Its identifier is `git://HOST/PATH#REF:SUBDIR`, however it is reached, and
    `git.fullurl` says how. Raises Rejected, Unsupported, InvalidInput."""
    source = parse_git(url)
    place = source.remote.partition("://")[2] or source.remote.replace(":", "/", 1)
    fragment = source.ref + (f":{source.subdir}" if source.subdir else "")
    before = SourceName(
        identifier=f"{GIT}{place}" + (f"#{fragment}" if fragment else ""),
        attributes={"git.fullurl": source.remote},
    )
    before = with_attribute(before, "git.checksum", checksum or source.checksum)
    after = policy.admitted(before)
    if after == before:
        return url, checksum
    if not after.identifier.startswith(GIT):
        raise _changed(before.identifier, after.identifier)
    _check_attributes(before, after, ("git.fullurl", "git.checksum"))
    new, _, wanted = after.identifier.removeprefix(GIT).partition("#")
    remote = after.attributes["git.fullurl"]
    if remote == source.remote and new != place:
        scheme = urlsplit(url).scheme
        remote = f"{scheme}://{new}" if scheme else new.replace("/", ":", 1)
    elif remote == source.remote:
        remote = url.partition("#")[0].partition("?")[0]
    kept = [(key, text) for key, text in parse_qsl(_query(url), True) if key in _KEPT]
    query = f"?{urlencode(kept)}" if kept else ""
    found = remote + query + (f"#{wanted}" if wanted else "")
    return found, after.attributes.get("git.checksum", "")


def _query(url: str) -> str:
    return url.partition("#")[0].partition("?")[2]


def admitted_plan(policy: SourcePolicy | None, plan: StagePlan) -> StagePlan:
    """`plan` with the sources of ADD as the policy wants them. Raises Rejected, with the place of
    the instruction."""
    if policy is None:
        return plan
    return replace(plan, steps=tuple(_step(policy, step) for step in plan.steps))


def _step(policy: SourcePolicy, step: Step) -> Step:
    work = step.work
    if not isinstance(work, CopyWork):
        return step
    try:
        sources: list[CopyFrom] = []
        for source in work.sources:
            if isinstance(source, UrlFrom):
                url, checksum = admitted_url(policy, source.url, work.checksum)
                source = UrlFrom(url=url)
            elif isinstance(source, GitFrom):
                url, checksum = admitted_git(policy, source.url, work.checksum)
                source = GitFrom(url=url)
            else:
                checksum = work.checksum
            if checksum != work.checksum and len(work.sources) > 1:
                raise Unsupported("the source policy gives one of several sources a checksum")
            work = replace(work, checksum=checksum)
            sources.append(source)
    except Error as e:
        place = step.instruction.location
        raise e.with_context(f"{place.file}:{place.first}") from e.__cause__
    return replace(step, work=replace(work, sources=tuple(sources)))


def _changed(before: str, after: str) -> Unsupported:
    return Unsupported(
        f"the source policy makes {after} of {before}, which is something else",
        hint="images become images, URLs become URLs, and repositories repositories",
    )


def _check_attributes(before: SourceName, after: SourceName, known: tuple[str, ...]) -> None:
    for key, text in after.attributes.items():
        if key not in known and before.attributes.get(key) != text:
            raise Unsupported(f"the source policy sets {key}, which has no effect here")
