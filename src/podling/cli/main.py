"""`podling`: the commands. Each is a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

INTERRUPTED = 128 + 2
"""As a shell shows the end by SIGINT."""
COMMANDS = {
    "up": "Build, start and apply: from nothing to a running system.",
    "down": "End a cluster and leave nothing behind.",
    "status": "What runs, where it answers, and how it is.",
    "node": "Let a node fail, and come back.",
    "why": "What was decided about an object, and the reasons.",
    "build": "Build an image from a Dockerfile.",
    "logs": "What podling's own processes say.",
    "kubeconfig": "Print a cluster's kubeconfig.",
    "version": "Print the version.",
}


class LazyGroup(click.Group):
    """Knows the commands by name and loads `podling.cli.NAME:command` when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"podling.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="podling", message="%(prog)s %(version)s")
def podling() -> None:
    """Ordinary Kubernetes manifests on one machine: real pods, no Docker, no VM, no root."""


def main(args: Sequence[str] | None = None) -> None:
    """The console script. Ends with 0, 1 (it did not work), 2 (wrong usage) or 130 (interrupted)."""
    try:
        podling.main(args=args, prog_name="podling", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. What runs goes on: podling status shows it, podling down ends it.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has gone: `podling logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
