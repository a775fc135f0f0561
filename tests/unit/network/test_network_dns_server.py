"""The DNS server on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

from podling.network.dns import ClusterNames, encode_name
from podling.network.dns_server import DnsServer, HostNames

Resolve = Callable[[str], Awaitable[Sequence[str]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def question(name: str, kind: int = 1, number: int = 7) -> bytes:
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack(">HH", kind, 1)


def code(message: bytes) -> int:
    return message[3] & 15


class _Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.messages.put_nowait(data)


def ask(*questions: bytes, resolve: Resolve, tcp: bool = False) -> list[bytes]:
    """The answers, in the order of their coming."""

    async def work() -> list[bytes]:
        names = ClusterNames("cluster.local", "10.96.0.10")
        names.replace({"default/web": {"ips": ["10.96.0.50"], "ports": [], "groups": []}}, ["default"])
        server = DnsServer(names, HostNames(resolve))
        port = free_port()
        await server.listen("127.0.0.1", port)
        try:
            return await (by_tcp(port) if tcp else by_udp(port))
        finally:
            server.close()
            await asyncio.sleep(0)

    async def by_udp(port: int) -> list[bytes]:
        loop = asyncio.get_running_loop()
        transport, heard = await loop.create_datagram_endpoint(_Heard, remote_addr=("127.0.0.1", port))
        for asked in questions:
            transport.sendto(asked)
        answers = [await asyncio.wait_for(heard.messages.get(), 5) for _ in questions]
        transport.close()
        return answers

    async def by_tcp(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for asked in questions:
            writer.write(len(asked).to_bytes(2, "big") + asked)
        answers = [await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")) for _ in questions]
        writer.close()
        await writer.wait_closed()
        return answers

    return asyncio.run(work())


async def nothing(_: str) -> Sequence[str]:
    return []


async def broken(_: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "try again")


async def outside(_: str) -> Sequence[str]:
    return ["192.0.2.1", "2001:db8::1"]


def test_names_of_the_cluster_are_answered_over_both_transports() -> None:
    for tcp in (False, True):
        [answer] = ask(question("web.default.svc.cluster.local"), resolve=broken, tcp=tcp)
        assert answer.endswith(socket.inet_aton("10.96.0.50"))


def test_several_questions_over_one_connection_are_all_answered() -> None:
    asked = [question("web.default.svc.cluster.local", number=n) for n in range(20)]
    assert [answer[:2] for answer in ask(*asked, resolve=nothing, tcp=True)] == [sent[:2] for sent in asked]


def test_other_names_are_answered_by_the_host_in_the_family_asked_for() -> None:
    [v4] = ask(question("outside.example"), resolve=outside)
    assert v4.endswith(socket.inet_aton("192.0.2.1"))
    [v6] = ask(question("outside.example", 28), resolve=outside)
    assert v6.endswith(socket.inet_pton(socket.AF_INET6, "2001:db8::1"))
    [text] = ask(question("outside.example", 16), resolve=outside)
    assert (code(text), struct.unpack_from(">H", text, 6)[0]) == (0, 0)


def test_a_name_that_the_host_does_not_know_does_not_exist() -> None:
    [answer] = ask(question("nowhere.example"), resolve=nothing)
    assert code(answer) == 3


def test_a_host_that_cannot_tell_is_a_failure_of_the_server() -> None:
    [answer] = ask(question("outside.example"), resolve=broken)
    assert code(answer) == 2


def test_the_host_is_asked_once_for_questions_that_come_together() -> None:
    asked: list[str] = []

    async def slow(name: str) -> Sequence[str]:
        asked.append(name)
        await asyncio.sleep(0)
        return ["192.0.2.1"]

    answers = ask(*[question("outside.example", kind) for kind in (1, 28, 1, 28)], resolve=slow)
    assert len(answers) == 4
    assert asked == ["outside.example"]


def test_a_malformed_question_is_refused() -> None:
    several = struct.pack(">HHHHHH", 9, 0, 2, 0, 0, 0) + question("a")[12:] + question("b")[12:]
    [answer] = ask(several, resolve=nothing)
    assert code(answer) == 1
