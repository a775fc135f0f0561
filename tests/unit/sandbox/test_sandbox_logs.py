"""Container output as log lines."""

from pathlib import Path

from podling.sandbox.logs import LINE_LIMIT, LineEncoder, LogFile, timestamp

MOMENT = 1_704_164_645_000_000_042


def test_a_timestamp_has_nanoseconds_and_is_in_utc():
    assert timestamp(MOMENT) == b"2024-01-02T03:04:05.000000042Z"


def test_each_line_is_told_with_its_stream():
    encoder = LineEncoder("stderr")
    assert encoder.feed(b"one\ntwo\n", MOMENT).splitlines() == [
        b"2024-01-02T03:04:05.000000042Z stderr F one",
        b"2024-01-02T03:04:05.000000042Z stderr F two",
    ]


def test_an_unfinished_line_waits_for_its_end():
    encoder = LineEncoder("stdout")
    assert encoder.feed(b"hel", MOMENT) == b""
    assert encoder.feed(b"lo\n", MOMENT).endswith(b" stdout F hello\n")
    assert encoder.finish(MOMENT) == b""


def test_a_last_line_without_a_newline_is_partial():
    encoder = LineEncoder("stdout")
    encoder.feed(b"bye", MOMENT)
    assert encoder.finish(MOMENT).endswith(b" stdout P bye\n")


def test_a_long_line_is_told_in_parts_however_it_arrives():
    whole, pieces = LineEncoder("stdout"), LineEncoder("stdout")
    line = b"x" * (2 * LINE_LIMIT + 5) + b"\n"
    at_once = whole.feed(line, MOMENT)
    bit_by_bit = b"".join(pieces.feed(line[i : i + 1000], MOMENT) for i in range(0, len(line), 1000))
    assert at_once == bit_by_bit
    assert [entry.split(b" ")[2] for entry in at_once.splitlines()] == [b"P", b"P", b"F"]


def test_a_log_that_grows_too_large_is_renamed_and_the_oldest_go(tmp_path: Path):
    log = LogFile(str(tmp_path / "pod" / "0.log"), max_bytes=100, max_files=3)
    for number in range(20):
        log.write(f"{number:039}\n".encode())
    log.close()
    files = sorted(path.name for path in (tmp_path / "pod").iterdir())
    assert len(files) == 3
    assert files[0] == "0.log"
    assert (tmp_path / "pod" / "0.log").read_text().splitlines()[-1].endswith("19")


def test_a_log_goes_on_where_a_former_one_ended(tmp_path: Path):
    path = tmp_path / "0.log"
    path.write_text("before\n")
    log = LogFile(str(path))
    log.write(b"after\n")
    log.close()
    assert path.read_text() == "before\nafter\n"


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    log = LogFile(str(tmp_path / "file" / "0.log"))
    log.write(b"lost\n")
    log.close()
