"""`/podling/nodes`: the nodes of this machine, for the command line: how many, which run, and one that fails.

Beside the API, as a power switch is beside a machine. Like every path that is no resource it is for those to whom RBAC
allows it: administrators.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson

from podling.api.errors import bad_request
from podling.api.http import Request
from podling.api.resources import User
from podling.api.server import ApiServer
from podling.machine import Fleet
from podling.node.capacity import MOST_NODES, complaint

PATH = "/podling/nodes"


def wanted(body: bytes) -> tuple[int, Mapping[str, str] | None]:
    """How many, and what each has, if that is to change. Raises `ApiError` 400."""
    try:
        found = orjson.loads(body)
    except ValueError:
        found = None
    match found:
        case {"count": int(count), "capacity": (None | {}) as capacity} if 0 < count <= MOST_NODES:
            _check(capacity or {})
            return count, capacity
        case _:
            form = '{"count": 3, "capacity": {"cpu": "2"}}'
            raise bad_request(f"wanted is {form}; the count is 1 to {MOST_NODES}, the capacity may be null")


def _check(capacity: Mapping[str, object]) -> None:
    for resource, amount in capacity.items():
        problem = complaint(resource, amount if isinstance(amount, str) else "")
        if problem:
            raise bad_request(f'"{resource}={amount}" {problem}')


def serve(server: ApiServer, fleet: Fleet) -> None:
    """`GET` lists; `POST {"count": 3, "capacity": {...}}` resizes; `POST /podling/nodes/NAME/stop`, and `.../start`."""
    verbs: Mapping[str, Callable[[str], Coroutine[Any, Any, None]]] = {
        "stop": fleet.stop_node,
        "start": fleet.start_node,
    }

    def answer(request: Request) -> None:
        items = [{"name": name, "running": running} for name, running in fleet.states]
        request.respond(200, orjson.dumps({"kind": "Nodes", "apiVersion": "podling.dev/v1", "items": items}))

    async def all_nodes(request: Request, _user: User) -> None:
        if request.method == "POST":
            await fleet.resize(*wanted(request.body))
        answer(request)

    async def one_node(request: Request, _user: User) -> None:
        name, _, verb = request.path.removeprefix(f"{PATH}/").partition("/")
        if request.method != "POST" or verb not in verbs:
            raise bad_request(f"a node is told by POST to {' or '.join(verbs)}")
        await verbs[verb](name)
        answer(request)

    server.handle_path(PATH, all_nodes)
    server.handle_path(f"{PATH}/", one_node)
