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
import hashlib
import json
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from podling.images import (
    accounts,
    commands,
    config,
    copying,
    dockerfile,
    dockerignore,
    hostsetup,
    layers,
    mounts,
    references,
    view,
)
from podling.images.config import ImageConfig, ImageDocument
from podling.images.copying import Attributes
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
from podling.images.execution import CannotRun, Execution, Runner, SandboxRunner
from podling.images.manager import Images
from podling.images.mounts import BuildMount
from podling.images.store import Image
from podling.images.words import WordError, expand, expand_words

_CACHE_VERSION = "1"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Build arguments that need no ARG, in both cases, and leave no trace in the image or the cache."""


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
        work.note_unused_arguments()
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


@dataclass(slots=True)
class _State:
    """A stage in the making."""

    config: ImageConfig
    environment: dict[str, str]
    diff_ids: list[str]
    host_base: bool
    host_paths: tuple[str, ...]
    arguments: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    history: list[str] = field(default_factory=lambda: list[str]())
    own_command: bool = False
    """Whether CMD was set in this stage: an ENTRYPOINT clears only an inherited one."""

    def lookup(self, name: str) -> str | None:
        """ENV wins over ARG."""
        return self.environment.get(name, self.arguments.get(name))

    def document(self) -> ImageDocument:
        settings = replace(self.config, env=tuple(f"{name}={value}" for name, value in self.environment.items()))
        return ImageDocument(
            settings, tuple(self.diff_ids), self.host_base, self.host_paths, history=tuple(self.history)
        )


@dataclass(slots=True)
class _Step:
    """The instruction being executed, for messages."""

    file: str
    line: int
    text: str
    number: int
    stage: str

    def error(self, message: str, hint: str = "") -> BuildError:
        return BuildError(message, file=self.file, line=self.line, hint=hint)


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
        self._context = view.ContextView(context, ignore)
        self._images = images
        self._store = images.store
        self._build_args = build_args
        self._progress = progress
        self._no_cache = no_cache
        self._runner = runner
        self._done: dict[int, _State] = {}
        self._used: set[str] = set()
        self._bases: dict[str, Image] = {}
        self._fetched = False
        self._globals = self._global_arguments()
        self._number = 0
        self._total = 0

    def run(self, target: str) -> _State:
        last = self._target(target)
        needed = self._needed(last)
        self._total = sum(1 + len(stage.instructions) for stage in needed)
        for stage in needed:
            self._done[stage.index] = self._build_stage(stage)
        return self._done[last.index]

    def note_unused_arguments(self) -> None:
        declared = {
            name for i in _all_instructions(self._file) if isinstance(i.action, Arg) for name, _ in i.action.items
        }
        known = declared | {name for name in self._build_args if name.upper() in _PREDEFINED}
        unused = sorted(set(self._build_args) - known)
        if unused:
            self._tell("note", f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")

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
                names.append(self._expand_global(action.from_, instruction.line))
            if isinstance(action, Run):
                names += [mount.options["from"] for mount in action.mounts if mount.options.get("from")]
        return [found for name in names if (found := self._earlier(name, stage)) is not None]

    def _earlier(self, name: str, stage: Stage) -> Stage | None:
        found = self._file.stage(name)
        return found if found is not None and found.index < stage.index else None

    # Arguments and words

    def _global_arguments(self) -> dict[str, str]:
        machine = self._images.architecture
        known = {"TARGETOS": "linux", "TARGETARCH": machine, "TARGETPLATFORM": f"linux/{machine}", "TARGETVARIANT": ""}
        known |= {name.replace("TARGET", "BUILD"): value for name, value in known.items()}
        for instruction in self._file.arguments:
            assert isinstance(instruction.action, Arg)
            for name, default in instruction.action.items:
                if name in self._build_args:
                    known[name] = self._build_args[name]
                elif default is not None:
                    known[name] = self._word(default, known.get, instruction.line)
        return known

    def _word(self, text: str, lookup: Callable[[str], str | None], line: int) -> str:
        try:
            return expand(text, lookup, self._file.escape)
        except WordError as error:
            message = f"failed to process {json.dumps(text)}: {error}"
            raise BuildError(message, file=self._file.file, line=line) from error

    def _expand_global(self, text: str, line: int) -> str:
        return self._word(text, self._globals.get, line)

    def _base_name(self, stage: Stage) -> str:
        name = self._expand_global(stage.base.image, stage.line)
        if not name:
            hint = "The variable in this FROM is not set: give it a default with ARG before the first FROM."
            message = f"base name ({stage.base.image}) should not be blank"
            raise BuildError(message, file=self._file.file, line=stage.line, hint=hint)
        return name

    # Stages

    def _build_stage(self, stage: Stage) -> _State:
        name = self._base_name(stage)
        text = f"FROM {name}" + (f" AS {stage.name}" if stage.name else "")
        step = self._next_step(stage, stage.line, text)
        began = time.monotonic()
        earlier = self._earlier(name, stage)
        self._fetched = False
        self._tell("start", text, step)
        state = _copied(self._done[earlier.index]) if earlier else self._from_image(name, step)
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

    def _from_image(self, name: str, step: _Step) -> _State:
        if name == "scratch":
            return _State(ImageConfig(), {"PATH": _DEFAULT_PATH}, [], False, ())
        image = self._image(name, step)
        document = self._store.document(image.id)
        return _State(
            image.config,
            image.config.environment(),
            list(document.diff_ids),
            image.host_base,
            image.host_paths,
        )

    def _image(self, name: str, step: _Step) -> Image:
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

    def _execute(self, instruction: Instruction, state: _State, stage: Stage) -> None:
        step = self._next_step(stage, instruction.line, instruction.text)
        began = time.monotonic()
        self._tell("start", instruction.text, step)
        cached = self._apply(instruction, state, stage, step)
        state.history.append(instruction.text)
        self._tell("cached" if cached else "done", instruction.text, step, time.monotonic() - began)

    def _apply(self, instruction: Instruction, state: _State, stage: Stage, step: _Step) -> bool:
        """Whether nothing had to be done: the outcome was known, or the step only describes the image."""
        action = instruction.action
        match action:
            case Copy():
                return self._copy(action, state, stage, step)
            case Run():
                return self._run(action, state, stage, step)
            case Setting(kind="WORKDIR"):
                return self._workdir(action.value, state, step)
            case Arg():
                self._arg(action, state, step)
            case Env():
                pairs = {name: self._word(value, state.lookup, step.line) for name, value in action.items}
                state.environment.update({self._word(name, state.lookup, step.line): v for name, v in pairs.items()})
            case _:
                state.config = self._described(action, state, step)
        return True

    def _arg(self, action: Arg, state: _State, step: _Step) -> None:
        for name, default in action.items:
            if name in self._build_args:
                state.arguments[name] = self._build_args[name]
            elif default is not None:
                state.arguments[name] = self._word(default, state.lookup, step.line)
            elif name in self._globals:
                state.arguments[name] = self._globals[name]

    def _described(self, action: dockerfile.Action, state: _State, step: _Step) -> ImageConfig:
        """The configuration after an instruction that only describes the image."""

        def word(text: str) -> str:
            return self._word(text, state.lookup, step.line)

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

    def _ports(self, text: str, state: _State, step: _Step) -> Iterable[str]:
        try:
            words = expand_words(text, state.lookup, self._file.escape)
        except WordError as error:
            raise step.error(f"failed to process {json.dumps(text)}: {error}") from error
        for word in words:
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

    # Steps that change files

    def _workdir(self, value: str, state: _State, step: _Step) -> bool:
        path = posixpath.join(state.config.working_dir or "/", self._word(value, state.lookup, step.line))
        path = posixpath.normpath(path)
        state.config = replace(state.config, working_dir=path)
        tree = self._tree(state)
        found = tree.entry(view.resolve(tree, path))
        if found is not None and found.is_directory:
            return True
        owner = self._account(state.config.user, state, step)
        key = self._key(state, "workdir", path, str(owner.uid), str(owner.gid))
        return self._cached(state, key, lambda layer: _make_workdir(layer, path, (owner.uid, owner.gid)), step)

    def _copy(self, action: Copy, state: _State, stage: Stage, step: _Step) -> bool:
        name = "ADD" if action.add else "COPY"
        sources = tuple(self._word(source, state.lookup, step.line) for source in action.sources)
        remote = next((source for source in sources if "://" in source or source.startswith("git@")), None)
        if action.add and remote:
            hint = "Download it in a RUN step, with curl or wget."
            raise step.error(f"ADD of a URL is not supported: {remote}", hint)
        tree = self._source_tree(action, state, stage, step)
        chosen = self._chosen(tree, sources, action, step)
        destination = self._destination(action, state, step)
        attributes = self._attributes(action, state, step)
        documents = [
            (d.name, self._word(_unquoted(d.content), state.lookup, step.line) if d.expand else d.content)
            for d in action.documents
        ]
        unpack = action.add if action.unpack is None else action.unpack
        inputs = [destination, repr(attributes), str(unpack), repr(action.excludes), repr(documents)]
        origin = self._origin(action, state, stage, step)
        quick = self._key(state, name, *inputs, *origin, *sources) if origin else ""
        if quick and self._recalled(state, quick):
            return True
        key = self._key(state, name, *inputs, copying.digest(tree, chosen, action.excludes))

        def write(layer: copying.Layer) -> None:
            copying.write(tree, chosen, layer, destination, attributes, excludes=action.excludes, unpack=unpack)
            into = destination.endswith("/") or layer.is_directory(destination)
            for document, content in documents:
                layer.text(content, f"{destination}/{document}" if into else destination, attributes)

        cached = self._cached(state, key, write, step)
        if quick:
            self._store.remember(quick, state.diff_ids[-1])
        return cached

    def _origin(self, action: Copy, state: _State, stage: Stage, step: _Step) -> list[str]:
        """What stands for the content of another stage without reading it: its layers never change."""
        if not action.from_:
            return []
        source = self._source_state(action, state, stage, step)
        return [*source.diff_ids, str(source.host_base), *source.host_paths]

    def _source_tree(self, action: Copy, state: _State, stage: Stage, step: _Step) -> view.Tree:
        if not action.from_:
            return self._context
        return self._tree(self._source_state(action, state, stage, step))

    def _source_state(self, action: Copy, state: _State, stage: Stage, step: _Step) -> _State:
        name = self._word(action.from_, lambda n: state.lookup(n) or self._globals.get(n), step.line)
        return self._named(name, stage, step)

    def _named(self, name: str, stage: Stage, step: _Step) -> _State:
        """A stage before this one, else an image."""
        earlier = self._earlier(name, stage)
        if earlier is not None:
            return self._done[earlier.index]
        if name.isdigit():
            raise step.error(
                f"invalid stage index {name}", f"Stages before this one have the numbers below {stage.index}."
            )
        return self._from_image(name, step)

    def _chosen(self, tree: view.Tree, sources: tuple[str, ...], action: Copy, step: _Step) -> list[copying.Source]:
        try:
            return copying.select(tree, sources, keep_parents=action.parents)
        except copying.NothingMatches as error:
            path = str(error)
            if tree is self._context and self._context.is_ignored(path):
                hint = f"{path} is there, but .dockerignore keeps it out of the build."
            else:
                hint = f"There is no {path} in {'the build context' if tree is self._context else action.from_}."
            raise step.error(f'failed to calculate checksum of ref: "{path}": not found', hint) from error

    def _destination(self, action: Copy, state: _State, step: _Step) -> str:
        """Absolute; the slash at the end says "a directory" and is kept."""
        text = self._word(action.destination, state.lookup, step.line)
        path = posixpath.normpath(posixpath.join(state.config.working_dir or "/", text))
        path = "/" + path.lstrip("/")
        is_directory = text.endswith("/") or posixpath.basename(text) in (".", "..") or path == "/"
        return path.rstrip("/") + "/" if is_directory else path

    def _attributes(self, action: Copy, state: _State, step: _Step) -> Attributes:
        """From the context everything belongs to root; another stage's files keep their owners."""
        owner = None if action.from_ else (0, 0)
        chown = self._word(action.chown, state.lookup, step.line)
        if chown:
            account = self._account(chown, state, step, group_like_user=True)
            owner = (account.uid, account.gid)
        chmod = self._word(action.chmod, state.lookup, step.line)
        if chmod and (not chmod.isdigit() or set(chmod) - set("01234567")):
            raise step.error(
                f"invalid chmod parameter: '{chmod}'", "It should be octal string and between 0 and 07777."
            )
        return Attributes(owner, int(chmod, 8) if chmod else None)

    def _run(self, action: Run, state: _State, stage: Stage, step: _Step) -> bool:
        account = self._account(state.config.user, state, step)
        args = commands.run_arguments(action, state.config)
        environment = self._run_environment(state, account)
        mounts = [m for mount in action.mounts if (m := self._run_mount(mount, state, stage, step)) is not None]
        named = {**environment, **{n: v for n, v in state.arguments.items() if n not in environment}}
        key = self._key(
            state,
            "run",
            json.dumps([list(args), sorted(named.items()), account.uid, account.gid, state.config.working_dir]),
            json.dumps([mount.key for mount in mounts]),
        )
        if self._recalled(state, key):
            return True
        execution = Execution(
            lowers=self._store.lowers(state.diff_ids),
            host_base=state.host_base,
            host_paths=state.host_paths,
            args=args,
            environment={**self._proxies(), **state.arguments, **environment},
            directory=state.config.working_dir or "/",
            uid=account.uid,
            gid=account.gid,
            groups=account.groups,
            network=action.network != "none",
        )
        self._execute_run(execution, mounts, state, key, step, commands.shown(action))
        return False

    def _execute_run(
        self, execution: Execution, mounts: list[BuildMount], state: _State, key: str, step: _Step, shown: str
    ) -> None:
        with self._store.staging() as staging:
            execution = replace(execution, mounts=tuple(mount.bind(staging / "mounts") for mount in mounts))
            try:
                code = self._runner(execution, staging, lambda line: self._tell("output", line, step))
            except CannotRun as error:
                raise step.error(f"RUN cannot be executed: {error}") from error
            if code != 0:
                hint = "The command's output is above."
                raise step.error(f'process "{shown}" did not complete successfully: exit code: {code}', hint)
            diff_id = self._store.commit(staging / "layer")
        self._store.remember(key, diff_id)
        state.diff_ids.append(diff_id)

    def _run_environment(self, state: _State, account: accounts.Account) -> dict[str, str]:
        found = dict(state.environment)
        found.setdefault("PATH", _DEFAULT_PATH)
        found.setdefault("HOME", account.home)
        return found

    def _proxies(self) -> dict[str, str]:
        given = {name: value for name, value in self._build_args.items() if name.upper() in _PREDEFINED}
        return given or {name: value for name, value in os.environ.items() if name.upper() in _PREDEFINED}

    def _run_mount(self, mount: dockerfile.RunMount, state: _State, stage: Stage, step: _Step) -> BuildMount | None:
        """None for secrets and agents that were not given: BuildKit leaves them out unless they are required."""
        options = {name: self._word(value, state.lookup, step.line) for name, value in mount.options.items()}
        match mount.type:
            case "cache":
                try:
                    return mounts.cache_mount(options, state.config.working_dir, self._store.root / "mounts")
                except ValueError as error:
                    hint = "mode is an octal number; uid and gid are numbers."
                    raise step.error(f"invalid cache mount: {error}", hint) from error
            case "tmpfs":
                return mounts.tmpfs_mount(options, state.config.working_dir)
            case "bind":
                return self._bind_mount(options, state, stage, step)
            case _:
                if options.get("required") == "true":
                    raise step.error(
                        f"{mount.type} {options.get('id', '')}: not found", "podling build has no secrets."
                    )
                return None

    def _bind_mount(self, options: Mapping[str, str], state: _State, stage: Stage, step: _Step) -> BuildMount:
        tree = self._tree(self._named(options["from"], stage, step)) if options.get("from") else self._context
        try:
            return mounts.bind_mount(options, state.config.working_dir, tree, self._store.root / "layers")
        except copying.NothingMatches as error:
            raise step.error(f'failed to calculate checksum of ref: "{error}": not found') from error

    # Tools of the steps

    def _tree(self, state: _State) -> view.ImageView:
        lowers = [Path(path) for path in self._store.lowers(state.diff_ids)]
        return view.ImageView(lowers, host_base=state.host_base, host_paths=state.host_paths)

    def _account(self, user: str, state: _State, step: _Step, *, group_like_user: bool = False) -> accounts.Account:
        """`group_like_user`: for --chown, where a number alone stands for both."""
        tree = self._tree(state)
        passwd, group = view.read_text(tree, "/etc/passwd"), view.read_text(tree, "/etc/group")
        try:
            found = accounts.resolve(user, passwd, group)
        except accounts.UnknownAccount as error:
            raise step.error(str(error), "Use numbers, or make the account in a RUN step first.") from error
        if group_like_user and ":" not in user and user.isdigit():
            return replace(found, gid=int(user))
        return found

    def _key(self, state: _State, kind: str, *inputs: str) -> str:
        parts = [_CACHE_VERSION, kind, *state.diff_ids, str(state.host_base), *state.host_paths, *inputs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _cached(self, state: _State, key: str, write: Callable[[copying.Layer], None], step: _Step) -> bool:
        """The layer from the cache, else made now; gives whether it was cached."""
        if self._recalled(state, key):
            return True
        diff_id = self._written(state, write, step)
        self._store.remember(key, diff_id)
        state.diff_ids.append(diff_id)
        return False

    def _recalled(self, state: _State, key: str) -> bool:
        known = "" if self._no_cache else self._store.recall(key)
        if known:
            state.diff_ids.append(known)
        return bool(known)

    def _written(self, state: _State, write: Callable[[copying.Layer], None], step: _Step) -> str:
        with self._store.staging() as staging:
            root = staging / "layer"
            root.mkdir()
            try:
                write(copying.Layer(root, self._tree(state), self._store.root / "layers"))
            except copying.CannotCopy as error:
                raise step.error(str(error)) from error
            except layers.LayerError as error:
                raise step.error(f"failed to unpack: {error}") from error
            return self._store.commit(root)

    def _next_step(self, stage: Stage, line: int, text: str) -> _Step:
        self._number += 1
        return _Step(self._file.file, line, text, self._number, stage.name or f"stage-{stage.index}")

    def _tell(
        self,
        kind: Literal["start", "cached", "done", "output", "note"],
        text: str,
        step: _Step | None = None,
        seconds: float = 0.0,
    ) -> None:
        number, stage = (step.number, step.stage) if step else (0, "")
        self._progress(Progress(kind, text, number, self._total, stage, seconds))


def _copied(state: _State) -> _State:
    """A stage that another begins with; its ARGs end with it."""
    return _State(
        state.config,
        dict(state.environment),
        list(state.diff_ids),
        state.host_base,
        state.host_paths,
        {},
        list(state.history),
    )


def _all_instructions(file: Dockerfile) -> Iterable[Instruction]:
    return (*file.arguments, *(instruction for stage in file.stages for instruction in stage.instructions))


def _make_workdir(layer: copying.Layer, path: str, owner: tuple[int, int]) -> None:
    layer.directory(path, Attributes(owner))


def _unquoted(text: str) -> str:
    """In a here-document quotes are ordinary characters, so they are kept from the word reader."""
    return text.replace("\\", "\\\\").replace("\\\\$", "\\$").replace("'", "\\'").replace('"', '\\"')
