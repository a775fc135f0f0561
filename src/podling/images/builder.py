"""Builds an image from a Dockerfile: what `podling build` and `podling up` run.

Stages that the target does not need are not built. Every step that changes files becomes a layer, looked up first in
the build cache by a key of everything that could change its outcome: the layers below it, the instruction with its
variables replaced, and the content of what it copies. Instructions that only describe the image change its
configuration and cost nothing, wherever they stand.

RUN steps are executed in the sandbox, in the host's network, as in `docker build --network=host`. On a base that the
host stands in for, they find what the host is set up with: package indexes, certificates, proxies (`hostsetup`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from podling.images import (
    commands,
    config,
    dockerfile,
    dockerignore,
    hostsetup,
    references,
    view,
)
from podling.images.arguments import Arguments
from podling.images.config import ImageConfig
from podling.images.dockerfile import (
    Arg,
    Command,
    Copy,
    Dockerfile,
    Env,
    Health,
    Instruction,
    Label,
    Listing,
    OnBuild,
    Run,
    Setting,
    Stage,
)
from podling.images.errors import BuildError, ImageError
from podling.images.execution import Runner, SandboxRunner
from podling.images.file_steps import FileSteps
from podling.images.layer_cache import LayerCache
from podling.images.manager import Images
from podling.images.stage import DEFAULT_PATH, State, Step
from podling.images.store import Image


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to tell the user. `number` of `total` steps; `text` is the instruction, a line of output or a note.

    A step ends as `done`, or as `cached` when nothing had to be done for it.
    """

    kind: Literal["start", "cached", "done", "output", "note"]
    text: str
    number: int = 0
    total: int = 0
    stage: str = ""
    seconds: float = 0.0


def build(
    context: Path,
    *,
    images: Images,
    dockerfile: Path | None = None,
    tags: Sequence[str] = (),
    build_args: Mapping[str, str] | None = None,
    target: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
    no_cache: bool = False,
    runner: Runner | None = None,
) -> Image:
    """Builds and tags an image; blocks, and must not be called on an event loop.

    Raises `BuildError` with file and line.
    """
    file = dockerfile or context / "Dockerfile"
    names = [_tag(tag) for tag in tags]
    work = _Build(
        _read(file),
        context,
        dockerignore.load(context, file),
        images,
        dict(build_args or {}),
        progress,
        no_cache,
        runner or SandboxRunner(images.store.root, hostsetup.setup(Path.home(), os.environ)),
    )
    try:
        state = work.run(target)
        return images.store.add(config.encode(state.document()), names, origin="built")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise BuildError(f"{place}{error.strerror or error}", hint=_MENDS.get(error.errno or 0, "")) from error


_MENDS = {
    errno.ENOSPC: "Free some space, or give the images another place with PODLING_HOME.",
    errno.EDQUOT: "Free some space, or give the images another place with PODLING_HOME.",
    errno.EACCES: "Make it readable, or keep it out of the build with .dockerignore.",
}


def _tag(tag: str) -> references.Reference:
    try:
        return references.parse(tag).with_default_tag()
    except references.InvalidReference as error:
        raise BuildError(f'invalid tag "{tag}": {error}', hint="A tag looks like my-app:v1.") from error


def _read(file: Path) -> Dockerfile:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "Write one, or name it with -f."
        raise BuildError(f"failed to read dockerfile: open {file.name}: no such file or directory", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"failed to read dockerfile: {error}", file=str(file)) from error
    return dockerfile.parse(text, file=str(file))


class _Build:
    """One run of the builder."""

    def __init__(
        self,
        file: Dockerfile,
        context: Path,
        ignore: dockerignore.Ignore,
        images: Images,
        build_args: dict[str, str],
        progress: Callable[[Progress], None],
        no_cache: bool,
        runner: Runner,
    ) -> None:
        self._file = file
        self._images = images
        self._progress = progress
        self._arguments = Arguments(file, build_args, images.architecture)
        self._file_steps = FileSteps(
            view.ContextView(context, ignore),
            self._arguments,
            LayerCache(images.store, fresh=no_cache),
            runner,
            self._named,
            lambda line, step: self._tell("output", line, step),
        )
        self._done: dict[int, State] = {}
        self._bases: dict[str, Image] = {}
        self._fetched = False
        self._number = 0
        self._total = 0

    def run(self, target: str) -> State:
        last = self._target(target)
        needed = self._needed(last)
        self._total = sum(1 + len(stage.instructions) for stage in needed)
        for stage in needed:
            self._done[stage.index] = self._build_stage(stage)
        unused = self._arguments.unused()
        if unused:
            self._tell("note", f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")
        return self._done[last.index]

    # Which stages

    def _target(self, name: str) -> Stage:
        if not name:
            return self._file.stages[-1]
        stage = self._file.stage(name)
        if stage is None:
            known = ", ".join(stage.name for stage in self._file.stages if stage.name)
            hint = f"Stages of this file: {known}." if known else "No stage of this file has a name."
            raise BuildError(f"target stage {name!r} could not be found", file=self._file.file, hint=hint)
        return stage

    def _needed(self, last: Stage) -> list[Stage]:
        """The stages that the last one is built on or copies from, in the file's order."""
        found: set[int] = set()
        pending = [last]
        while pending:
            stage = pending.pop()
            if stage.index in found:
                continue
            found.add(stage.index)
            pending += self._referred(stage)
        return [stage for stage in self._file.stages if stage.index in found]

    def _referred(self, stage: Stage) -> Iterable[Stage]:
        names = [self._base_name(stage)]
        for instruction in stage.instructions:
            action = instruction.action
            if isinstance(action, Copy) and action.from_:
                names.append(self._arguments.global_word(action.from_, instruction.line))
            if isinstance(action, Run):
                names += [mount.options["from"] for mount in action.mounts if mount.options.get("from")]
        return [found for name in names if (found := self._earlier(name, stage)) is not None]

    def _earlier(self, name: str, stage: Stage) -> Stage | None:
        found = self._file.stage(name)
        return found if found is not None and found.index < stage.index else None

    def _base_name(self, stage: Stage) -> str:
        name = self._arguments.global_word(stage.base.image, stage.line)
        if not name:
            hint = "The variable in this FROM is not set: give it a default with ARG before the first FROM."
            message = f"base name ({stage.base.image}) should not be blank"
            raise BuildError(message, file=self._file.file, line=stage.line, hint=hint)
        return name

    # Stages

    def _build_stage(self, stage: Stage) -> State:
        name = self._base_name(stage)
        text = f"FROM {name}" + (f" AS {stage.name}" if stage.name else "")
        step = self._next_step(stage, stage.line, text)
        began = time.monotonic()
        earlier = self._earlier(name, stage)
        self._fetched = False
        self._tell("start", text, step)
        state = self._done[earlier.index].copy() if earlier else self._from_image(name, step)
        self._tell("done" if self._fetched else "cached", text, step, time.monotonic() - began)
        for trigger in state.config.on_build if earlier is None else ():
            self._execute(self._next_trigger(stage, trigger), state, stage)
        if earlier is None:
            state.config = replace(state.config, on_build=())
        for instruction in stage.instructions:
            self._execute(instruction, state, stage)
        return state

    def _next_trigger(self, stage: Stage, text: str) -> Instruction:
        self._total += 1
        return dockerfile.parse_instruction(text, escape=self._file.escape, file=self._file.file, line=stage.line)

    def _from_image(self, name: str, step: Step) -> State:
        if name == "scratch":
            return State(ImageConfig(), {"PATH": DEFAULT_PATH}, [], False, ())
        image = self._image(name, step)
        document = self._images.store.document(image.id)
        return State(
            image.config,
            image.config.environment(),
            list(document.diff_ids),
            image.host_base,
            image.host_paths,
        )

    def _named(self, name: str, stage: Stage, step: Step) -> State:
        """A stage before this one, else an image."""
        earlier = self._earlier(name, stage)
        if earlier is not None:
            return self._done[earlier.index]
        if name.isdigit():
            raise step.error(
                f"invalid stage index {name}", f"Stages before this one have the numbers below {stage.index}."
            )
        return self._from_image(name, step)

    def _image(self, name: str, step: Step) -> Image:
        if name not in self._bases:
            try:
                present = self._images.find(name)
                image = present or asyncio.run(self._images.ensure(name, "IfNotPresent"))
            except ImageError as error:
                hint = "Check the name, or that the registry can be reached."
                raise step.error(f"{name}: {error.message}", hint) from error
            if image.note:
                self._tell("note", image.note, step)
            self._fetched = present is None and image.origin == "pulled"
            self._bases[name] = image
        return self._bases[name]

    def _execute(self, instruction: Instruction, state: State, stage: Stage) -> None:
        step = self._next_step(stage, instruction.line, instruction.text)
        began = time.monotonic()
        self._tell("start", instruction.text, step)
        cached = self._apply(instruction, state, stage, step)
        state.history.append(instruction.text)
        self._tell("cached" if cached else "done", instruction.text, step, time.monotonic() - began)

    def _apply(self, instruction: Instruction, state: State, stage: Stage, step: Step) -> bool:
        """Whether nothing had to be done: the outcome was known, or the step only describes the image."""
        action = instruction.action
        match action:
            case Copy():
                return self._file_steps.copy(action, state, stage, step)
            case Run():
                return self._file_steps.run(action, state, stage, step)
            case Setting(kind="WORKDIR"):
                return self._file_steps.workdir(action.value, state, step)
            case Arg():
                self._arguments.declare(action, state, step)
            case Env():
                pairs = {name: self._arguments.word(value, state.lookup, step.line) for name, value in action.items}
                state.environment.update(
                    {self._arguments.word(name, state.lookup, step.line): v for name, v in pairs.items()}
                )
            case _:
                state.config = self._described(action, state, step)
        return True

    def _variables(self, action: Env, state: State, step: Step) -> dict[str, str]:
        """Those of one ENV do not see each other."""

        def word(text: str) -> str:
            return self._arguments.word(text, state.lookup, step.line)

        return {word(name): word(value) for name, value in action.items}

    def _described(self, action: dockerfile.Action, state: State, step: Step) -> ImageConfig:
        """The configuration after an instruction that only describes the image."""

        def word(text: str) -> str:
            return self._arguments.word(text, state.lookup, step.line)

        settings = state.config
        match action:
            case Label():
                return replace(settings, labels={**settings.labels, **{word(k): word(v) for k, v in action.items}})
            case Command(kind="CMD"):
                state.own_command = True
                return replace(settings, cmd=commands.command_arguments(action, settings))
            case Command():
                kept = settings.cmd if state.own_command else ()
                return replace(settings, entrypoint=commands.command_arguments(action, settings), cmd=kept)
            case Setting(kind="USER"):
                return replace(settings, user=word(action.value))
            case Setting(kind="STOPSIGNAL"):
                return replace(settings, stop_signal=word(action.value))
            case Listing(kind="EXPOSE"):
                ports = [port for text in action.values for port in self._ports(text, state, step)]
                return replace(settings, exposed_ports=tuple(sorted({*settings.exposed_ports, *ports})))
            case Listing(kind="VOLUME"):
                return replace(settings, volumes=tuple(sorted({*settings.volumes, *map(word, action.values)})))
            case Listing():
                return replace(settings, shell=action.values)
            case Health():
                return replace(settings, healthcheck=action.check)
            case OnBuild():
                return replace(settings, on_build=(*settings.on_build, action.text))
            case _:
                return settings

    def _ports(self, text: str, state: State, step: Step) -> Iterable[str]:
        for word in self._arguments.words(text, state.lookup, step.line):
            numbers, _, protocol = word.partition("/")
            first, dash, last = numbers.partition("-")
            if (
                not first.isdigit()
                or (dash and not last.isdigit())
                or protocol.lower() not in ("", "tcp", "udp", "sctp")
            ):
                raise step.error(f"invalid containerPort: {word}", "EXPOSE takes ports such as 5000 or 53/udp.")
            for port in range(int(first), int(last or first) + 1):
                yield f"{port}/{protocol.lower() or 'tcp'}"

    def _next_step(self, stage: Stage, line: int, text: str) -> Step:
        self._number += 1
        return Step(self._file.file, line, text, self._number, stage.name or f"stage-{stage.index}")

    def _tell(
        self,
        kind: Literal["start", "cached", "done", "output", "note"],
        text: str,
        step: Step | None = None,
        seconds: float = 0.0,
    ) -> None:
        number, stage = (step.number, step.stage) if step else (0, "")
        self._progress(Progress(kind, text, number, self._total, stage, seconds))
