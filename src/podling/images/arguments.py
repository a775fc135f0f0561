"""The variables of a Dockerfile: those that were given for the build, those before the first FROM, those of a stage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping

from podling.images.dockerfile import Arg, Dockerfile
from podling.images.errors import BuildError
from podling.images.stage import State, Step
from podling.images.words import WordError, expand, expand_words

PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Build arguments that need no ARG, in both cases, and leave no trace in the image or the cache."""

Lookup = Callable[[str], str | None]


class Arguments:
    """`given` are those of the command line (`--build-arg`)."""

    def __init__(self, file: Dockerfile, given: Mapping[str, str], machine: str) -> None:
        self._file = file
        self._given = given
        self._globals: dict[str, str] = {}
        self._set_globals(machine)

    def _set_globals(self, machine: str) -> None:
        known = {"TARGETOS": "linux", "TARGETARCH": machine, "TARGETPLATFORM": f"linux/{machine}", "TARGETVARIANT": ""}
        self._globals |= known | {name.replace("TARGET", "BUILD"): value for name, value in known.items()}
        for instruction in self._file.arguments:
            assert isinstance(instruction.action, Arg)
            for name, default in instruction.action.items:
                if name in self._given:
                    self._globals[name] = self._given[name]
                elif default is not None:
                    self._globals[name] = self.word(default, self._globals.get, instruction.line)

    def declare(self, action: Arg, state: State, step: Step) -> None:
        """An ARG of a stage."""
        for name, default in action.items:
            if name in self._given:
                state.arguments[name] = self._given[name]
            elif default is not None:
                state.arguments[name] = self.word(default, state.lookup, step.line)
            elif name in self._globals:
                state.arguments[name] = self._globals[name]

    # Replacing them

    def word(self, text: str, lookup: Lookup, line: int) -> str:
        """`text` with its variables replaced. Raises `BuildError`."""
        try:
            return expand(text, lookup, self._file.escape)
        except WordError as error:
            raise self._problem(text, error, line) from error

    def words(self, text: str, lookup: Lookup, line: int) -> list[str]:
        """What a list with variables in it becomes. Raises `BuildError`."""
        try:
            return expand_words(text, lookup, self._file.escape)
        except WordError as error:
            raise self._problem(text, error, line) from error

    def _problem(self, text: str, error: WordError, line: int) -> BuildError:
        return BuildError(f"failed to process {json.dumps(text)}: {error}", file=self._file.file, line=line)

    def global_word(self, text: str, line: int) -> str:
        """As in FROM, where only the variables before the first one are known."""
        return self.word(text, self._globals.get, line)

    def source_word(self, text: str, state: State, line: int) -> str:
        """As in `COPY --from`, where both are."""
        return self.word(text, lambda name: state.lookup(name) or self._globals.get(name), line)

    # What they are for

    def proxies(self) -> dict[str, str]:
        """For RUN: those that were given, else this process's own."""
        given = {name: value for name, value in self._given.items() if name.upper() in PREDEFINED}
        return given or {name: value for name, value in os.environ.items() if name.upper() in PREDEFINED}

    def unused(self) -> list[str]:
        """Those that were given and that nothing declares."""
        stages = (instruction for stage in self._file.stages for instruction in stage.instructions)
        actions = [instruction.action for instruction in (*self._file.arguments, *stages)]
        declared = {name for action in actions if isinstance(action, Arg) for name, _ in action.items}
        return sorted(name for name in self._given if name not in declared and name.upper() not in PREDEFINED)
