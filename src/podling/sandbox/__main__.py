"""The sandbox's own programs, run as a file so that they need neither the installed packages nor `site`.

python -S -E .../podling/sandbox/__main__.py node <descriptor> <name>  < configuration
python -S -E .../podling/sandbox/__main__.py probe <directory>
python -S -E .../podling/sandbox/__main__.py step <descriptor>
"""

import json
import os
import sys


def _find_ourselves() -> None:
    """Put the directory that holds `podling` in the place of our own, which would shadow the standard library."""
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _node(descriptor: int) -> None:
    from podling.sandbox import hosthelper

    configuration = json.load(sys.stdin)
    os.set_inheritable(descriptor, False)
    if os.fork():
        os._exit(0)  # whoever started us waits for this one only, and never becomes the parent of the node
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    hosthelper.main(configuration, descriptor)


def _probe(directory: str) -> int:
    from podling.sandbox import tiers

    try:
        outcome = {"tier": tiers.choose(directory)}
    except tiers.TierError as error:
        outcome = {"error": str(error)}
    sys.stdout.write(json.dumps(outcome) + "\n")
    return "error" in outcome


def _step(descriptor: int) -> None:
    from podling.sandbox import oneshot

    oneshot.main(descriptor)


def _main(arguments: list[str]) -> int:
    _find_ourselves()
    command = arguments[0] if arguments else ""
    if command == "node":
        _node(int(arguments[1]))
        return 0
    if command == "probe":
        return _probe(arguments[1])
    if command == "step":
        _step(int(arguments[1]))
        return 0
    sys.stderr.write(f"unknown command {command!r}\n")
    return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
