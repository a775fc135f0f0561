"""Reads a Dockerfile into plain data; runs nothing, looks at no file.

The grammar is the Dockerfile reference (docs.docker.com/reference/dockerfile) as BuildKit implements it: parser
directives, line continuation, comments, here-documents, shell and JSON forms, flags, stages. Texts of errors are
BuildKit's where it has them. Words keep their `$variables`: only the builder knows the values, when it gets there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from podling.images.config import Healthcheck
from podling.images.errors import BuildError
from podling.images.words import split


@dataclass(frozen=True, slots=True)
class HereDocument:
    """`<<EOF ... EOF`. `expand`: whether variables in it are replaced (the word was not quoted)."""

    name: str
    content: str
    expand: bool


@dataclass(frozen=True, slots=True)
class From:
    """`FROM image [AS name]`: opens a stage."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg:
    """`ARG NAME[=default] ...`; a default of None means it has none."""

    items: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env:
    """`ENV NAME=value ...`."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label:
    """`LABEL key=value ...`."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """`COPY` and `ADD`: they differ in that ADD unpacks local tar files and accepts URLs."""

    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    add: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    unpack: bool | None = None
    documents: tuple[HereDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class RunMount:
    """`RUN --mount=type=...`; `options` without the type, flags such as `readonly` as "true"."""

    type: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """`RUN`: `command` is the argument vector, or a single text for the stage's shell."""

    command: tuple[str, ...]
    shell: bool
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    documents: tuple[HereDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """`CMD` or `ENTRYPOINT`."""

    kind: str
    command: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """An instruction with one value: `WORKDIR`, `USER`, `STOPSIGNAL`, `MAINTAINER`."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Listing:
    """An instruction with a list of words: `EXPOSE`, `VOLUME`, `SHELL`."""

    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """`HEALTHCHECK`; None for `HEALTHCHECK NONE`."""

    check: Healthcheck | None


@dataclass(frozen=True, slots=True)
class OnBuild:
    """`ONBUILD instruction`: the text is read again when an image that is built on this one is built."""

    text: str


Action = From | Arg | Env | Label | Copy | Run | Command | Setting | Listing | Health | OnBuild


@dataclass(frozen=True, slots=True)
class Instruction:
    """An action with the place and the text that it came from."""

    action: Action
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A `FROM` and what follows it."""

    index: int
    base: From
    line: int
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.base.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file. `arguments` are the ARGs before the first FROM."""

    file: str
    escape: str
    arguments: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage | None:
        """The stage of that name (case does not count) or number."""
        for stage in reversed(self.stages):
            if stage.name and stage.name.lower() == name.lower():
                return stage
        return self.stages[int(name)] if name.isdigit() and int(name) < len(self.stages) else None


@dataclass(slots=True)
class _Statement:
    """A logical line, its continuations joined."""

    line: int
    text: str
    documents: list[HereDocument] = field(default_factory=lambda: list[HereDocument]())


@dataclass(slots=True)
class _Parts:
    """A statement cut into name, flags and the rest."""

    name: str
    rest: str
    flags: list[tuple[str, str]]
    documents: tuple[HereDocument, ...]
    escape: str

    def flag(self, name: str) -> str:
        return next((value for key, value in self.flags if key == name), "")

    def all_flags(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.flags if key == name)


class _Refusal(Exception):
    """A statement that is wrong; the place is added by whoever knows it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(?:^|(?<=\s))\d*<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.]*)\2(?=\s|$)")
_HEREDOC_INSTRUCTIONS = ("ADD", "COPY", "RUN")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?:=(\S*))?(?:\s+|$)")


def parse(text: str, *, file: str = "Dockerfile") -> Dockerfile:
    """Reads a file's text; raises `BuildError` with the line."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _escape_directive(lines, file)
    instructions = [_instruction(s, escape, file) for s in _statements(lines, escape, file)]
    if not instructions:
        raise BuildError("file with no instructions", file=file, hint="A Dockerfile begins with a FROM line.")
    return _staged(instructions, escape, file)


def parse_instruction(text: str, *, escape: str = "\\", file: str = "ONBUILD", line: int = 0) -> Instruction:
    """Reads a single instruction, as an ONBUILD trigger holds it."""
    return _instruction(_Statement(line, text), escape, file)


def _escape_directive(lines: list[str], file: str) -> str:
    """Directives stand before everything else, also before comments."""
    escape = "\\"
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _KNOWN_DIRECTIVES:
            break
        if match[1].lower() == "escape":
            escape = match[2]
            if escape not in ("\\", "`"):
                raise BuildError(f"invalid escape token '{escape}' does not match ` or \\", file=file, line=number)
    return escape


def _statements(lines: list[str], escape: str, file: str) -> Iterator[_Statement]:
    continuation = re.compile(re.escape(escape) + r"[ \t]*$")
    at = 0
    while at < len(lines):
        start = at
        if not lines[at].strip() or lines[at].lstrip().startswith("#"):
            at += 1
            continue
        text, at = _joined(lines, at, continuation)
        statement = _Statement(start + 1, text.strip())
        at = _take_documents(statement, lines, at, file)
        yield statement


def _joined(lines: list[str], at: int, continuation: re.Pattern[str]) -> tuple[str, int]:
    """Comments and empty lines between continued lines are skipped."""
    text = ""
    while at < len(lines):
        line = lines[at]
        at += 1
        if text and (not line.strip() or line.lstrip().startswith("#")):
            continue
        cut = continuation.search(line)
        if cut is None:
            return text + line, at
        text += line[: cut.start()]
    return text, at


def _take_documents(statement: _Statement, lines: list[str], at: int, file: str) -> int:
    if statement.text.split(maxsplit=1)[0].upper() not in _HEREDOC_INSTRUCTIONS:
        return at
    for dash, quote, name in _HEREDOC.findall(statement.text):
        body: list[str] = []
        while True:
            if at >= len(lines):
                hint = f"End it with a line that holds only {name}."
                raise BuildError("unterminated heredoc", file=file, line=statement.line, hint=hint)
            line = lines[at].lstrip("\t") if dash else lines[at]
            at += 1
            if line == name:
                break
            body.append(line + "\n")
        statement.documents.append(HereDocument(name, "".join(body), not quote))
    return at


def _instruction(statement: _Statement, escape: str, file: str) -> Instruction:
    try:
        action = _action(statement, escape)
    except _Refusal as refusal:
        raise BuildError(refusal.message, file=file, line=statement.line, hint=refusal.hint) from None
    return Instruction(action, statement.line, statement.text)


def _action(statement: _Statement, escape: str) -> Action:
    word, rest = _cut_blank(statement.text)
    name = word.upper()
    reader = _READERS.get(name)
    if reader is None:
        raise _unknown_instruction(word)
    known, read = reader
    flags, rest = _flags(rest.strip(), known)
    return read(_Parts(name, rest, flags, tuple(statement.documents), escape))


def _cut_blank(text: str) -> tuple[str, str]:
    """The first word and the rest; both may be empty."""
    parts = [*text.split(maxsplit=1), "", ""]
    return parts[0], parts[1]


def _unknown_instruction(word: str) -> _Refusal:
    near = difflib.get_close_matches(word.upper(), _READERS, n=1)
    return _Refusal(f"unknown instruction: {word}" + (f" (did you mean {near[0]}?)" if near else ""))


def _flags(rest: str, known: tuple[str, ...]) -> tuple[list[tuple[str, str]], str]:
    flags: list[tuple[str, str]] = []
    while match := _FLAG.match(rest):
        if match[1] not in known:
            near = difflib.get_close_matches(match[1], known, n=1)
            raise _Refusal(f"unknown flag: --{match[1]}" + (f" (did you mean {near[0]}?)" if near else ""))
        flags.append((match[1], "true" if match[2] is None else match[2]))
        rest = rest[match.end() :]
    return flags, rest.removeprefix("-- ")


def _staged(instructions: list[Instruction], escape: str, file: str) -> Dockerfile:
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    for instruction in instructions:
        if isinstance(instruction.action, From):
            stages.append(Stage(len(stages), instruction.action, instruction.line, ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.index, last.base, last.line, (*last.instructions, instruction))
        elif isinstance(instruction.action, Arg):
            arguments.append(instruction)
        else:
            hint = "Only ARG may stand before the first FROM."
            raise BuildError("no build stage in current context", file=file, line=instruction.line, hint=hint)
    if not stages:
        raise BuildError("no build stage in current context", file=file, line=instructions[-1].line)
    return Dockerfile(file, escape, tuple(arguments), tuple(stages))


def _read_from(parts: _Parts) -> From:
    words = parts.rest.split()
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            message = f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols'
            raise _Refusal(message)
        return From(words[0], name, parts.flag("platform"))
    if len(words) != 1:
        raise _Refusal("FROM requires either one or three arguments", "Write `FROM image` or `FROM image AS name`.")
    return From(words[0], "", parts.flag("platform"))


def _read_arg(parts: _Parts) -> Arg:
    words = split(parts.rest, parts.escape)
    if not words:
        raise _Refusal("ARG requires at least one argument")
    items: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise _Refusal("ARG names can not be blank")
        items.append((name, value if equals else None))
    return Arg(tuple(items))


def _read_env(parts: _Parts) -> Env:
    return Env(_pairs(parts))


def _read_label(parts: _Parts) -> Label:
    return Label(_pairs(parts))


def _pairs(parts: _Parts) -> tuple[tuple[str, str], ...]:
    """`NAME=value NAME=value`, or the old form `NAME the rest of the line`."""
    words = split(parts.rest, parts.escape)
    if not words:
        raise _Refusal(f"{parts.name} requires at least one argument")
    if "=" not in words[0]:
        if len(words) < 2:
            raise _Refusal(f"{parts.name} must have two arguments", f"Write `{parts.name} {words[0]}=value`.")
        return ((words[0], parts.rest[len(words[0]) :].strip()),)
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise _Refusal(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not name:
            raise _Refusal(f"{parts.name} names can not be blank")
        pairs.append((name, value))
    return tuple(pairs)


def _read_copy(parts: _Parts) -> Copy:
    words = _json_words(parts.rest)
    if words is None:
        words = tuple(parts.rest.split())
    names = {document.name for document in parts.documents}
    sources = tuple(word for word in words[:-1] if _document_name(word) not in names)
    if len(words) < 2:
        only = ", but only one was provided. Destination could not be determined" if words else ""
        raise _Refusal(f"{parts.name} requires at least two arguments{only}")
    if len(words) > 2 and not words[-1].endswith("/"):
        hint = f"End the destination with a slash: `{words[-1]}/`."
        if "$" not in words[-1]:
            message = (
                f"When using {parts.name} with more than one source file, "
                "the destination must be a directory and end with a /"
            )
            raise _Refusal(message, hint)
    return Copy(
        sources,
        words[-1],
        from_=parts.flag("from"),
        chown=parts.flag("chown"),
        chmod=parts.flag("chmod"),
        add=parts.name == "ADD",
        parents=parts.flag("parents") == "true",
        excludes=parts.all_flags("exclude"),
        unpack={"": None, "true": True}.get(parts.flag("unpack"), False),
        documents=parts.documents,
    )


def _document_name(word: str) -> str:
    match = _HEREDOC.fullmatch(word)
    return match[3] if match else ""


def _read_run(parts: _Parts) -> Run:
    mounts = tuple(_run_mount(value) for value in parts.all_flags("mount"))
    network = parts.flag("network") or "default"
    if network not in ("default", "none", "host"):
        raise _Refusal(f'invalid network mode: "{network}"', "RUN --network takes default, none or host.")
    words = _json_words(parts.rest)
    if words is not None:
        return Run(words, shell=False, mounts=mounts, network=network, documents=parts.documents)
    if not parts.rest:
        raise _Refusal("RUN requires at least one argument")
    return Run((parts.rest,), shell=True, mounts=mounts, network=network, documents=parts.documents)


_MOUNT_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")


def _run_mount(value: str) -> RunMount:
    options: dict[str, str] = {}
    for entry in value.split(","):
        key, equals, setting = entry.partition("=")
        options[key.strip().lower()] = setting if equals else "true"
    kind = options.pop("type", "bind")
    if kind not in _MOUNT_TYPES:
        raise _Refusal(f'unsupported mount type "{kind}"', f"RUN --mount knows: {', '.join(_MOUNT_TYPES)}.")
    for names in (("target", "dst", "destination"), ("source", "src")):
        given = [options.pop(name) for name in names if name in options]
        if given:
            options[names[0]] = given[0]
    if kind in ("bind", "cache", "tmpfs") and "target" not in options:
        raise _Refusal("invalid mount target: target is required", "Add target=/path to the mount.")
    return RunMount(kind, options)


def _read_command(parts: _Parts) -> Command:
    words = _json_words(parts.rest)
    if words is not None:
        return Command(parts.name, words, shell=False)
    return Command(parts.name, (parts.rest,) if parts.rest else (), shell=True)


def _read_setting(parts: _Parts) -> Setting:
    if not parts.rest:
        raise _Refusal(f"{parts.name} requires exactly one argument")
    return Setting(parts.name, parts.rest)


def _read_listing(parts: _Parts) -> Listing:
    words = _json_words(parts.rest)
    if parts.name == "SHELL" and words is None:
        raise _Refusal("SHELL requires the arguments to be in JSON form", 'Write `SHELL ["/bin/bash", "-c"]`.')
    if words is None:
        words = tuple(split(parts.rest, parts.escape))
    if not words:
        raise _Refusal(f"{parts.name} requires at least one argument")
    return Listing(parts.name, words)


def _read_healthcheck(parts: _Parts) -> Health:
    kind, rest = _cut_blank(parts.rest)
    if not kind:
        raise _Refusal("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise _Refusal("HEALTHCHECK NONE takes no arguments")
        return Health(None)
    if kind.upper() != "CMD":
        raise _Refusal(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    words = _json_words(rest)
    test = ("CMD", *words) if words is not None else ("CMD-SHELL", rest) if rest else ()
    if len(test) < 2:
        raise _Refusal("Missing command after HEALTHCHECK CMD")
    times = [_duration(parts.flag(f)) for f in ("interval", "timeout", "start-period", "start-interval")]
    retries = parts.flag("retries")
    if retries and not retries.isdigit():
        raise _Refusal(f'--retries must be a number, not "{retries}"')
    return Health(Healthcheck(test, *times, retries=int(retries or 0)))


_DURATION_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def _duration(text: str) -> int:
    """A Go duration in nanoseconds; the empty text is 0."""
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise _Refusal(f'time: invalid duration "{text}"', "Durations look like 30s, 1m30s or 500ms.")
    return sum(int(float(number) * _DURATION_UNITS[unit]) for number, unit in parts)


_NOT_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")


def _read_onbuild(parts: _Parts) -> OnBuild:
    if not parts.rest:
        raise _Refusal("ONBUILD requires at least one argument")
    trigger = parts.rest.split(maxsplit=1)[0].upper()
    if trigger == "ONBUILD":
        raise _Refusal("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _NOT_TRIGGERS:
        raise _Refusal(f"{trigger} isn't allowed as an ONBUILD trigger")
    if trigger not in _READERS:
        raise _unknown_instruction(trigger)
    return OnBuild(parts.rest)


def _json_words(text: str) -> tuple[str, ...] | None:
    """The JSON form, or None: what is not a JSON list of texts is the shell form, as in Docker."""
    if not text.startswith("["):
        return None
    try:
        words = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):  # pyright: ignore[reportUnknownVariableType]  JSON
        return None
    return tuple(str(word) for word in words)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


_COPY_FLAGS = ("from", "chown", "chmod", "link", "parents", "exclude")
_ADD_FLAGS = ("chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude")
_HEALTH_FLAGS = ("interval", "timeout", "start-period", "start-interval", "retries")

_READERS: dict[str, tuple[tuple[str, ...], Callable[[_Parts], Action]]] = {
    "ADD": (_ADD_FLAGS, _read_copy),
    "ARG": ((), _read_arg),
    "CMD": ((), _read_command),
    "COPY": (_COPY_FLAGS, _read_copy),
    "ENTRYPOINT": ((), _read_command),
    "ENV": ((), _read_env),
    "EXPOSE": ((), _read_listing),
    "FROM": (("platform",), _read_from),
    "HEALTHCHECK": (_HEALTH_FLAGS, _read_healthcheck),
    "LABEL": ((), _read_label),
    "MAINTAINER": ((), _read_setting),
    "ONBUILD": ((), _read_onbuild),
    "RUN": (("mount", "network", "security", "device"), _read_run),
    "SHELL": ((), _read_listing),
    "STOPSIGNAL": ((), _read_setting),
    "USER": ((), _read_setting),
    "VOLUME": ((), _read_listing),
    "WORKDIR": ((), _read_setting),
}
