"""What a served resource is: data about a kind, and the few functions that only this kind has.

A kind is declared once, in `podling.kinds`, as a `Resource`; everything else (routing, discovery, storage,
watches, tables, patches, OpenAPI) is machinery that reads it. The hooks of a `Strategy` are plain functions on
plain objects; those that change an object get one that they own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from podling.api.errors import FieldError
from podling.store.types import Object

ALL_VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})


@dataclass(frozen=True, slots=True)
class User:
    """Who asks (`user.Info`)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class Reader(Protocol):
    """A read-only view of the committed objects; what it returns is shared and must not be changed."""

    def get(self, resource: str, namespace: str, name: str) -> Object | None: ...

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]: ...


class Conversion(Protocol):
    """Between the served and the stored version of a kind, where somebody has to be asked: a webhook. What it gives
    shares nothing that may be changed. Raises ApiError."""

    async def to_served(self, objects: Sequence[Object]) -> list[Object]: ...

    async def to_stored(self, obj: Object) -> Object: ...


@dataclass(slots=True)
class Rounds:
    """What a mutating plugin of the user's (webhooks, policies) remembers of a write that it may see twice."""

    earlier: set[Hashable] = field(default_factory=set[Hashable])
    """Steps that were asked already, and want to be asked again if one behind them changes the object."""
    due: set[Hashable] = field(default_factory=set[Hashable])
    """Steps to be asked again."""
    output: Object | None = None

    def require(self) -> None:
        self.due |= self.earlier
        self.earlier.clear()


@dataclass(slots=True)
class Reinvocation:
    """The two rounds of mutating admission (`admission.ReinvocationContext`): whatever a user's step changed, the
    built-in ones look at again, and so do those of the user's before it that asked for that."""

    again: bool = False
    """Whether this is the second round."""
    wanted: bool = False
    plugins: dict[str, Rounds] = field(default_factory=dict[str, Rounds])

    def begin(self, plugin: str, obj: Object) -> Rounds:
        rounds = self.plugins.setdefault(plugin, Rounds())
        if self.again and obj != rounds.output:
            rounds.require()
        return rounds

    def skips(self, rounds: Rounds, step: Hashable) -> bool:
        return self.again and step not in rounds.due

    def asked(self, rounds: Rounds, step: Hashable, *, changed: bool, repeats: bool) -> None:
        if changed:
            self.wanted = True
            rounds.require()
        if repeats:
            rounds.earlier.add(step)


@dataclass(slots=True, kw_only=True)
class Write:
    """One create, update or delete on its way to the store, as hooks and admission see it."""

    resource: Resource
    operation: str
    """`CREATE`, `UPDATE`, `DELETE` or `CONNECT` (the names of admission)."""
    new: Object
    """The object to be written; owned by this write, so hooks may change it. On DELETE: the stored one."""
    old: Object | None
    """The stored object; shared, never changed. `None` on CREATE."""
    user: User
    reader: Reader
    now: datetime
    subresource: str = ""
    dry_run: bool = False
    field_manager: str = ""
    options: Object = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])
    """Sent to the client as `Warning: 299` headers."""
    reinvocation: Reinvocation = field(default_factory=Reinvocation)
    about: Resource | None = None
    """The kind of `new` where it is not that of the resource: the options of an exec, an Eviction."""
    place: tuple[str, str] | None = None
    """Namespace and name of what such an object is about; else its own."""

    @property
    def namespace(self) -> str:
        """Of a Namespace its own name, as in admission everywhere."""
        if self.resource.group_resource == "namespaces":
            return self.name
        return self.place[0] if self.place else self.new["metadata"].get("namespace") or ""

    @property
    def name(self) -> str:
        return self.place[1] if self.place else self.new["metadata"].get("name") or ""

    @property
    def called(self) -> str:
        """What a refusal calls the object: one without a name yet by the beginning of the one that it will get."""
        return self.name or self.new["metadata"].get("generateName") or "Unknown"


def _nothing(_write: Write) -> None:
    return None


def _no_errors(_write: Write) -> list[FieldError]:
    return []


def _no_defaults(_obj: Object) -> None:
    return None


def spec_differs(old: Object, new: Object) -> bool:
    """Whether `metadata.generation` rises; the rule of most kinds."""
    return old.get("spec") != new.get("spec")


Resets = Mapping[str, tuple[str, ...]]
"""By subresource (`""` is the resource itself): dotted paths of what a write there cannot change, nor come to own."""

STATUS_APART: Resets = {"": ("status",), "status": ("spec",)}
"""The rule of most kinds (`GetResetFields`)."""
STATUS_ALONE: Resets = {"": ("status",), "status": ("metadata", "spec")}
"""Where a write of the status does not change the metadata either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """The behaviour of a kind on its way to the store, in the order in which it is called.

    `metadata` that all kinds share (uid, creationTimestamp, generateName, deletion fields, ...) is the
    registry's work, and so is keeping `status` apart where the resource has a status subresource.
    """

    default: Callable[[Object], None] = _no_defaults
    """Fills defaults in place, for a whole object as decoded in this version."""
    prepare: Callable[[Write], None] = _nothing
    """Changes `write.new` before validation: fields that users may not set are reset, others computed."""
    allocate: Callable[[Write], Awaitable[None]] | None = None
    """Takes what is shared by the cluster (service addresses, node ports). Runs before `validate`."""
    validate: Callable[[Write], list[FieldError]] = _no_errors
    """Every problem of `write.new` as it stands, and of the change from `write.old` to it."""
    warn: Callable[[Write], None] = _nothing
    """Appends to `write.warnings`."""
    canonicalize: Callable[[Object], None] = _no_defaults
    """Changes a valid object in place: what means the same is stored in one form."""
    released: Callable[[Object], None] | None = None
    """Called after the object has left the store, and for one that was refused on its way there."""
    generation: Callable[[Object, Object], bool] | None = spec_differs
    """Whether a change raises `metadata.generation`; `None` for kinds that have no generation."""
    graceful_deletion: Callable[[Object, int | None], int] | None = None
    """For Pods: the grace period in seconds for a delete with this `gracePeriodSeconds`; `None`: at once."""
    deleting: Callable[[Object], None] | None = None
    """Changes an object in place when it is marked as being deleted: a Namespace becomes Terminating."""
    held: Callable[[Object], bool] | None = None
    """Whether something besides `metadata.finalizers` still keeps an object that is being deleted: a Namespace's
    `spec.finalizers`."""
    returns_deleted: bool = False
    """Whether a DELETE that removes at once answers with the object instead of a Status (pods, services, ...)."""
    status_on_create: bool = False
    """Whether a create may bring a status: a node says what it has when it registers."""
    default_propagation: str = "Background"
    create_on_update: bool = False
    """Whether PUT on a name that does not exist creates it (leases, endpoints, ...)."""
    unconditional_update: bool = True
    """Whether an update without a resourceVersion is taken as it is."""
    resets: Resets = field(default_factory=lambda: STATUS_APART)


@dataclass(frozen=True, slots=True)
class Column:
    """A printed column (`metav1.TableColumnDefinition`). `priority` 0 is always shown, 1 with `-o wide`."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


Row = Callable[[Object, datetime], list[Any]]
"""The cells of one object at a time (for ages), one for each column."""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its numbers; dotted paths from the object's root."""

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = "spec.selector"
    custom: bool = False
    """Of a custom resource: replicas that are not there are an error, and its own validation judges them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A served resource in one version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: str
    """The name of its OpenAPI definition: `io.k8s.api.apps.v1.Deployment`."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: frozenset[str] = ALL_VERBS
    strategy: Strategy = field(default_factory=Strategy)
    status: bool = False
    """Whether it has a `/status` subresource."""
    scale: ScalePaths | None = None
    subresources: tuple[str, ...] = ()
    """Further subresources, served by handlers registered for (resource, subresource): `log`, `exec`, ..."""
    columns: tuple[Column, ...] = ()
    row: Row | None = None
    row_conditions: Callable[[Object], list[Object]] | None = None
    selectable: Mapping[str, Callable[[Object], str]] = field(default_factory=dict[str, Callable[[Object], str]])
    """Field selectors beyond `metadata.name` and `metadata.namespace`."""
    indexed: tuple[str, ...] = ()
    """Which of `selectable` the store keeps an index of: selectors that are used often and match few objects."""
    deprecation: str = ""
    """A warning that goes with the answer to every request."""
    custom: bool = False
    """Whether it comes from a CustomResourceDefinition: its list items then show kind and apiVersion."""
    list_kind: str = ""
    """The kind of lists where it is not the kind with `List` behind it."""
    storage: str = ""
    """Key of the stored objects where two versions share them; `""` for `group_resource`."""
    to_storage: Callable[[Object], Object] | None = None
    """Converts from this version to the stored one, and `from_storage` back; neither changes its argument."""
    from_storage: Callable[[Object], Object] | None = None
    conversion: Conversion | None = None
    """Converts instead of these two. What leaves the registry is then in the served version already."""
    stored_as: str = ""
    """The apiVersion that objects are stored in, where older ones may be stored in another; `""` where it is one."""

    group_resource: str = field(init=False)
    """`deployments.apps`; the plural alone in the core group."""
    listed_as: str = field(init=False)
    """The kind of its lists."""
    storage_key: str = field(init=False)
    """The `resource` of its objects' keys in the store."""
    api_version: str = field(init=False)

    def __post_init__(self) -> None:
        """Every request asks for these names many times, so they are put together once."""
        group_resource = f"{self.plural}.{self.group}" if self.group else self.plural
        names = {
            "group_resource": group_resource,
            "listed_as": self.list_kind or f"{self.kind}List",
            "storage_key": self.storage or group_resource,
            "api_version": f"{self.group}/{self.version}" if self.group else self.version,
        }
        for name, value in names.items():
            object.__setattr__(self, name, value)
