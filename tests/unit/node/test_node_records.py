"""What is written down of a pod is there for the next daemon, whatever moment the last one ended at."""

from pathlib import Path

from podling.node import records
from podling.node.records import Record
from podling.node.state import Role, Slot


def record(sandboxes: int) -> Record:
    return Record("u-1", "default", "web", 1.0, sandboxes=sandboxes)


def found(pods: Path) -> list[tuple[int, list[str]]]:
    return [(found.sandboxes, list(slots)) for found, slots in records.load_all(pods)]


def test_the_last_state_counts(tmp_path: Path) -> None:
    record(1).save(tmp_path / "u-1", [])
    record(2).save(tmp_path / "u-1", [Slot("app", Role.MAIN)])
    assert found(tmp_path) == [(2, ["app"])]


def test_a_line_that_was_cut_short_does_not_count_and_spoils_no_later_one(tmp_path: Path) -> None:
    record(1).save(tmp_path / "u-1", [])
    with (tmp_path / "u-1" / records.FILE).open("ab") as file:
        file.write(b'\n{"uid": "u-1", "namesp')
    assert found(tmp_path) == [(1, [])]
    record(2).save(tmp_path / "u-1", [])
    assert found(tmp_path) == [(2, [])]


def test_a_file_with_nothing_readable_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "u-1").mkdir()
    (tmp_path / "u-1" / records.FILE).write_bytes(b"[]\n{")
    assert found(tmp_path) == []


def test_the_file_of_a_pod_that_restarts_for_ever_stays_small(tmp_path: Path) -> None:
    file = tmp_path / "u-1" / records.FILE
    sizes: list[int] = []
    for number in range(1000):
        record(number).save(tmp_path / "u-1", [])
        sizes.append(file.stat().st_size)
    assert max(sizes) < records.MOST_BYTES + 1000
    assert found(tmp_path) == [(999, [])]
