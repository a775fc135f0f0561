"""What a Dockerfile makes of a context: layers, configuration, cache, errors with their line.

RUN is executed by a runner that the test passes in: the real one, with namespaces, is tested end to end.
"""

import errno
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podling.images import builder, view
from podling.images.builder import Progress
from podling.images.credentials import Credentials
from podling.images.errors import BuildError
from podling.images.execution import Execution
from podling.images.host import Host
from podling.images.manager import Images
from podling.images.references import Reference
from podling.images.registry import Registry, RegistryUnreachable
from podling.images.store import Image, Store


class NoRegistry(Registry):
    def pull(self, reference: Reference, store: Store, credentials: Credentials) -> Image:
        raise RegistryUnreachable("no way")


class Shop:
    """A context, a store, and what happened."""

    def __init__(self, root: Path) -> None:
        self.context = root / "context"
        self.context.mkdir()
        machine = Host(root / "home", {"PATH": "/usr/bin:/bin"})
        self.images = Images(root / "images", registry=NoRegistry(), machine=machine)
        self.events: list[Progress] = []
        self.executions: list[Execution] = []
        self.effect: Callable[[Path], int] = lambda _: 0

    def file(self, name: str, text: str = "", mode: int = 0o644) -> None:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def build(self, text: str, *, tags: tuple[str, ...] = (), target: str = "", **build_args: str) -> Image:
        self.file("Dockerfile", text)
        self.events.clear()
        return builder.build(
            self.context,
            images=self.images,
            tags=tags,
            target=target,
            build_args=build_args,
            progress=self.events.append,
            runner=self._run,
        )

    def tree(self, image: Image) -> view.ImageView:
        return view.ImageView([Path(lower) for lower in image.lowers])

    def paths(self, image: Image) -> list[str]:
        return [entry.path for entry in view.walk(self.tree(image), "/")]

    def read(self, image: Image, path: str) -> str:
        return view.read_text(self.tree(image), path)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind in ("cached", "done")]

    def _run(self, execution: Execution, staging: Path, output: Callable[[str], None]) -> int:
        self.executions.append(execution)
        (staging / "layer").mkdir()
        output("hello from " + execution.args[-1])
        return self.effect(staging / "layer")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_description_ends_in_the_configuration(shop: Shop) -> None:
    image = shop.build(
        """\
FROM scratch
ENV A=1 B="two words" PATH=/app:$PATH
LABEL org.example=yes
WORKDIR /app
WORKDIR sub
USER 10001
EXPOSE 5000 53/udp 8000-8001
VOLUME /data
STOPSIGNAL SIGQUIT
ENTRYPOINT ["python"]
CMD ["-m", "app"]
"""
    )
    settings = image.config
    assert settings.environment()["B"] == "two words"
    assert settings.environment()["PATH"].startswith("/app:/usr/local/sbin")
    assert settings.working_dir == "/app/sub"
    assert (settings.user, settings.stop_signal, settings.volumes) == ("10001", "SIGQUIT", ("/data",))
    assert settings.exposed_ports == ("5000/tcp", "53/udp", "8000/tcp", "8001/tcp")
    assert (settings.entrypoint, settings.cmd) == (("python",), ("-m", "app"))
    assert settings.labels == {"org.example": "yes"}
    assert shop.paths(image) == ["/app", "/app/sub"]


def test_shell_forms_are_run_by_the_shell(shop: Shop) -> None:
    image = shop.build('FROM scratch\nCMD echo $A\nSHELL ["/bin/bash", "-ec"]\nENTRYPOINT exec x\n')
    assert image.config.cmd == ("/bin/sh", "-c", "echo $A")
    assert image.config.entrypoint == ("/bin/bash", "-ec", "exec x")


def test_an_entrypoint_clears_only_an_inherited_command(shop: Shop) -> None:
    shop.build('FROM scratch\nCMD ["a"]\n', tags=("base:1",))
    assert shop.build('FROM base:1\nENTRYPOINT ["e"]\n').config.cmd == ()
    assert shop.build('FROM base:1\nCMD ["b"]\nENTRYPOINT ["e"]\n').config.cmd == ("b",)


def test_copy_puts_files_where_docker_would(shop: Shop) -> None:
    for name in ("a.txt", "b.txt", "d/e/f.txt", "d/g.sh", ".hidden"):
        shop.file(name, name)
    shop.file("tool", "x", 0o755)
    image = shop.build(
        """\
FROM scratch
WORKDIR /w
COPY a.txt renamed.txt
COPY *.txt sub/
COPY d /tree
COPY d/e /tree2/
COPY tool /usr/bin/
COPY --chmod=600 a.txt b.txt /secret/
COPY ["a.txt", "/x y"]
"""
    )
    tree = shop.tree(image)
    files = [entry.path for entry in view.walk(tree, "/") if entry.is_file]
    assert files == [
        "/secret/a.txt",
        "/secret/b.txt",
        "/tree/e/f.txt",
        "/tree/g.sh",
        "/tree2/f.txt",
        "/usr/bin/tool",
        "/w/renamed.txt",
        "/w/sub/a.txt",
        "/w/sub/b.txt",
        "/x y",
    ]
    modes = {path: (e.status.st_mode & 0o777) for path in files if (e := tree.entry(path)) is not None}
    assert (modes["/usr/bin/tool"], modes["/secret/a.txt"], modes["/w/renamed.txt"]) == (0o755, 0o600, 0o644)


def test_ignored_files_never_arrive(shop: Shop) -> None:
    shop.file(".dockerignore", "*.log\nsecret\n!keep.log\n")
    for name in ("a.log", "keep.log", "secret/key", "app.py"):
        shop.file(name)
    image = shop.build("FROM scratch\nCOPY . /app/\n")
    assert shop.paths(image) == ["/app", "/app/.dockerignore", "/app/Dockerfile", "/app/app.py", "/app/keep.log"]


def test_links_are_kept_inside_and_followed_at_the_top(shop: Shop) -> None:
    shop.file("real/file", "content")
    (shop.context / "real/inner").symlink_to("file")
    (shop.context / "top").symlink_to("real")
    image = shop.build("FROM scratch\nCOPY top /t\n")
    entry = shop.tree(image).entry("/t/inner")
    assert entry is not None
    assert entry.is_link
    assert shop.read(image, "/t/inner") == "content"


def test_a_destination_behind_a_link_is_followed_in_the_image(shop: Shop) -> None:
    (shop.context / "bin").symlink_to("usr/bin")
    shop.file("root/usr/bin/sh", "shell")
    (shop.context / "root/bin").symlink_to("usr/bin")
    shop.file("tool", "tool")
    image = shop.build("FROM scratch\nCOPY root/ /\nCOPY tool /bin/\n")
    assert shop.read(image, "/usr/bin/tool") == "tool"
    assert shop.read(image, "/bin/sh") == "shell"


def test_a_link_in_the_context_does_not_lead_out_of_it(shop: Shop) -> None:
    (shop.context / "out").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="not found"):
        shop.build("FROM scratch\nCOPY out /x\n")
    with pytest.raises(BuildError, match="not found"):
        shop.build("FROM scratch\nCOPY ../../../etc/passwd /x\n")


def test_stages_that_are_not_needed_are_not_built(shop: Shop) -> None:
    shop.file("a")
    text = (
        "FROM scratch AS one\nCOPY a /one\nFROM scratch AS two\nCOPY nothing /\n"
        "FROM scratch AS three\nCOPY --from=one /one /three\n"
    )
    assert shop.paths(shop.build(text)) == ["/three"]
    assert shop.paths(shop.build(text, target="one")) == ["/one"]
    with pytest.raises(BuildError, match="target stage 'four' could not be found"):
        shop.build(text, target="four")


def test_a_stage_may_begin_with_another(shop: Shop) -> None:
    image = shop.build("FROM scratch AS base\nENV A=1\nWORKDIR /b\nFROM base\nENV B=$A$A\n")
    assert image.config.environment()["B"] == "11"
    assert image.config.working_dir == "/b"


def test_build_arguments_have_dockers_scopes(shop: Shop) -> None:
    text = (
        "ARG TAG=x\nARG G=global\nFROM scratch AS stage-$TAG\nARG G\nARG D=default\nARG TAG=${D}-y\nARG TARGETARCH\n"
        'ENV E="$G $D $TAG $MISSING $TARGETARCH"\n'
    )
    text = text.replace(" AS stage-$TAG", "")
    machine = shop.images.architecture
    assert shop.build(text).config.environment()["E"] == f"global default default-y  {machine}"
    assert shop.build(text, D="given", G="g2").config.environment()["E"] == f"g2 given given-y  {machine}"


def test_an_argument_that_nobody_asks_for_is_mentioned(shop: Shop) -> None:
    shop.build("FROM scratch\n", NOBODY="1", HTTP_PROXY="x")
    assert [e.text for e in shop.events if e.kind == "note"] == [
        "[Warning] One or more build-args [NOBODY] were not consumed"
    ]


def test_run_gets_environment_directory_and_shell(shop: Shop) -> None:
    shop.build("FROM scratch\nARG V=1\nENV E=2\nWORKDIR /w\nUSER 7:8\nRUN echo $V $E\n")
    [execution] = shop.executions
    assert execution.args == ("/bin/sh", "-c", "echo $V $E")
    assert (execution.environment["V"], execution.environment["E"], execution.environment["HOME"]) == ("1", "2", "/")
    assert (execution.directory, execution.uid, execution.gid) == ("/w", 7, 8)
    assert "hello from echo $V $E" in [event.text for event in shop.events if event.kind == "output"]


def test_what_run_wrote_is_a_layer(shop: Shop) -> None:
    def write(layer: Path) -> int:
        (layer / "made").write_text("by run")
        return 0

    shop.effect = write
    assert shop.read(shop.build("FROM scratch\nRUN x\n"), "/made") == "by run"


def test_a_failing_run_names_the_line_and_the_code(shop: Shop) -> None:
    shop.effect = lambda _: 3
    with pytest.raises(BuildError) as caught:
        shop.build("FROM scratch\n\nRUN exit 3\n")
    assert (caught.value.line, caught.value.message) == (
        3,
        'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3',
    )


def test_run_documents_are_scripts(shop: Shop) -> None:
    shop.build("FROM scratch\nRUN <<EOF\nset -e\necho $A\nEOF\nRUN cat <<X >/f\nbody\nX\n")
    assert shop.executions[0].args[-1] == "set -e\necho $A\n"
    assert shop.executions[1].args[-1] == "cat <<X >/f\nbody\nX\n"


def test_copy_documents_are_files(shop: Shop) -> None:
    text = "FROM scratch\nENV A=1\nCOPY <<a.conf <<'b.conf' /etc/\nv=\"$A\" '${A}'\na.conf\nv=$A\nb.conf\n"
    image = shop.build(text)
    assert shop.read(image, "/etc/a.conf") == "v=\"1\" '1'\n"
    assert shop.read(image, "/etc/b.conf") == "v=$A\n"


def test_the_second_build_does_nothing(shop: Shop) -> None:
    shop.file("a", "1")
    text = "FROM scratch\nCOPY a /a\nRUN x\nLABEL v=1\n"
    first = shop.build(text, tags=("app:v1",))
    assert shop.kinds() == ["cached", "done", "done", "cached"], "only two steps are work"
    second = shop.build(text, tags=("app:v1",))
    assert first.id == second.id
    assert len(shop.executions) == 1
    assert shop.kinds() == ["cached"] * 4


def test_the_cache_sees_content_not_times(shop: Shop) -> None:
    shop.file("a", "1")
    text = "FROM scratch\nCOPY a /a\nRUN x\n"
    shop.build(text)
    os.utime(shop.context / "a", (1, 1))
    shop.build(text)
    assert len(shop.executions) == 1
    shop.file("a", "2")
    shop.build(text)
    assert len(shop.executions) == 2


def test_describing_an_image_does_not_break_the_cache(shop: Shop) -> None:
    shop.build("FROM scratch\nRUN x\n")
    shop.build("FROM scratch\nLABEL a=b\nEXPOSE 80\nRUN x\n")
    assert len(shop.executions) == 1
    shop.build("FROM scratch\nENV A=1\nRUN x\n")
    assert len(shop.executions) == 2


def test_add_unpacks_local_archives(shop: Shop) -> None:
    with tarfile.open(shop.context / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("dir/.wh.file")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    image = shop.build("FROM scratch\nADD a.tar.gz /opt/\nCOPY a.tar.gz /copied\n")
    assert shop.paths(image) == ["/copied", "/opt", "/opt/dir", "/opt/dir/.wh.file"]


def test_copy_from_another_image(shop: Shop) -> None:
    shop.file("a", "1")
    shop.build("FROM scratch\nCOPY a /a\n", tags=("other:1",))
    assert shop.paths(shop.build("FROM scratch\nCOPY --from=other:1 /a /b\n")) == ["/b"]


def test_onbuild_runs_in_the_next_build(shop: Shop) -> None:
    shop.file("a")
    shop.build("FROM scratch\nONBUILD COPY a /later\n", tags=("base:1",))
    image = shop.build("FROM base:1\n")
    assert shop.paths(image) == ["/later"]
    assert image.config.on_build == ()


def test_a_mount_of_the_context_is_a_copy_that_the_cache_sees(shop: Shop) -> None:
    shop.file("src/a", "1")
    seen: list[str] = []

    def look(_: Path) -> int:
        [mount] = shop.executions[-1].mounts
        seen.append((Path(mount.get("source", "")) / "a").read_text())
        return 0

    shop.effect = look
    text = "FROM scratch\nRUN --mount=type=bind,source=src,target=/m x\n"
    shop.build(text)
    shop.build(text)
    shop.file("src/a", "2")
    shop.build(text)
    assert seen == ["1", "2"]


def test_a_cache_mount_lives_on(shop: Shop) -> None:
    sources: list[str] = []

    def look(_: Path) -> int:
        sources.append(shop.executions[-1].mounts[0].get("source", ""))
        return 0

    shop.effect = look
    shop.build("FROM scratch\nRUN --mount=type=cache,target=/root/.cache x\n")
    shop.build("FROM scratch\nRUN --mount=type=cache,target=/root/.cache y\n")
    assert sources[0] == sources[1]
    assert Path(sources[0]).is_dir()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("FROM scratch\nCOPY nope /\n", 2, 'failed to calculate checksum of ref: "/nope": not found'),
        ("FROM scratch\nCOPY --from=9 /a /\n", 2, "invalid stage index 9"),
        (
            "FROM scratch\nCOPY --chown=nobody a /\n",
            2,
            "unable to find user nobody: no matching entries in passwd file",
        ),
        ("FROM scratch\nCOPY --chmod=9 a /\n", 2, "invalid chmod parameter: '9'"),
        ("FROM scratch\nADD https://x.example/y /\n", 2, "ADD of a URL is not supported: https://x.example/y"),
        ("FROM scratch\nEXPOSE x\n", 2, "invalid containerPort: x"),
        ("FROM scratch\nENV A=${B\n", 2, "failed to process \"${B\": syntax error: missing '}'"),
        ("FROM $NOPE\n", 1, "base name ($NOPE) should not be blank"),
        ("FROM scratch\nRUN --mount=type=secret,id=s,required=true x\n", 2, "secret s: not found"),
        (
            "FROM scratch\nRUN --mount=type=cache,target=/c,uid=app x\n",
            2,
            "invalid cache mount: invalid literal for int() with base 10: 'app'",
        ),
        ("FROM scratch\nCOPY a /f\nCOPY a /f/g\n", 3, "cannot create directory /f: it is a file"),
    ],
)
def test_errors_name_the_line(shop: Shop, text: str, line: int, message: str) -> None:
    shop.file("a")
    with pytest.raises(BuildError) as caught:
        shop.build(text)
    assert (caught.value.line, caught.value.message) == (line, message)


def test_what_dockerignore_hides_is_said(shop: Shop) -> None:
    shop.file(".dockerignore", "hidden")
    shop.file("hidden")
    with pytest.raises(BuildError, match="dockerignore keeps it out"):
        shop.build("FROM scratch\nCOPY hidden /\n")


def test_an_unknown_base_says_why(shop: Shop) -> None:
    with pytest.raises(BuildError, match=r"Dockerfile:1: nope:1: .*failed to pull and unpack image") as caught:
        shop.build("FROM nope:1\n")
    assert caught.value.line == 1


def test_a_missing_dockerfile_is_named(shop: Shop) -> None:
    with pytest.raises(BuildError, match="failed to read dockerfile: open Dockerfile: no such file or directory"):
        builder.build(shop.context, images=shop.images)


def test_the_host_stands_in_aloud(shop: Shop) -> None:
    image = shop.build("FROM debian:12\nCMD x\n")
    assert image.host_base
    [note] = [event.text for event in shop.events if event.kind == "note"]
    assert note.startswith("debian:12: no registry answered; standing in with the host's ")


def test_a_full_disk_is_said_with_the_mend(shop: Shop) -> None:
    def fill(_: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/images/x")

    shop.effect = fill
    with pytest.raises(BuildError, match=r"^/images/x: No space left on device\n  Free some space"):
        shop.build("FROM scratch\nRUN x\n")
    assert list((shop.images.store.root / "staging").iterdir()) == []
