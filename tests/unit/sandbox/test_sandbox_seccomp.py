"""The filters, run by a small interpreter of their instruction set."""

import errno
import struct

import pytest

from podling.sandbox import capabilities, seccomp

ALLOW = 0x7FFF0000


def run(program: bytes, number: int, *, machine: str = "x86_64", argument: int = 0, audit: int | None = None) -> int:
    data = struct.pack("=iIQQ", number, seccomp.AUDIT[machine] if audit is None else audit, 0, argument)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        code, true, false, value = instructions[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
            continue
        holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
        at += true if holds else false


def errno_of(verdict: int) -> int | None:
    return verdict & 0xFFFF if verdict >> 16 == 5 else None


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_fake_root_answers_identity_calls_with_success_and_lets_all_others_through(machine: str, column: int):
    program = seccomp.fake_root(machine)
    faked = {numbers[column] for numbers in seccomp.FAKE_ROOT.values()}
    for number in range(450):
        expected = 0 if number in faked else None
        assert errno_of(run(program, number, machine=machine)) == expected


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_runtime_default_refuses_its_list_and_lets_all_others_through(machine: str, column: int):
    program = seccomp.runtime_default(machine)
    refused = {numbers[column] for numbers in seccomp.REFUSED.values()}
    for number in range(450):
        verdict = run(program, number, machine=machine)
        if number == 435:
            assert errno_of(verdict) == errno.ENOSYS
        elif number in refused:
            assert errno_of(verdict) == errno.EPERM
        else:
            assert verdict == ALLOW


def test_a_container_may_fork_but_not_make_namespaces():
    program = seccomp.runtime_default("x86_64")
    assert run(program, 56, argument=0x11) == ALLOW
    assert errno_of(run(program, 56, argument=0x10000000)) == errno.EPERM


def test_the_other_call_conventions_of_the_machine_are_no_way_around():
    program = seccomp.runtime_default("x86_64")
    assert errno_of(run(program, 165 | 0x40000000)) == errno.ENOSYS
    assert errno_of(run(program, 21, audit=0x40000003)) == errno.ENOSYS


def test_capability_names_are_read_as_manifests_write_them():
    assert capabilities.numbers(["NET_ADMIN", "CAP_CHOWN"]) == {12, 0}
    assert len(capabilities.numbers(["ALL"])) == 41
    with pytest.raises(ValueError, match="unknown capability"):
        capabilities.numbers(["SYS_EVERYTHING"])
