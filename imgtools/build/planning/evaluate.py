"""Instructions of a stage to steps with everything resolved: variables expanded in the scope
that holds at their place, paths made absolute, names of sources found.

Later definitions of a variable win, be they ARG or ENV, as in BuildKit. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import (
    Add,
    Arg,
    Cmd,
    Command,
    Containerfile,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from imgtools.build.masking import without_credentials
from imgtools.build.planning import config_state as config
from imgtools.build.planning.arguments import PROXIES, QUIET, Arguments
from imgtools.build.planning.copies import add_work, copy_work, whole_context
from imgtools.build.planning.history import NOP, created_by
from imgtools.build.planning.model import (
    ContextRef,
    Stage,
    StagePlan,
    StageState,
    StandingStage,
    Step,
    Work,
    WorkdirWork,
)
from imgtools.build.planning.runs import run_work
from imgtools.build.planning.stages import refused
from imgtools.errors import InvalidInput, NotFound, Unsupported
from imgtools.frozen import dataclass

MAX_TOTAL = 16 << 20
"""Characters of all variables of a stage, and of all its labels: far more than a program can be
started with, or a registry takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What instructions of one stage are evaluated with: the file, its stages and contexts,
    all arguments, and what every RUN gets besides (`proxy` variables, `mounts` of --mount)."""

    file: Containerfile
    stages: Sequence[Stage]
    stage: Stage
    contexts: Collection[str]
    arguments: Arguments
    proxy: Mapping[str, str]
    mounts: tuple[str, ...] = ()
    allow_insecure: bool = False

    def expand(self, word: str, state: StageState) -> str:
        """A word with the variables of `state`."""
        return self.arguments.expand(word, state.variables)


def start_state(
    base: StageState | Mapping[str, Any] | None, env: Sequence[tuple[str, str]] = ()
) -> StageState:
    """The state right after FROM: of a stage (its end), of an image (its config document), or
    of nothing. `env` are variables of --env. Triggers are taken out: they are instructions of
    the new stage."""
    if isinstance(base, StageState):
        settings, variables = base.settings, dict(base.variables)
        arguments, author = base.arguments, base.author
    else:
        document = base or {}
        settings = document.get("config") or {}
        variables, arguments = config.environment(settings), {}
        author = str(document.get("author") or "")
    if "PATH" not in variables:
        variables["PATH"] = config.DEFAULT_PATH
        settings = config.with_env(settings, [("PATH", config.DEFAULT_PATH)])
    settings = config.without_triggers(settings)
    if env:
        settings = config.with_env(settings, env)
        variables.update(env)
    return StageState(settings=settings, variables=variables, arguments=arguments, author=author)


def evaluate_stage(standing: StandingStage, start: StageState, scope: Scope) -> StagePlan:
    """The steps of a stage; raises ContainerfileError."""
    state, steps = start, []
    if isinstance(standing.source, ContextRef) and standing.image is None:
        head = standing.stage.head
        history = f"{NOP} COPY {{}} in / "
        steps.append(_step(head, state, whole_context(standing.source), history))
    for instruction in (*standing.triggers, *standing.stage.instructions):
        state, work = _evaluated(instruction, state, scope)
        steps.append(_step(instruction, state, work, created_by(instruction, state, work)))
    return StagePlan(standing=standing, start=start, steps=tuple(steps), end=state)


def changed_config(state: StageState, scope: Scope) -> StageState:
    """What holds after the instructions of the scope's file, which are about the config alone
    (WORKDIR makes no directory). Raises ContainerfileError, Unsupported for other ones."""
    for instruction in scope.file.instructions:
        if type(instruction) not in _CHANGES and not isinstance(instruction, Workdir):
            raise Unsupported(
                f"{instruction.keyword} cannot be carried out here: it is not about the config",
                hint=f"use imgtools build for {instruction.text!r}",
            )
        state, _ = _evaluated(instruction, state, scope)
    return state


def changes_and_work(state: StageState, scope: Scope) -> tuple[StageState, tuple[Step, ...]]:
    """What holds after the instructions of the scope's file, and each of them with what there is
    to do for it. Raises ContainerfileError."""
    steps = []
    for instruction in scope.file.instructions:
        state, work = _evaluated(instruction, state, scope)
        steps.append(_step(instruction, state, work, created_by(instruction, state, work)))
    return state, tuple(steps)


def _evaluated(
    instruction: Instruction, state: StageState, scope: Scope
) -> tuple[StageState, Work | None]:
    try:
        return _evaluate(instruction, state, scope)
    except (InvalidInput, NotFound) as e:
        if isinstance(e, ContainerfileError):
            raise
        raise refused(scope.file, instruction, e.message, hint=e.hint) from e


def _evaluate(
    instruction: Instruction, state: StageState, scope: Scope
) -> tuple[StageState, Work | None]:
    """What holds after an instruction, and what there is to do for it."""
    if isinstance(instruction, Run):
        return state, run_work(instruction, state, scope)
    if isinstance(instruction, Copy):
        return state, copy_work(instruction, state, scope)
    if isinstance(instruction, Add):
        return state, add_work(instruction, state, scope)
    if isinstance(instruction, Workdir):
        path = scope.expand(instruction.path, state)
        state = replace(state, settings=config.with_workdir(state.settings, path))
        user = state.settings.get("User") or ""
        return state, WorkdirWork(path=state.settings["WorkingDir"], user=user)
    change = _CHANGES.get(type(instruction))
    if change is None:
        raise InvalidInput(f"{instruction.keyword} cannot stand here")
    changed = change(instruction, state, scope)
    _check_size(changed, state)
    return changed, None


def _check_size(state: StageState, before: StageState) -> None:
    """Raise InvalidInput where variables or labels are made of each other without end."""
    labels = state.settings.get("Labels") or {}
    if state.variables is not before.variables:
        _check_total("variables", state.variables)
    if labels is not before.settings.get("Labels"):
        _check_total("labels", labels)


def _check_total(what: str, values: Mapping[str, str]) -> None:
    if sum(map(len, values.values())) > MAX_TOTAL:
        raise InvalidInput(f"the {what} of the stage have more than {MAX_TOTAL} characters")


def _step(instruction: Instruction, state: StageState, work: Work | None, history: str) -> Step:
    return Step(
        instruction=instruction,
        text=without_credentials(instruction.text),
        created_by=history,
        author=state.author,
        work=work,
    )


def _env(instruction: Env, state: StageState, scope: Scope) -> StageState:
    # All of one instruction see what held before it.
    pairs = [(scope.expand(k, state), scope.expand(v, state)) for k, v in instruction.pairs]
    return replace(
        state,
        settings=config.with_env(state.settings, pairs),
        variables={**state.variables, **dict(pairs)},
    )


def _arg(instruction: Arg, state: StageState, scope: Scope) -> StageState:
    variables, arguments = dict(state.variables), dict(state.arguments)
    for name, default in instruction.pairs:
        value = scope.arguments.given.get(name)
        if value is None and default is not None:
            value = scope.arguments.expand(default, variables)
        elif value is None:
            value = scope.arguments.known.get(name)
        if value is None and name in PROXIES:
            value = scope.proxy.get(name)
        arguments[name] = value
        if value is not None:
            variables[name] = value
    return replace(state, variables=variables, arguments=arguments)


def _label(instruction: Label, state: StageState, scope: Scope) -> StageState:
    pairs = [(scope.expand(k, state), scope.expand(v, state)) for k, v in instruction.pairs]
    if not all(name for name, _ in pairs):
        raise InvalidInput("the name of a label is empty")
    return replace(state, settings=config.with_labels(state.settings, pairs))


def _words(command: Command, state: StageState) -> tuple[str, ...]:
    return config.in_shell(state.settings, command.words[0]) if command.shell else command.words


def _cmd(instruction: Cmd, state: StageState, scope: Scope) -> StageState:
    words = _words(instruction.command, state)
    return replace(state, settings=config.with_command(state.settings, words), command_set=True)


def _entrypoint(instruction: Entrypoint, state: StageState, scope: Scope) -> StageState:
    words = _words(instruction.command, state)
    settings = config.with_entrypoint(state.settings, words, keep_command=state.command_set)
    return replace(state, settings=settings)


def _shell(instruction: Shell, state: StageState, scope: Scope) -> StageState:
    return replace(state, settings=config.with_shell(state.settings, instruction.words))


def _expose(instruction: Expose, state: StageState, scope: Scope) -> StageState:
    from imgtools.build.language.expand import expand_words

    words = [
        word
        for port in instruction.ports
        for word in expand_words(port, state.variables, escape=scope.arguments.escape)
    ]
    return replace(state, settings=config.with_ports(state.settings, words))


def _user(instruction: User, state: StageState, scope: Scope) -> StageState:
    user = scope.expand(instruction.user, state)
    return replace(state, settings=config.with_user(state.settings, user))


def _volume(instruction: Volume, state: StageState, scope: Scope) -> StageState:
    paths = [scope.expand(path, state) for path in instruction.paths]
    return replace(state, settings=config.with_volumes(state.settings, paths))


def _stop_signal(instruction: StopSignal, state: StageState, scope: Scope) -> StageState:
    signal = scope.expand(instruction.signal, state)
    return replace(state, settings=config.with_stop_signal(state.settings, signal))


def _healthcheck(instruction: HealthCheck, state: StageState, scope: Scope) -> StageState:
    command = instruction.command
    if command is None:
        test: tuple[str, ...] = ("NONE",)
    elif command.shell:
        test = ("CMD-SHELL", command.words[0])
    else:
        test = ("CMD", *command.words)
    settings = config.with_healthcheck(
        state.settings,
        test,
        interval=instruction.interval,
        timeout=instruction.timeout,
        start_period=instruction.start_period,
        start_interval=instruction.start_interval,
        retries=instruction.retries,
    )
    return replace(state, settings=settings)


def _onbuild(instruction: OnBuild, state: StageState, scope: Scope) -> StageState:
    return replace(state, settings=config.with_trigger(state.settings, instruction.trigger))


def _maintainer(instruction: Maintainer, state: StageState, scope: Scope) -> StageState:
    return replace(state, author=instruction.name)


_CHANGES: Mapping[type[Instruction], Callable[[Any, StageState, Scope], StageState]] = {
    Env: _env,
    Arg: _arg,
    Label: _label,
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Shell: _shell,
    Expose: _expose,
    User: _user,
    Volume: _volume,
    StopSignal: _stop_signal,
    HealthCheck: _healthcheck,
    OnBuild: _onbuild,
    Maintainer: _maintainer,
}


def unused_arguments(file: Containerfile, given: Collection[str]) -> tuple[str, ...]:
    """The names of --build-arg that nothing declares; worth a warning."""
    declared = {
        name
        for instruction in file.instructions
        if isinstance(instruction, Arg)
        for name, _ in instruction.pairs
    }
    return tuple(sorted(set(given) - declared - QUIET))
