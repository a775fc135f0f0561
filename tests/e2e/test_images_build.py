"""Dockerfiles are built for real, as root and as a user without any privilege, with nothing from the network."""

import json
import zipfile
from pathlib import Path

import pytest

from support.people import Person

DOCKERFILE = """\
FROM python:3.12-slim AS build
COPY wheels /wheels
RUN python -m venv /venv && /venv/bin/pip install --no-index /wheels/*.whl

FROM python:3.12-slim
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=10001:10001 app.py .
ENV PATH=/venv/bin:$PATH
USER 10001
RUN test "$(id -u)" = 10001 && python app.py > /tmp/said && grep -qx "hello from 10001" /tmp/said
CMD ["python", "app.py"]
"""

APP = "import os, greet\nprint(greet.hello(), os.getuid())\n"

CHANGES = """\
FROM python:3.12-slim
RUN pip install --no-index --find-links /nowhere --help >/dev/null && pip --version
ENV MADE="/etc/made /usr/local/made /usr/share/made /var/made /srv/made"
RUN touch $MADE && mkdir /usr/local/lib/d && touch /usr/local/lib/d/x
RUN rm $MADE && rm -r /usr/local/lib/d && mkdir /usr/local/lib/d
RUN for file in $MADE /usr/local/lib/d/x; do test ! -e $file || exit 1; done
RUN --mount=type=cache,target=/cache echo kept > /cache/file
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch grep kept /cache/file && touch /scratch/x
RUN --mount=type=bind,source=app.py,target=/mounted/app.py,readonly grep greet /mounted/app.py
RUN test ! -e /mounted && test ! -e /cache && test ! -e /scratch && test ! -s /run/podling
RUN useradd --uid 4242 --create-home app || adduser --uid 4242 --disabled-password app
COPY --chown=app app.py /home/app/
USER app
RUN test "$(id -un)" = app && cat /home/app/app.py
"""


@pytest.fixture
def context(person: Person, tmp_path: Path) -> Path:
    """A project, in the person's home."""
    project = tmp_path / f"project-{tmp_path.name}"
    (project / "wheels").mkdir(parents=True)
    (project / "app.py").write_text(APP)
    (project / "Dockerfile").write_text(DOCKERFILE)
    _wheel(project / "wheels")
    return person.copy(project)


def _wheel(directory: Path) -> None:
    info = "greet-1.0.dist-info"
    with zipfile.ZipFile(directory / "greet-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greet.py", "def hello():\n    return 'hello from'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_a_multi_stage_python_image_is_built_and_then_recalled(person: Person, context: Path) -> None:
    first = person.podling("build", "-t", "greeter:v1", context)
    assert "standing in with the host's Python 3" in first.stdout + first.stderr
    again = person.podling("build", "-q", "-t", "greeter:v2", context)
    index = json.loads((person.home / "p/images/index.json").read_text())
    ids = {index[f"docker.io/library/greeter:{tag}"]["id"] for tag in ("v1", "v2")}
    assert ids == {again.stdout.strip()}


def test_steps_change_the_image_and_leave_no_trace_of_their_own(person: Person, context: Path) -> None:
    (context / "Dockerfile").write_text(CHANGES)
    person.podling("build", "-v", "-t", "changes:v1", context)


def test_a_failing_step_shows_its_output_its_line_and_its_code(person: Person, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM debian:12\nRUN true\nRUN echo something to say; exit 7\n")
    failed = person.podling("build", context, check=False)
    assert failed.returncode != 0
    said = failed.stdout + failed.stderr
    assert "something to say" in said
    assert "Dockerfile:3: " in said
    assert 'process "/bin/sh -c echo something to say; exit 7" did not complete successfully: exit code: 7' in said


def test_a_command_that_is_not_there_is_named(person: Person, context: Path) -> None:
    (context / "Dockerfile").write_text('FROM debian:12\nRUN ["no-such-program"]\n')
    said = person.podling("build", context, check=False)
    assert 'exec: "no-such-program": executable file not found in $PATH' in said.stdout + said.stderr
