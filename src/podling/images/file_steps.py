"""The steps of a Dockerfile that change files: WORKDIR, COPY, ADD and RUN. Each makes a layer."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace

from podling.images import accounts, commands, copying, dockerfile, mounts, view
from podling.images.arguments import Arguments
from podling.images.copying import Attributes
from podling.images.dockerfile import Copy, Run, Stage
from podling.images.execution import CannotRun, Execution, Runner
from podling.images.layer_cache import LayerCache
from podling.images.mounts import BuildMount
from podling.images.stage import DEFAULT_PATH, State, Step


class FileSteps:
    """Each says whether nothing had to be done, because the outcome was known. They raise `BuildError`.

    `named` gives a stage before this one or an image, by name; `output` is told each line that a command prints.
    """

    def __init__(
        self,
        context: view.ContextView,
        arguments: Arguments,
        cache: LayerCache,
        runner: Runner,
        named: Callable[[str, Stage, Step], State],
        output: Callable[[str, Step], None],
    ) -> None:
        self._context = context
        self._arguments = arguments
        self._cache = cache
        self._runner = runner
        self._named = named
        self._output = output

    def workdir(self, value: str, state: State, step: Step) -> bool:
        path = posixpath.join(state.config.working_dir or "/", self._arguments.word(value, state.lookup, step.line))
        path = posixpath.normpath(path)
        state.config = replace(state.config, working_dir=path)
        tree = self._cache.tree(state)
        found = tree.entry(view.resolve(tree, path))
        if found is not None and found.is_directory:
            return True
        owner = self._cache.account(state.config.user, state, step)
        key = self._cache.key(state, "workdir", path, str(owner.uid), str(owner.gid))
        return self._cache.ensure(state, key, lambda layer: _make_workdir(layer, path, (owner.uid, owner.gid)), step)

    def copy(self, action: Copy, state: State, stage: Stage, step: Step) -> bool:
        name = "ADD" if action.add else "COPY"
        sources = tuple(self._arguments.word(source, state.lookup, step.line) for source in action.sources)
        remote = next((source for source in sources if "://" in source or source.startswith("git@")), None)
        if action.add and remote:
            hint = "Download it in a RUN step, with curl or wget."
            raise step.error(f"ADD of a URL is not supported: {remote}", hint)
        tree = self._source_tree(action, state, stage, step)
        chosen = self._chosen(tree, sources, action, step)
        destination = self._destination(action, state, step)
        attributes = self._attributes(action, state, step)
        documents = [
            (d.name, self._arguments.word(_unquoted(d.content), state.lookup, step.line) if d.expand else d.content)
            for d in action.documents
        ]
        unpack = action.add if action.unpack is None else action.unpack
        inputs = [destination, repr(attributes), str(unpack), repr(action.excludes), repr(documents)]
        origin = self._origin(action, state, stage, step)
        quick = self._cache.key(state, name, *inputs, *origin, *sources) if origin else ""
        if quick and self._cache.recall(state, quick):
            return True
        key = self._cache.key(state, name, *inputs, copying.digest(tree, chosen, action.excludes))

        def write(layer: copying.Layer) -> None:
            copying.write(tree, chosen, layer, destination, attributes, excludes=action.excludes, unpack=unpack)
            into = destination.endswith("/") or layer.is_directory(destination)
            for document, content in documents:
                layer.text(content, f"{destination}/{document}" if into else destination, attributes)

        cached = self._cache.ensure(state, key, write, step)
        if quick:
            self._cache.store.remember(quick, state.diff_ids[-1])
        return cached

    def _origin(self, action: Copy, state: State, stage: Stage, step: Step) -> list[str]:
        """What stands for the content of another stage without reading it: its layers never change."""
        if not action.from_:
            return []
        source = self._source_state(action, state, stage, step)
        return [*source.diff_ids, str(source.host_base), *source.host_paths]

    def _source_tree(self, action: Copy, state: State, stage: Stage, step: Step) -> view.Tree:
        if not action.from_:
            return self._context
        return self._cache.tree(self._source_state(action, state, stage, step))

    def _source_state(self, action: Copy, state: State, stage: Stage, step: Step) -> State:
        return self._named(self._arguments.source_word(action.from_, state, step.line), stage, step)

    def _chosen(self, tree: view.Tree, sources: tuple[str, ...], action: Copy, step: Step) -> list[copying.Source]:
        try:
            return copying.select(tree, sources, keep_parents=action.parents)
        except copying.NothingMatches as error:
            path = str(error)
            if tree is self._context and self._context.is_ignored(path):
                hint = f"{path} is there, but .dockerignore keeps it out of the build."
            else:
                hint = f"There is no {path} in {'the build context' if tree is self._context else action.from_}."
            raise step.error(f'failed to calculate checksum of ref: "{path}": not found', hint) from error

    def _destination(self, action: Copy, state: State, step: Step) -> str:
        """Absolute; the slash at the end says "a directory" and is kept."""
        text = self._arguments.word(action.destination, state.lookup, step.line)
        path = posixpath.normpath(posixpath.join(state.config.working_dir or "/", text))
        path = "/" + path.lstrip("/")
        is_directory = text.endswith("/") or posixpath.basename(text) in (".", "..") or path == "/"
        return path.rstrip("/") + "/" if is_directory else path

    def _attributes(self, action: Copy, state: State, step: Step) -> Attributes:
        """From the context everything belongs to root; another stage's files keep their owners."""
        owner = None if action.from_ else (0, 0)
        chown = self._arguments.word(action.chown, state.lookup, step.line)
        if chown:
            account = self._cache.account(chown, state, step, group_like_user=True)
            owner = (account.uid, account.gid)
        chmod = self._arguments.word(action.chmod, state.lookup, step.line)
        if chmod and (not chmod.isdigit() or set(chmod) - set("01234567")):
            raise step.error(
                f"invalid chmod parameter: '{chmod}'", "It should be octal string and between 0 and 07777."
            )
        return Attributes(owner, int(chmod, 8) if chmod else None)

    def run(self, action: Run, state: State, stage: Stage, step: Step) -> bool:
        account = self._cache.account(state.config.user, state, step)
        args = commands.run_arguments(action, state.config)
        environment = self._run_environment(state, account)
        mounts = [m for mount in action.mounts if (m := self._run_mount(mount, state, stage, step)) is not None]
        named = {**environment, **{n: v for n, v in state.arguments.items() if n not in environment}}
        key = self._cache.key(
            state,
            "run",
            json.dumps([list(args), sorted(named.items()), account.uid, account.gid, state.config.working_dir]),
            json.dumps([mount.key for mount in mounts]),
        )
        if self._cache.recall(state, key):
            return True
        execution = Execution(
            lowers=self._cache.store.lowers(state.diff_ids),
            host_base=state.host_base,
            host_paths=state.host_paths,
            args=args,
            environment={**self._arguments.proxies(), **state.arguments, **environment},
            directory=state.config.working_dir or "/",
            uid=account.uid,
            gid=account.gid,
            groups=account.groups,
            network=action.network != "none",
        )
        self._execute_run(execution, mounts, state, key, step, commands.shown(action))
        return False

    def _execute_run(
        self, execution: Execution, mounts: list[BuildMount], state: State, key: str, step: Step, shown: str
    ) -> None:
        with self._cache.store.staging() as staging:
            execution = replace(execution, mounts=tuple(mount.bind(staging / "mounts") for mount in mounts))
            try:
                code = self._runner(execution, staging, lambda line: self._output(line, step))
            except CannotRun as error:
                raise step.error(f"RUN cannot be executed: {error}") from error
            if code != 0:
                hint = "The command's output is above."
                raise step.error(f'process "{shown}" did not complete successfully: exit code: {code}', hint)
            diff_id = self._cache.store.commit(staging / "layer")
        self._cache.add(state, key, diff_id)

    def _run_environment(self, state: State, account: accounts.Account) -> dict[str, str]:
        found = dict(state.environment)
        found.setdefault("PATH", DEFAULT_PATH)
        found.setdefault("HOME", account.home)
        return found

    def _run_mount(self, mount: dockerfile.RunMount, state: State, stage: Stage, step: Step) -> BuildMount | None:
        """None for secrets and agents that were not given: BuildKit leaves them out unless they are required."""
        options = {name: self._arguments.word(value, state.lookup, step.line) for name, value in mount.options.items()}
        match mount.type:
            case "cache":
                try:
                    return mounts.cache_mount(options, state.config.working_dir, self._cache.store.root / "mounts")
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

    def _bind_mount(self, options: Mapping[str, str], state: State, stage: Stage, step: Step) -> BuildMount:
        tree = self._cache.tree(self._named(options["from"], stage, step)) if options.get("from") else self._context
        try:
            return mounts.bind_mount(options, state.config.working_dir, tree, self._cache.store.root / "layers")
        except copying.NothingMatches as error:
            raise step.error(f'failed to calculate checksum of ref: "{error}": not found') from error


def _make_workdir(layer: copying.Layer, path: str, owner: tuple[int, int]) -> None:
    layer.directory(path, Attributes(owner))


def _unquoted(text: str) -> str:
    """In a here-document quotes are ordinary characters, so they are kept from the word reader."""
    return text.replace("\\", "\\\\").replace("\\\\$", "\\$").replace("'", "\\'").replace('"', '\\"')
