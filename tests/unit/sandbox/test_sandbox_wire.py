"""Messages between the processes of a node."""

import os
import socket
from collections.abc import Generator

import pytest

from podling.sandbox import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Generator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [1, wire.INLINE_LIMIT - 100, wire.INLINE_LIMIT * 40])
def test_a_message_of_any_size_arrives_whole_with_its_descriptors(pair: Pair, size: int):
    reader, writer = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    wire.send(pair[0], {"env": "x" * size}, [writer])
    received = wire.receive(pair[1])
    assert received is not None
    message, descriptors = received
    assert message == {"env": "x" * size}
    os.write(descriptors[0], b"through")
    assert os.read(reader, 10) == b"through"
    assert not os.get_inheritable(descriptors[0])
    wire.close_all(descriptors)
    assert len(os.listdir("/proc/self/fd")) == before
    wire.close_all([reader, writer])


def test_the_end_of_a_connection_is_no_error_even_with_unread_messages(pair: Pair):
    wire.send(pair[1], {"unread": True})
    pair[1].close()
    assert wire.receive(pair[0]) == ({"unread": True}, [])
    assert wire.receive(pair[0]) is None


def test_a_reset_is_an_end(pair: Pair):
    wire.send(pair[0], {"unread": True})
    pair[1].close()
    assert wire.receive(pair[0]) is None


def test_an_outbox_keeps_what_a_slow_reader_does_not_take(pair: Pair):
    pair[0].setblocking(False)
    outbox = wire.Outbox(pair[0])
    for number in range(1000):
        outbox.put({"number": number, "padding": "x" * 2000})
    assert not outbox.flush()
    numbers: list[int] = []
    while len(numbers) < 1000:
        received = wire.receive(pair[1])
        assert received is not None
        numbers.append(received[0]["number"])
        outbox.flush()
    assert numbers == list(range(1000))
    assert not outbox


def test_an_outbox_refuses_when_nobody_reads(pair: Pair):
    outbox = wire.Outbox(pair[0])
    with pytest.raises(ConnectionError):
        for number in range(10_000):
            outbox.put({"number": number})
