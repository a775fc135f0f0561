"""Reading container logs: which lines, in which form, and until when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from node_fakes import until

from podling.api.errors import ApiError
from podling.node.logs import LogOptions, last_output, logged_container, stream

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def line(second: int, text: str, name: str = "stdout", tag: str = "F") -> str:
    return f"2026-01-01T12:00:{second:02d}.000000000Z {name} {tag} {text}\n"


def read(path: Path, **options: Any) -> str:
    async def main() -> str:
        chunks = stream(path, LogOptions(**options), NOW, lambda: False, asyncio.Event())
        return b"".join([chunk async for chunk in chunks]).decode()

    return asyncio.run(main())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "0.log.20260101-120002").write_text(line(1, "one") + line(2, "two"))
    path = tmp_path / "0.log"
    path.write_text(line(3, "thr", tag="P") + line(3, "ee") + line(4, "oops", "stderr") + line(5, ""))
    return path


def test_all_of_it_rotated_files_included(log: Path) -> None:
    assert read(log) == "one\ntwo\nthree\noops\n\n"


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"tail_lines": 3}, "three\noops\n\n"),
        ({"tail_lines": 0}, ""),
        ({"limit_bytes": 6}, "one\ntw"),
        ({"since_seconds": 27}, "three\noops\n\n"),
        ({"since_time": datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)}, "\n"),
        ({"stream": "Stderr"}, "oops\n"),
        ({"tail_lines": 3, "timestamps": True, "limit_bytes": 37}, "2026-01-01T12:00:03.000000000Z three\n"),
    ],
)
def test_options_choose(log: Path, options: dict[str, Any], output: str) -> None:
    assert read(log, **options) == output


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("garbage\n" + line(1, "one") + "2026-01-01T12")
    assert read(path) == "one\n"


def test_no_file_is_no_output(tmp_path: Path) -> None:
    assert read(tmp_path / "0.log") == ""


def test_the_end_of_it_for_a_termination_message(log: Path) -> None:
    assert last_output(log, 2, 100) == "oops\n\n"
    assert last_output(log, 80, 3) == "s\n\n"


def test_following_goes_through_a_rotation_to_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "0.log"
        path.write_text(line(1, "one"))
        alive, ended = {"yes": True}, asyncio.Event()
        found: list[bytes] = []

        async def follow() -> None:
            async for chunk in stream(path, LogOptions(follow=True), NOW, lambda: alive["yes"], ended):
                found.append(chunk)

        async def seen(text: str) -> None:
            await until(lambda: text in b"".join(found).decode(), 5)

        follower = asyncio.create_task(follow())
        await seen("one\n")
        with path.open("a") as file:
            file.write(line(2, "two"))
        await seen("two\n")
        with path.open("a") as file:
            file.write(line(3, "three"))
        path.rename(tmp_path / "0.log.20260101-120003")
        path.write_text(line(4, "four"))
        await seen("four\n")
        with path.open("a") as file:
            file.write(line(5, "last"))
        alive["yes"] = False
        ended.set()
        await asyncio.wait_for(follower, 5)
        assert b"".join(found) == b"one\ntwo\nthree\nfour\nlast\n"

    asyncio.run(main())


class TestWhichRun:
    def pod(self, **status: Any) -> dict[str, Any]:
        return {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", **status}]}}

    @pytest.mark.parametrize(
        ("status", "previous", "message"),
        [
            ({"state": {"running": {}}}, True, 'previous terminated container "c" in pod "p" not found'),
            (
                {"state": {"waiting": {"reason": "PodInitializing"}}},
                False,
                'container "c" in pod "p" is waiting to start: PodInitializing',
            ),
            (
                {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
                False,
                'container "c" in pod "p" is waiting to start: trying and failing to pull image',
            ),
            ({"name": "other"}, False, 'container "c" in pod "p" is not available'),
        ],
    )
    def test_refusals(self, status: dict[str, Any], previous: bool, message: str) -> None:
        with pytest.raises(ApiError) as error:
            logged_container(self.pod(**status), "c", previous=previous)
        assert (error.value.code, error.value.message) == (400, message)

    def test_a_crash_loop_shows_the_last_run(self) -> None:
        last = {"terminated": {"containerID": "podling://1"}}
        pod = self.pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=last)
        assert logged_container(pod, "c", previous=False) == "podling://1"
        assert logged_container(pod, "c", previous=True) == "podling://1"
