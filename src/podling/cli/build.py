"""`podling build`, and the building that `podling up` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from podling.cli import cluster
from podling.cli.progress import Progress, Step
from podling.images import builder
from podling.images.builder import Progress as BuildProgress
from podling.images.errors import BuildError
from podling.images.host import Host
from podling.images.manager import Images
from podling.images.store import Image
from podling.layout import default_home

OUTPUT_KEPT = 40
"""Lines of a failed step's output that are shown with the error."""


class Narrator:
    """Turns what the builder says into one moving line, and keeps the last output for when it fails."""

    def __init__(self, step: Step, say: Callable[[str], None], *, verbose: bool = False) -> None:
        self._step = step
        self._say = say
        self._verbose = verbose
        self.output: list[str] = []
        self.cached = 0
        self.total = 0

    def __call__(self, event: BuildProgress) -> None:
        if event.kind == "output":
            self.output = [*self.output[1 - OUTPUT_KEPT :], event.text]
            if self._verbose:
                self._say(f"    {event.text}")
        elif event.kind == "note":
            self._say(f"  note: {event.text}")
        elif event.kind == "start":
            self.output = []
            self.total = event.total
            self._step.detail(f"[{event.number}/{event.total}] {_shortened(event.text)}")
        elif event.kind == "cached":
            self.cached += 1

    def summary(self) -> str:
        return "(nothing changed)" if self.total == 0 or self.cached == self.total else ""


def _shortened(instruction: str, width: int = 70) -> str:
    line = " ".join(instruction.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def local_images() -> Images:
    return Images(default_home() / "images", machine=Host.current())


def run_build(
    images: Images,
    context: Path,
    tags: list[str],
    progress: Progress,
    *,
    dockerfile: Path | None = None,
    build_args: dict[str, str] | None = None,
    target: str = "",
    no_cache: bool = False,
    verbose: bool = False,
) -> Image:
    """Builds with progress lines. Raises `click.ClickException` with the place and the last output."""
    with progress.step(f"Building {', '.join(tags) or context}") as step:
        narrator = Narrator(step, progress.say, verbose=verbose)
        try:
            image = builder.build(
                context,
                images=images,
                dockerfile=dockerfile,
                tags=tags,
                build_args=build_args,
                target=target,
                progress=narrator,
                no_cache=no_cache,
            )
        except BuildError as error:
            output = [] if verbose else narrator.output
            raise click.ClickException("\n".join([*output, str(error)])) from error
        step.detail(narrator.summary())
    return image


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f'"{value}" is not of the form NAME=VALUE', param_hint="--build-arg")
        pairs[key] = text
    return pairs


@click.command("build", help="Build an image from CONTEXT (a directory) and its Dockerfile.")
@click.argument("context", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME:TAG", help="Name of the image; may be repeated.")
@click.option("-f", "--file", type=click.Path(path_type=Path), help="The Dockerfile, if not CONTEXT/Dockerfile.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME=VALUE", help="Value of an ARG.")
@click.option("--target", default="", help="Build this stage instead of the last.")
@click.option("--no-cache", is_flag=True, help="Execute every step, also those whose outcome is known.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the steps print.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the image's id.")
def command(
    context: Path,
    tags: tuple[str, ...],
    file: Path | None,
    build_args: tuple[str, ...],
    target: str,
    no_cache: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    with cluster.plain_errors():
        image = run_build(
            local_images(),
            context,
            list(tags),
            Progress(quiet=quiet),
            dockerfile=file,
            build_args=_pairs(build_args),
            target=target,
            no_cache=no_cache,
            verbose=verbose and not quiet,
        )
    click.echo(image.id)
