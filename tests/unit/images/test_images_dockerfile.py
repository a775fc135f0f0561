"""A Dockerfile is read as BuildKit reads it, and refused with its words and the line."""

import pytest

from podling.images.config import Healthcheck
from podling.images.dockerfile import (
    Action,
    Arg,
    Command,
    Copy,
    Dockerfile,
    Env,
    From,
    Health,
    HereDocument,
    Label,
    Listing,
    OnBuild,
    Run,
    RunMount,
    Setting,
    parse,
)
from podling.images.errors import BuildError


def actions(text: str) -> list[Action]:
    return [instruction.action for stage in parse(text).stages for instruction in stage.instructions]


def one(text: str) -> Action:
    [action] = actions("FROM x\n" + text)
    return action


def flask() -> Dockerfile:
    return parse(
        """\
# syntax=docker/dockerfile:1
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS Build
COPY requirements.txt .
RUN python -m venv /venv \\
    # a comment between the lines

 && /venv/bin/pip install -r requirements.txt

FROM --platform=linux/amd64 python:${PYTHON}-slim
COPY --from=build --chown=10001:10001 /venv /venv
USER 10001
CMD ["gunicorn", "app:app"]
"""
    )


def test_stages_have_names_numbers_and_lines() -> None:
    file = flask()
    assert [(s.index, s.name, s.line) for s in file.stages] == [(0, "build", 3), (1, "", 10)]
    assert file.stages[1].base == From("python:${PYTHON}-slim", "", "linux/amd64")
    assert file.stage("BUILD") is file.stages[0]
    assert file.stage("1") is file.stages[1]
    assert file.stage("2") is None
    assert file.arguments[0].action == Arg((("PYTHON", "3.12"),))


def test_continued_lines_are_one_instruction_and_comments_between_them_vanish() -> None:
    run = flask().stages[0].instructions[1]
    assert run.line == 5
    assert run.action == Run(("python -m venv /venv  && /venv/bin/pip install -r requirements.txt",), shell=True)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("ARG A B=1 C=", Arg((("A", None), ("B", "1"), ("C", "")))),
        ('ENV A=1 B="x y"', Env((("A", "1"), ("B", '"x y"')))),
        ("ENV A the rest  of it", Env((("A", "the rest  of it"),))),
        ('LABEL a="b c" d=e', Label((("a", '"b c"'), ("d", "e")))),
        ("copy a b/ c/", Copy(("a", "b/"), "c/")),
        ('COPY ["a b", "c"]', Copy(("a b",), "c")),
        ("COPY --from=0 --chmod=755 a b", Copy(("a",), "b", from_="0", chmod="755")),
        ("ADD a.tar.gz /opt/", Copy(("a.tar.gz",), "/opt/", add=True)),
        ('RUN ["a", "b c"]', Run(("a", "b c"), shell=False)),
        ("RUN [ -f x ] && y", Run(("[ -f x ] && y",), shell=True)),
        ("RUN --network=none x", Run(("x",), shell=True, network="none")),
        (
            "RUN --mount=type=cache,dst=/root/.cache,sharing=locked --mount=type=bind,src=a,target=/b,ro x",
            Run(
                ("x",),
                shell=True,
                mounts=(
                    RunMount("cache", {"sharing": "locked", "target": "/root/.cache"}),
                    RunMount("bind", {"ro": "true", "target": "/b", "source": "a"}),
                ),
            ),
        ),
        ('CMD ["a"]', Command("CMD", ("a",), shell=False)),
        ("ENTRYPOINT exec a $B", Command("ENTRYPOINT", ("exec a $B",), shell=True)),
        ("CMD []", Command("CMD", (), shell=False)),
        ("WORKDIR /a b", Setting("WORKDIR", "/a b")),
        ("USER 10001:0", Setting("USER", "10001:0")),
        ("STOPSIGNAL SIGQUIT", Setting("STOPSIGNAL", "SIGQUIT")),
        ("EXPOSE 80 443/tcp 53/udp", Listing("EXPOSE", ("80", "443/tcp", "53/udp"))),
        ('VOLUME ["/data"]', Listing("VOLUME", ("/data",))),
        ('SHELL ["/bin/bash", "-c"]', Listing("SHELL", ("/bin/bash", "-c"))),
        ("HEALTHCHECK NONE", Health(None)),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f x || exit 1",
            Health(Healthcheck(("CMD-SHELL", "curl -f x || exit 1"), 90 * 10**9, 500 * 10**6, retries=3)),
        ),
        ('HEALTHCHECK CMD ["a"]', Health(Healthcheck(("CMD", "a")))),
        ("ONBUILD COPY . /app", OnBuild("COPY . /app")),
    ],
)
def test_an_instruction_is_read(text: str, action: Action) -> None:
    assert one(text) == action


def test_here_documents_belong_to_their_instruction() -> None:
    run, copy = actions("FROM x\nRUN <<EOF\n  echo $A\nEOF\nCOPY <<-'a.txt' <<b /etc/\n\tone\n\ta.txt\ntwo\nb\n")
    assert run == Run(("<<EOF",), shell=True, documents=(HereDocument("EOF", "  echo $A\n", expand=True),))
    assert isinstance(copy, Copy)
    assert copy.sources == ()
    assert copy.destination == "/etc/"
    assert copy.documents == (
        HereDocument("a.txt", "one\n", expand=False),
        HereDocument("b", "two\n", expand=True),
    )


def test_a_shift_is_no_here_document() -> None:
    assert one("RUN echo $((1<<3))") == Run(("echo $((1<<3))",), shell=True)


def test_the_escape_character_can_be_a_backtick() -> None:
    file = parse("# escape=`\nFROM x\nRUN a `\n  b\nCOPY c:\\x d\n")
    assert file.escape == "`"
    assert [i.action for i in file.stages[0].instructions] == [Run(("a   b",), shell=True), Copy(("c:\\x",), "d")]


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM x\n").escape == "\\"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile: file with no instructions"),
        ("FORM x", "Dockerfile:1: unknown instruction: FORM (did you mean FROM?)"),
        ("\n\nRUN x", "Dockerfile:3: no build stage in current context"),
        ("ARG x", "Dockerfile:1: no build stage in current context"),
        ("FROM", "Dockerfile:1: FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'Dockerfile:1: invalid name for build stage: "1b", name can\'t start with a number'),
        ("FROM a\nCOPY b", "Dockerfile:2: COPY requires at least two arguments, but only one was provided."),
        ("FROM a\nCOPY a b c", "Dockerfile:2: When using COPY with more than one source file, the destination must be"),
        ("FROM a\nCOPY --form=b c d", "Dockerfile:2: unknown flag: --form (did you mean from?)"),
        ("FROM a\nENV b", "Dockerfile:2: ENV must have two arguments"),
        ("FROM a\nENV b=c d", 'Dockerfile:2: Syntax error - can\'t find = in "d". Must be of the form: name=value'),
        ("FROM a\nENV =c", "Dockerfile:2: ENV names can not be blank"),
        ("FROM a\nSHELL bash", "Dockerfile:2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK curl", 'Dockerfile:2: Unknown type "curl" in HEALTHCHECK (try CMD)'),
        ("FROM a\nHEALTHCHECK --interval=5x CMD a", 'Dockerfile:2: time: invalid duration "5x"'),
        ("FROM a\nRUN <<EOF\nx", "Dockerfile:2: unterminated heredoc"),
        ("FROM a\nRUN --mount=type=magic,target=/x y", 'Dockerfile:2: unsupported mount type "magic"'),
        ("FROM a\nONBUILD FROM b", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nWORKDIR", "Dockerfile:2: WORKDIR requires exactly one argument"),
        ("# escape=x\nFROM a", "Dockerfile:1: invalid escape token 'x' does not match ` or \\"),
    ],
)
def test_an_error_names_file_and_line(text: str, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)
