"""`python runner.py SCRIPT STORY NAMESPACE` tells one story, a function of a script, in the client's environment."""

import asyncio
import inspect
import os
import runpy
import sys


def main(script: str, story: str, namespace: str) -> None:
    told = runpy.run_path(script)[story](namespace)
    if inspect.iscoroutine(told):
        asyncio.run(told)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a client's threads may still wait for something


if __name__ == "__main__":
    main(*sys.argv[1:])
