"""HTTP as the API server speaks it: connections, bodies, limits, upgrades, TLS."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import uuid
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from apicore import CONFIG_MAP, CONFIG_MAPS, World, config_map, run

from podling.api.http import MAX_BODY, HttpServer, Request
from podling.api.resources import User
from podling.auth import pki


def test_a_connection_is_kept_for_many_requests(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        for _ in range(3):
            assert (await http.request("GET", "/readyz")).body == b"ok"

    run(tmp_path, scenario)


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        for number in range(100):
            await http.send("POST", CONFIG_MAPS, config_map(f"c{number}"))
            await http.send("GET", f"{CONFIG_MAPS}/c{number}")
        for number in range(100):
            assert (await http.answer()).json["metadata"]["name"] == f"c{number}"
            assert (await http.answer()).status == 200

    run(tmp_path, scenario)


def test_a_client_that_asks_to_close_is_closed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        assert (await http.request("GET", "/readyz", Connection="close")).headers["Connection"] == "close"
        assert await http.reader.read() == b""

    run(tmp_path, scenario)


def test_chunked_bodies_are_read(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        head = f"POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        await http.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for part in (b'{"metadata":', b'{"name":"chunked"}}', b""):
            await http.raw(b"%x\r\n%b\r\n" % (len(part), part))
        assert (await http.answer()).json["metadata"]["name"] == "chunked"

    run(tmp_path, scenario)


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        body = b'{"metadata":{"name":"later"}}'
        head = f"POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        await http.raw(head.encode())
        assert (await http.head())[0] == 100
        await http.raw(body)
        assert (await http.answer()).status == 201

    run(tmp_path, scenario)


def test_a_body_of_more_than_3_mebibytes_is_refused_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        answer = await http.request("POST", CONFIG_MAPS, b" " * (MAX_BODY + 1))
        assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")
        assert (await http.request("GET", "/readyz")).status == 200

    run(tmp_path, scenario)


def test_endless_headers_are_refused(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        await http.raw(b"GET / HTTP/1.1\r\nX: " + b"a" * (2 << 20))
        assert (await http.head())[0] == 431

    run(tmp_path, scenario)


def test_what_is_no_http_is_refused_and_closed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.connect()
        await http.raw(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert (await http.answer()).status == 400
        assert await http.reader.read() == b""

    run(tmp_path, scenario)


def test_head_is_answered_without_a_body(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("HEAD", "/metrics")
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 100
        assert (await world.request("HEAD", f"{CONFIG_MAPS}/a")).status == 405
        assert (await world.request("GET", "/readyz")).status == 200

    run(tmp_path, scenario)


def test_every_answer_says_when_and_under_which_id_and_is_not_kept(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answers = [await world.request("GET", path) for path in ("/readyz", CONFIG_MAPS, f"{CONFIG_MAPS}/none")]
        assert {answer.headers["Cache-Control"] for answer in answers} == {"no-cache, private"}
        assert all(parsedate_to_datetime(answer.headers["Date"]) for answer in answers)
        assert len({uuid.UUID(answer.headers["Audit-Id"]) for answer in answers}) == 3
        named = await world.request("GET", "/readyz", Audit_ID="mine")
        assert named.headers["Audit-Id"] == "mine"

    run(tmp_path, scenario)


def test_long_answers_are_compressed_for_those_who_accept_it(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            await world.create(CONFIG_MAP, config_map(f"c{number}", k="x" * 60_000))
        plain = await world.request("GET", CONFIG_MAPS)
        packed = await world.request("GET", CONFIG_MAPS, Accept_Encoding="gzip, deflate")
        short = await world.request("GET", f"{CONFIG_MAPS}/c1", Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert "Content-Encoding" not in short.headers

    run(tmp_path, scenario)


def test_an_upgraded_connection_belongs_to_its_handler_with_all_that_came_early(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        def echo(exchange: Any) -> None:
            transport = exchange.request.take_over(lambda data: transport.write(data.upper()), lambda: None)
            transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")

        world.server.handle("configmaps", "echo", echo, "get")
        http = await world.connect()
        head = f"GET {CONFIG_MAPS}/a/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        await http.raw(head.encode() + b"early")
        assert (await http.head())[0] == 101
        assert await http.reader.readexactly(5) == b"EARLY"
        await http.raw(b"late")
        assert await http.reader.readexactly(4) == b"LATE"

    run(tmp_path, scenario)


def test_a_fault_in_a_handler_is_answered_500_and_harms_no_other_request(tmp_path: Path, caplog: Any) -> None:
    async def scenario(world: World) -> None:
        async def later(exchange: Any) -> None:
            raise RuntimeError("later")

        world.server.handle("configmaps", "now", lambda exchange: 1 / 0, "get")  # type: ignore[arg-type,return-value]
        world.server.handle("configmaps", "later", later, "get")
        for name in ("now", "later"):
            answer = await world.request("GET", f"{CONFIG_MAPS}/a/{name}")
            assert (answer.status, answer.json["reason"]) == (500, "InternalError")
        assert (await world.request("GET", "/readyz")).status == 200

    run(tmp_path, scenario)
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_whose_reader_does_not_keep_up_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        cut = asyncio.Event()

        async def flood(request: Request) -> None:
            stream = request.stream(200, "text/plain")
            stream.on_close = cut.set
            while not stream.closed:
                stream.write(b"x" * (1 << 20))
                await asyncio.sleep(0)

        server = HttpServer(flood)
        port = await server.listen("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await cut.wait()
        writer.transport.abort()
        await server.close()

    asyncio.run(scenario())


def test_the_clients_certificate_is_known_to_the_authenticator(tmp_path: Path) -> None:
    files = pki.ensure(tmp_path, server_names=["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca_cert))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(files.server_cert, files.server_key)
    seen: list[Any] = []

    def authenticate(request: Request) -> User:
        seen.append(request.certificate)
        return User("alice")

    async def scenario(world: World) -> None:
        client = ssl.create_default_context(cafile=str(files.ca_cert))
        client.load_cert_chain(files.admin_cert, files.admin_key)
        http = await world.connect(client)
        assert (await http.request("GET", "/readyz")).status == 200
        assert ("organizationName", "system:masters") in [pair for rdn in seen[-1]["subject"] for pair in rdn]

    run(tmp_path, scenario, tls=context, authenticate=authenticate)
