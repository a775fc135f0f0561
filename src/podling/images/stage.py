"""A stage of a Dockerfile in the making, and the step that is being done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from podling.images.config import ImageConfig, ImageDocument
from podling.images.errors import BuildError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class State:
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

    def copy(self) -> State:
        """For a stage that begins with this one; its ARGs end with it."""
        return State(
            self.config,
            dict(self.environment),
            list(self.diff_ids),
            self.host_base,
            self.host_paths,
            {},
            list(self.history),
        )


@dataclass(slots=True)
class Step:
    """The instruction being executed, for messages."""

    file: str
    line: int
    text: str
    number: int
    stage: str

    def error(self, message: str, hint: str = "") -> BuildError:
        return BuildError(message, file=self.file, line=self.line, hint=hint)
