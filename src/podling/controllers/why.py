"""`podling why KIND/NAME`: what was decided about an object lately, and the reasons, in words.

Controllers and the scheduler remember what they did (`Decisions`); the node and others say what they saw in Events.
Both are told here as one story, of the object and of all that belongs to it: that a Deployment does not come up is
often decided about one of its pods. Who may get an object may hear its story, and of the rest what they may get too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl

import orjson

from podling.api import errors, meta
from podling.api.client import Client
from podling.api.http import Request
from podling.api.requests import Attributes, Authorize
from podling.api.resources import Resource, User
from podling.api.server import ApiServer
from podling.controllers.runtime import Decisions
from podling.store.types import Object

PATH = "/podling/why"
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Told:
    """One sentence of the story. `about` is `kind/name`, `by` who decided or saw."""

    time: datetime
    about: str
    by: str
    sentence: str

    def document(self) -> Mapping[str, str]:
        return {"time": self.time.isoformat(), "about": self.about, "by": self.by, "sentence": self.sentence}


May = Callable[[Resource, str, str, str], bool]
"""Whether the asker may `verb` a resource in a namespace by name."""


def find_resource(client: Client, word: str) -> Resource | None:
    """The resource that kubectl would mean by the word: a kind, a plural or short name, also with its group."""
    name, _, group = word.lower().partition(".")
    for resource in client.resources():
        names = (resource.plural, resource.singular, resource.kind.lower(), *resource.short_names)
        if name in names and group in ("", resource.group):
            return resource
    return None


def story(
    client: Client, decisions: Decisions, resource: Resource, namespace: str, name: str, may: May
) -> Sequence[Told]:
    """Oldest first; at most the last 200 sentences."""
    told: list[Told] = []
    members = [(resource, namespace, name)]
    obj = client.get(resource.group_resource, namespace, name)
    if obj is not None:
        members += _belongings(client, obj, may)
    by_uid: dict[str, str] = {}
    known: set[tuple[str, str]] = set()
    for member, space, called in members:
        about = f"{member.singular}/{called}"
        found = client.get(member.group_resource, space, called)
        if found is not None:
            by_uid[meta.uid(found)] = about
        for time, controller, sentence, is_event in decisions.about(member.group_resource, space, called):
            if not is_event and (controller, sentence) not in known:
                told.append(Told(time, about, controller, sentence))
        known |= {(t.by, t.sentence) for t in told}
    events = list(_events(client, namespace, by_uid, may))
    return sorted([*told, *events], key=_order)[-_LONGEST:]


def _order(told: Told) -> tuple[datetime, bool, datetime]:
    """Events know the second only, so in each second they come after what led to them."""
    return told.time.replace(microsecond=0), not told.time.microsecond, told.time


def _belongings(client: Client, obj: Object, may: May) -> Iterable[tuple[Resource, str, str]]:
    """What the object owns, and what that owns; never one of them twice."""
    served = {r.group_resource: r for r in client.resources()}
    seen = {meta.uid(obj)}
    waiting = [meta.uid(obj)]
    while waiting:
        for name, owned in client.owned(waiting.pop()):
            resource = served.get(name)
            if meta.uid(owned) in seen or resource is None:
                continue
            seen.add(meta.uid(owned))
            waiting.append(meta.uid(owned))
            if may(resource, "get", meta.namespace(owned), meta.name(owned)):
                yield resource, meta.namespace(owned), meta.name(owned)


def _events(client: Client, namespace: str, by_uid: Mapping[str, str], may: May) -> Iterable[Told]:
    events = find_resource(client, "events")
    space = namespace or "default"
    if events is None or not may(events, "list", space, ""):
        return
    for event in client.list(events.group_resource, space):
        about = by_uid.get(meta.part(event, "involvedObject").get("uid", ""))
        if about is None:
            continue
        source = event.get("reportingComponent") or meta.part(event, "source").get("component", "")
        yield Told(_seen(event), about, source, f"{event.get('reason', '')}: {event.get('message', '')}")


def _seen(event: Object) -> datetime:
    """When the event happened last; which field says so depends on who wrote it."""
    last = meta.part(event, "series").get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return meta.parse_time(last or event["metadata"]["creationTimestamp"])


def serve(server: ApiServer, client: Client, decisions: Decisions, authorize: Authorize) -> None:
    """`GET /podling/why?kind=deployment&namespace=default&name=web`: `{"kind": "Why", "items": [...]}`."""

    def answer(request: Request, user: User) -> None:
        query = dict(parse_qsl(request.query))
        resource = find_resource(client, query.get("kind", ""))
        if resource is None:
            raise errors.bad_request(f'the server doesn\'t have a resource type "{query.get("kind", "")}"')
        namespace = query.get("namespace", "default") if resource.namespaced else ""
        name = query.get("name", "")
        may = _permission(authorize, user)
        if not may(resource, "get", namespace, name):
            raise errors.forbidden(resource.plural, resource.group, name, f'user "{user.name}" may not get it')
        told = story(client, decisions, resource, namespace, name, may)
        if not told and client.get(resource.group_resource, namespace, name) is None:
            raise errors.not_found(resource.plural, resource.group, name)
        document = {"kind": "Why", "apiVersion": "podling.dev/v1", "items": [t.document() for t in told]}
        request.respond(200, orjson.dumps(document))

    server.handle_path(PATH, answer)


def _permission(authorize: Authorize, user: User) -> May:
    def may(resource: Resource, verb: str, namespace: str, name: str) -> bool:
        attributes = Attributes(
            verb=verb,
            group=resource.group,
            version=resource.version,
            resource=resource.plural,
            namespace=namespace,
            name=name,
        )
        return authorize(user, attributes).allowed

    return may
