"""The machine that runs every controller: a queue of keys, back-off, and supervision.

A controller has one root kind. Watches turn each committed change into keys (namespace and name) of that root; the
queue holds every key at most once, so a storm of changes is one look at the newest state. Looking is
`observe -> decide -> act`: `observe` reads (from memory, committed state, so a controller always sees its own
writes), `decide` is pure, `act` is the only one that writes. Two looks at one key never run at once.

There is no worker that could die: a key that is due gets a task of its own, at most `workers` of them together, and
at rest there is no task at all. What a look raises is logged and the key comes back after a back-off of 5 ms,
doubling up to 1000 s (client-go's default). A conflict (409) only means that the object moved on: the key comes back
without a word.

A look that took long is followed by a rest of its key, so that a service with 500 endpoints is not counted anew for
each of them that becomes ready, but a few times meanwhile (the batch periods of kube-controller-manager, where they
help).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import types
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from podling.api import meta
from podling.api.client import Client, EventRecorder, Subscription
from podling.api.errors import ApiError
from podling.clock import Clock, Timer
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch, Requeue, Together, Update, Write
from podling.store.types import Change, Object

log = logging.getLogger(__name__)

BACKOFF_FIRST = 0.005
BACKOFF_LAST = 1000.0
LIGHT = 0.005
"""Seconds of computing up to which a look is followed by no rest."""
REST = 9.0
"""How long a key rests for each further second of computing: it gets a tenth of the time then."""
LONGEST_REST = 0.5

S = TypeVar("S")


class ObjectKey(NamedTuple):
    """One root object of a controller; `namespace` is `""` for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Object) -> ObjectKey:
    return ObjectKey(meta.namespace(obj), meta.name(obj))


class Decision(NamedTuple):
    """One thing that a controller did about an object, and its reason in words."""

    time: datetime
    controller: str
    sentence: str
    is_event: bool = False
    """Whether it only was to tell an Event, which can be read there as well."""


class Decisions:
    """The last decisions about each object, for `podling why`; the objects longest untouched are forgotten."""

    def __init__(self, objects: int = 2000, per_object: int = 20) -> None:
        self._objects = objects
        self._per_object = per_object
        self._log: OrderedDict[tuple[str, ObjectKey], deque[Decision]] = OrderedDict()

    def add(self, resource: str, key: ObjectKey, decision: Decision) -> None:
        """About the root object that was looked at."""
        self._put(resource, key, decision)

    def add_target(self, resource: str, key: ObjectKey, decision: Decision) -> None:
        """About another object, to which that look led."""
        self._put(resource, key, decision)

    def _put(self, resource: str, key: ObjectKey, decision: Decision) -> None:
        entry = self._log.setdefault((resource, key), deque(maxlen=self._per_object))
        if entry and entry[-1].sentence == decision.sentence:
            entry.pop()
        entry.append(decision)
        self._log.move_to_end((resource, key))
        if len(self._log) > self._objects:
            self._log.popitem(last=False)

    def about(self, resource: str, namespace: str, name: str) -> list[Decision]:
        """Oldest first."""
        return list(self._log.get((resource, ObjectKey(namespace, name)), ()))


class ActionFailed(Exception):
    """The API refused a write; `error` says how. The key is tried again after a back-off."""

    def __init__(self, action: Write, error: ApiError) -> None:
        super().__init__(f"{describe(action)}: {error.message}")
        self.action = action
        self.error = error


class _Moved(Exception):
    """The state that was decided upon is no longer the newest: look again."""


def describe(action: Action) -> str:
    """The action in words, as the decision log and the transcripts show it."""
    match action:
        case Create(resource=resource, object=obj, subresource=subresource, why=why):
            name = meta.name(obj) or meta.metadata(obj).get("generateName", "") + "*"
            return f"create {_target(resource, subresource)} {name}: {why}"
        case Update(resource=resource, object=obj, subresource=subresource, why=why):
            return f"update {_target(resource, subresource)} {meta.name(obj)}: {why}"
        case Patch(resource=resource, name=name, subresource=subresource, why=why):
            return f"patch {_target(resource, subresource)} {name}: {why}"
        case Delete(resource=resource, name=name, why=why):
            return f"delete {resource} {name}: {why}"
        case Emit(event=event, why=why):
            return f"event {event.type} {event.reason}: {why}"
        case Requeue(seconds=seconds, why=why):
            return f"look again in {seconds:g} s: {why}"
        case Together(writes=writes):
            return "; ".join(describe(w) for w in writes)


def _target(resource: str, subresource: str) -> str:
    return f"{resource}/{subresource}" if subresource else resource


class Context:
    """What one controller has in its hands while it looks at a key."""

    def __init__(
        self, controller: str, resource: str, client: Client, record: EventRecorder, clock: Clock, decisions: Decisions
    ) -> None:
        self.controller = controller
        self.resource = resource
        self.client = client
        self.record = record
        self.clock = clock
        self._decisions = decisions
        self.add: Callable[[ObjectKey], None] = lambda _key: None
        self.add_after: Callable[[ObjectKey, float], None] = lambda _key, _seconds: None

    def now(self) -> datetime:
        return self.clock.now()

    async def act(self, key: ObjectKey, actions: Iterable[Action]) -> None:
        """Carries the actions out, in order. Raises `ActionFailed` at the first refusal."""
        for action in actions:
            if not isinstance(action, Requeue):
                self._remember(key, action)
            match action:
                case Emit(event=event):
                    self._announce(event)
                case Requeue(seconds=seconds):
                    self.add_after(key, seconds)
                case Together():
                    await self._act_together(key, action)
                case _:
                    await self._write(key, action)

    def _remember(self, key: ObjectKey, action: Action) -> None:
        for single in action.writes if isinstance(action, Together) else (action,):
            decision = Decision(self.now(), self.controller, describe(single), isinstance(single, Emit))
            self._decisions.add(self.resource, key, decision)

    def _remember_target(self, root: ObjectKey, action: Write, written: Object) -> None:
        """What happened to another object can be asked of that one as well, also when it is gone."""
        match action:
            case Delete(namespace=namespace, name=name):
                target = ObjectKey(namespace, name)
            case Create(subresource="status") | Update(subresource="status") | Patch(subresource="status"):
                return
            case _:
                target = key_of(written)
        if (action.resource, target) != (self.resource, root):
            decision = Decision(self.now(), self.controller, describe(action))
            self._decisions.add_target(action.resource, target, decision)

    def _announce(self, events: Announce | tuple[Announce, ...] | None, *, name: str = "", error: str = "") -> None:
        for event in events if isinstance(events, tuple) else filter(None, (events,)):
            message = event.message.replace("{name}", name).replace("{error}", error)
            self.record(event.regarding, event.type, event.reason, message)

    async def _act_together(self, key: ObjectKey, action: Together) -> None:
        """Every group is sent whole; after a group with a refusal nothing more is sent."""
        waiting = list(action.writes)
        size = 1 if action.slow_start else len(waiting)
        while waiting:
            group, waiting = waiting[:size], waiting[size:]
            results = await asyncio.gather(*(self._write(key, w) for w in group), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            size *= 2

    async def _write(self, key: ObjectKey, action: Write) -> None:
        try:
            written = await self._send(action)
        except ApiError as error:
            if _settled(action, error):
                return
            if error.reason == "AlreadyExists" or (error.reason == "Conflict" and action.failed is None):
                raise _Moved from error
            name = meta.name(action.object) if isinstance(action, Create | Update) else action.name
            self._announce(action.failed, name=name, error=error.message)
            raise ActionFailed(action, error) from error
        self._remember_target(key, action, written)
        self._announce(action.done, name=meta.name(written))

    async def _send(self, action: Write) -> Object:
        match action:
            case Create(resource=resource, object=obj, subresource=subresource):
                return await self.client.create(resource, obj, subresource=subresource)
            case Update(resource=resource, object=obj, subresource=subresource):
                return await self.client.update(resource, obj, subresource=subresource)
            case Patch():
                return await self.client.patch(
                    action.resource,
                    action.namespace,
                    action.name,
                    action.patch,
                    subresource=action.subresource,
                    strategic=action.strategic,
                )
            case Delete():
                return await self.client.delete(
                    action.resource,
                    action.namespace,
                    action.name,
                    uid=action.uid or None,
                    resource_version=action.resource_version,
                    propagation=action.propagation,
                    grace_seconds=action.grace_seconds,
                )


def _settled(action: Write, error: ApiError) -> bool:
    """Whether a refusal means that the wish is already true."""
    match action:
        case Delete(resource_version=None):
            return error.reason in ("NotFound", "Conflict")
        case Delete():
            return error.reason == "NotFound"
        case Patch(missing_ok=missing_ok):
            return missing_ok and error.reason == "NotFound"
        case Create(exists_ok=exists_ok):
            return (exists_ok and error.reason == "AlreadyExists") or namespace_terminating(error)
        case Update():
            return error.reason == "NotFound"


def namespace_terminating(error: ApiError) -> bool:
    """A create was refused only because its namespace is going away."""
    causes: Sequence[Object] = (error.details or {}).get("causes", ())
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Changes of `resource` that concern the controller, and which of its keys each concerns."""

    resource: str
    keys: Callable[[Client, Change], Iterable[ObjectKey]]


def itself(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The root object's own changes."""
    yield ObjectKey(change.entry.key.namespace, change.entry.key.name)


def of_controller(kind: str) -> Callable[[Client, Change], Iterable[ObjectKey]]:
    """The object's controller of this kind, before and after the change."""

    def keys(_client: Client, change: Change) -> Iterable[ObjectKey]:
        for entry in (change.previous, change.entry):
            if entry is None:
                continue
            reference = meta.controller_reference(entry.object)
            if reference is not None and reference["kind"] == kind:
                yield ObjectKey(entry.key.namespace, reference["name"])

    return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A controller: its name, what it watches, and how it looks at one key.

    `name` is the event source (`deployment-controller`); `user` the name under which it writes.
    """

    name: str
    user: str
    resource: str
    watches: Sequence[Watch]
    reconcile: Callable[[Context, ObjectKey], Awaitable[None]]
    workers: int = 5
    event_source: str = ""
    """The source of its events, where Kubernetes calls that by another name."""

    @property
    def source(self) -> str:
        return self.event_source or self.name


def service_account(name: str) -> str:
    return f"system:serviceaccount:kube-system:{name}"


def looking(
    observe: Callable[[Client, ObjectKey], S | None], decide: Callable[[S, datetime], Sequence[Action]]
) -> Callable[[Context, ObjectKey], Awaitable[None]]:
    """The usual look: observe once, decide once, act. Nothing to observe means nothing to do."""

    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, key)
        if snapshot is not None:
            await context.act(key, decide(snapshot, context.now()))

    return reconcile


@dataclass(slots=True)
class _Keys:
    """The state of the queue: which keys are due, running, wanted again, or delayed."""

    due: deque[ObjectKey] = field(default_factory=deque[ObjectKey])
    dirty: set[ObjectKey] = field(default_factory=set[ObjectKey])
    running: set[ObjectKey] = field(default_factory=set[ObjectKey])
    failures: dict[ObjectKey, int] = field(default_factory=dict[ObjectKey, int])
    timers: dict[ObjectKey, tuple[datetime, Timer]] = field(default_factory=dict[ObjectKey, tuple[datetime, Timer]])
    resting: dict[ObjectKey, Timer] = field(default_factory=dict[ObjectKey, Timer])
    """Keys that are not due before that timer, whatever happens; those that it happened to are dirty."""


Stopwatch = Callable[[], float]
"""Seconds of the machine, of which only differences mean something."""


def standing_still() -> float:
    """The stopwatch by which no look takes any time."""
    return 0.0


class Runner:
    """Runs one controller until it is stopped. Lives on the event loop; none of it is thread-safe."""

    def __init__(self, controller: Controller, context: Context, stopwatch: Stopwatch = standing_still) -> None:
        self.controller = controller
        self.context = context
        self._stopwatch = stopwatch
        self._keys = _Keys()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._stopped = False
        context.add = self.add
        context.add_after = self.add_after

    def start(self) -> None:
        for watch in self.controller.watches:
            self._subscriptions.append(self.context.client.subscribe(watch.resource, self._handler(watch)))

    def _handler(self, watch: Watch) -> Callable[[Change], None]:
        def handle(change: Change) -> None:
            for key in watch.keys(self.context.client, change):
                self.add(key)

        return handle

    async def stop(self) -> None:
        self._stopped = True
        for subscription in self._subscriptions:
            subscription.close()
        for timer in [*(timer for _, timer in self._keys.timers.values()), *self._keys.resting.values()]:
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def idle(self) -> bool:
        """Whether nothing is due or running (delayed and resting keys aside)."""
        return not self._keys.due and not self._keys.running

    def add(self, key: ObjectKey) -> None:
        """Makes the key due; while it is being looked at, it becomes due again afterwards."""
        keys = self._keys
        if self._stopped or key in keys.dirty:
            return
        keys.dirty.add(key)
        if key not in keys.running and key not in keys.resting:
            keys.due.append(key)
            self._dispatch()

    def add_after(self, key: ObjectKey, seconds: float) -> None:
        """Makes the key due later; of several delays the earliest counts."""
        if self._stopped:
            return
        if seconds <= 0:
            self.add(key)
            return
        now = self.context.now().timestamp()
        pending = self._keys.timers.get(key)
        if pending is not None:
            if pending[0].timestamp() <= now + seconds:
                return
            pending[1].cancel()
        timer = self.context.clock.call_later(seconds, lambda: self._delay_over(key))
        self._keys.timers[key] = (datetime.fromtimestamp(now + seconds, tz=self.context.now().tzinfo), timer)

    def _delay_over(self, key: ObjectKey) -> None:
        self._keys.timers.pop(key, None)
        self.add(key)

    def _dispatch(self) -> None:
        keys = self._keys
        while keys.due and len(keys.running) < self.controller.workers:
            key = keys.due.popleft()
            keys.dirty.discard(key)
            keys.running.add(key)
            task = asyncio.get_running_loop().create_task(self._look(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, key: ObjectKey) -> None:
        try:
            await _timed(self.controller.reconcile(self.context, key), self._stopwatch, partial(self._rest, key))
        except _Moved:
            self._retry(key)
        except ActionFailed as failure:
            log.info("%s: %s: %s", self.controller.name, key, failure)
            self._retry(key)
        except ApiError as error:
            if error.reason != "Conflict":
                log.info("%s: %s: %s", self.controller.name, key, error.message)
            self._retry(key)
        except Exception:  # one bad look must never end a controller: it is logged and tried again
            log.exception("%s: looking at %s failed", self.controller.name, key)
            self._retry(key)
        else:
            self._keys.failures.pop(key, None)
        finally:
            self._finished(key)

    def _rest(self, key: ObjectKey, spent: float) -> None:
        """After a look on which so many seconds were spent."""
        seconds = min((spent - LIGHT) * REST, LONGEST_REST)
        if seconds > 0 and not self._stopped:
            clock = self.context.clock
            self._keys.resting[key] = clock.call_later(seconds * clock.pace, lambda: self._rest_over(key))

    def _rest_over(self, key: ObjectKey) -> None:
        keys = self._keys
        del keys.resting[key]
        if key in keys.dirty:
            keys.due.append(key)
            self._dispatch()

    def _retry(self, key: ObjectKey) -> None:
        failures = self._keys.failures.get(key, 0)
        self._keys.failures[key] = failures + 1
        self.add_after(key, backoff(failures))

    def _finished(self, key: ObjectKey) -> None:
        keys = self._keys
        keys.running.discard(key)
        if key in keys.dirty and key not in keys.resting:
            keys.due.append(key)
        if not self._stopped:
            self._dispatch()


@types.coroutine
def _timed(work: Awaitable[None], stopwatch: Stopwatch, spent: Callable[[float], None]) -> Generator[Any, Any, None]:
    """Awaits `work` and tells at its end how long it computed; what it waited for is not counted."""
    steps = work.__await__()
    step: Callable[[], Any] = partial(next, steps)
    total = 0.0
    try:
        while True:
            began = stopwatch()
            try:
                waited = step()
            except StopIteration:
                return
            finally:
                total += stopwatch() - began
            try:
                yield waited
                step = partial(next, steps)
            except BaseException as error:  # noqa: BLE001  whatever it is, it is for `work`
                step = partial(_throw, steps, error)
    finally:
        spent(total)


def _throw(steps: Generator[Any, Any, None], error: BaseException) -> Any:
    return steps.throw(error)


def backoff(failures: int) -> float:
    """Seconds to wait after so many earlier failures: 5 ms, doubling, at most 1000 s."""
    return min(BACKOFF_FIRST * 2.0 ** min(failures, 30), BACKOFF_LAST)


class Manager:
    """All controllers of a cluster, started and stopped together (kube-controller-manager)."""

    def __init__(
        self,
        controllers: Iterable[Controller],
        *,
        clients: Callable[[str], Client],
        recorders: Callable[[str], EventRecorder],
        clock: Clock,
        decisions: Decisions | None = None,
        stopwatch: Stopwatch = standing_still,
    ) -> None:
        """`clients` gives a client that writes as the named user, `recorders` a recorder for the named component.

        By `stopwatch` it is measured what a look costs; without one no key ever rests.
        """
        self.decisions = decisions or Decisions()
        self.runners = [
            Runner(
                c,
                Context(c.name, c.resource, clients(c.user), recorders(c.source), clock, self.decisions),
                stopwatch,
            )
            for c in controllers
        ]

    def start(self) -> None:
        """Needs a running event loop. Watches begin at once, with every present object."""
        for runner in self.runners:
            runner.start()

    async def stop(self) -> None:
        for runner in self.runners:
            await runner.stop()

    @property
    def idle(self) -> bool:
        return all(runner.idle for runner in self.runners)

    def why(self, resource: str, namespace: str, name: str) -> list[Decision]:
        """The last decisions about an object, oldest first, from all controllers whose root it is."""
        return self.decisions.about(resource, namespace, name)


def chain(*parts: Iterable[Action]) -> list[Action]:
    """The parts of a decision as one list."""
    return list(itertools.chain.from_iterable(parts))
