"""`make oracle`: how alike podling is to the real Kubernetes whose behaviour was recorded.

Starts an empty cluster of its own, replays the recordings against it, prints the score of each area, and removes the
cluster. Exits with 0 when every scenario could be played; the score itself is the result. Everything behind `--` goes
to the replayer (`-- --area A,B --only service -v`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support import kubectl  # noqa: E402  needs the path above
from support.people import Person  # noqa: E402

AGNHOST, PAUSE = "podling.test/agnhost:2.63", "podling.test/pause:3.10"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("oracle", type=Path, help="directory of the recordings and their replay.py")
    parser.add_argument("replay", nargs="*", help="options of the replayer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podling-oracle-", dir="/tmp") as home:
        person = Person("root" if os.getuid() == 0 else "rootless", Path(home), Path(sys.executable).parent)
        # the recorded cluster had none of them
        person.podling("up", "--empty", "--no-addons", "--name", "oracle")
        try:
            build_images(person)
            return replay(person, options.oracle, options.replay)
        finally:
            person.podling("down", "--name", "oracle")


def build_images(person: Person) -> None:
    context = REPOSITORY / "tests" / "support" / "agnhost"
    for tag in (AGNHOST, PAUSE):
        person.podling("build", "-q", "-t", tag, context, timeout=300)


def replay(person: Person, oracle: Path, options: list[str]) -> int:
    kubeconfig = person.home / "kubeconfig"
    binaries = [f"--kubectl={version}={kubectl.binary(version)}" for version in ("1.33", "1.36")]
    command = [
        *(sys.executable, oracle / "replay.py", "--kubeconfig", kubeconfig),
        *("--var", "node=podling-oracle", "--var", f"image_agnhost={AGNHOST}", "--var", f"image_pause={PAUSE}"),
        *binaries,
        *options,
        oracle / "train",
    ]
    done = subprocess.run([str(word) for word in command], check=False)
    return 0 if done.returncode in (0, 1) else done.returncode


if __name__ == "__main__":
    sys.exit(main())
