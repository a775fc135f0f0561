"""Wires the rooms together; the only place that knows them all.

The daemon is the control plane and the kubelet on one event loop. It is started, and started again, by the zygote,
inside the node's namespaces. It may die at any moment: what it acknowledged is in the store, what it made run is with
the zygote, what it routed is in the kernel and with the proxy. So its start is always an adoption.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path

from podling import kinds, machine_rest
from podling.admission import plugins
from podling.api import meta
from podling.api.client import Client, EventRecorder
from podling.api.local import LocalClient
from podling.api.recorder import Recorder
from podling.api.resources import Reader, User
from podling.api.schema import Schemas
from podling.api.server import ApiServer
from podling.auth import bootstrap as policy
from podling.auth import nodes, pki, reconciliation, reviews, signer
from podling.auth.approver import KubeletApproval
from podling.auth.authenticator import Authenticator
from podling.auth.escalation import EscalationCheck
from podling.auth.flows import RESOURCES as FLOW_RESOURCES
from podling.auth.flows import Flows
from podling.auth.identities import MASTERS, NODE_PREFIX, PREFIX, component
from podling.auth.lastuse import LastUse
from podling.auth.nodes import NodeAuthorizer
from podling.auth.rbac import RESOURCES, Rbac
from podling.auth.tokens import ServiceAccountTokens
from podling.clock import cluster_clock
from podling.controllers import bootstrap, catalogue, eviction, provisioner, targets, why
from podling.controllers.addons import DEFINITIONS
from podling.controllers.quotaadmission import QuotaAdmission
from podling.controllers.runtime import Decisions
from podling.controllers.snapshots import definition as volumesnapshot
from podling.controllers.vpa import definition as verticalpodautoscaler
from podling.controllers.vpa.admission import VpaAdmission
from podling.extensions.serving import Extensions
from podling.images.manager import open_images
from podling.images.runtime import NodeImages
from podling.kinds.core import binding
from podling.layout import NODE_GRACE, ClusterRecord, Layout
from podling.machine import Fleet, Shared
from podling.metrics import serving as metrics
from podling.metrics.adapter import Adapter
from podling.metrics.autoscaling import Pipeline
from podling.metrics.custommetrics import CustomMetrics
from podling.metrics.usage import Usage
from podling.network import apiproxy
from podling.network.controller import ServiceProxy
from podling.network.layout import Layout as Addresses
from podling.node import kubelet as kubelet_api
from podling.node import naming, rest
from podling.node.localdisk import LocalDisk
from podling.node.node_status import LEASE_EVERY, inspect_machine
from podling.node.nodes import Nodes
from podling.sandbox.client import HostHelper, Sandbox
from podling.scheduler.scheduler import Scheduler
from podling.store.store import Store
from podling.store.types import Object, StorageFailed

log = logging.getLogger("podling.daemon")

STOPPING = (signal.SIGTERM, signal.SIGINT)
API_PORT = 443
"""Of the service `kubernetes`, on which the daemon itself listens inside the node."""
SWITCH = 0.0005
"""Seconds after which the loop lets another thread have Python's lock: a committed write waits for that, and the
default is ten times as long."""
HEARTBEATS_IN_GRACE = 5
"""As in Kubernetes: 50 s and 10 s."""
ADMINISTRATOR = "kubernetes-admin"
SUPERUSERS = (ADMINISTRATOR, bootstrap.USER)
SCHEDULER = "system:kube-scheduler"
COLLECT = (10_000, 20, 20)
"""Objects come and go by the thousand and hold no cycles: Python's own (700, 10, 10) takes a tenth of all CPU time."""


def main() -> None:
    """`python -m podling.daemon --home DIR --name CLUSTER`: runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="podling.daemon")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    layout = Layout.of(arguments.name, arguments.home)
    import uvloop

    sys.setswitchinterval(SWITCH)
    try:
        uvloop.run(_run(layout))
    except (OSError, StorageFailed) as error:
        _announce(layout, _explain(error))
        raise


async def _run(layout: Layout) -> None:
    stop = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.closing(Store(layout.database)) as store:
        plane = ControlPlane(layout, store)
        await plane.bootstrap()
        async with _machine(plane), _minds(plane), _listening(plane):
            gc.collect()
            gc.freeze()  # what has been loaded stays: no collection has to look at it again
            gc.set_threshold(*COLLECT)
            _announce(layout, "ready\n")
            log.info("ready")
            await stop.wait()
            log.info("stopping; pods and their traffic go on")


class ControlPlane:
    """The API with everything that decides about requests, and clients of it for the daemon's own parts."""

    def __init__(self, layout: Layout, store: Store) -> None:
        self.layout = layout
        self.record: ClusterRecord = json.loads(layout.record.read_text())
        self.has_addons = self.record.get("addons", True)
        self.clock = cluster_clock(self.record)
        self.node_grace = self.record.get("node_grace", NODE_GRACE)
        self.addresses = Addresses()
        self.decisions = Decisions()
        self.pki = pki.ensure(layout.pki, server_names=server_names(self.addresses))
        self.recorders: list[Recorder] = []
        self.usage = Usage(_Late(lambda: self.server.registry.reader))
        self.server = self._api_server(store)
        proxy = self.pki.proxy_client_cert, self.pki.proxy_client_key
        apiserver = self.client(bootstrap.USER, "kube-apiserver")
        self.extensions = Extensions(self.server, apiserver, proxy)
        admission = self.server.registry.admission
        quotas = QuotaAdmission(apiserver)  # the last, so that nothing is charged that others refuse
        admission.validating = [*admission.validating, quotas]
        self.adapter = Adapter(self.server.registry.reader, self.clock.host)
        self.pipeline = self._pipeline(apiserver)

    def _api_server(self, store: Store) -> ApiServer:
        reader = _Late(lambda: server.registry.reader)
        rbac = Rbac(reader)
        flows = Flows(reader)
        authorize = NodeAuthorizer(reader, policy.rules_of(nodes.ROLE), rbac)
        self.tokens = tokens = ServiceAccountTokens.from_pem(
            self.pki.service_account_key, reader, time.time, self.clock.seconds, lambda secret: last_use(secret)
        )
        admission = plugins.builtin(random.Random(), authorize)
        admission.validating = [EscalationCheck(rbac), *admission.validating]
        server = ApiServer(
            store=store,
            resources=kinds.builtin(),
            schemas=Schemas.load(),
            authenticate=Authenticator(tokens, authorize),
            authorize=authorize,
            admission=admission,
            classify=flows,
            clock=self.clock.now,
            pace=self.clock.pace,
            server_address=f"{self.addresses.gateway}:{API_PORT}",
        )
        for resource in RESOURCES:
            store.watch(resource, rbac.changed)
        for resource in FLOW_RESOURCES:
            store.watch(resource, flows.changed)
        binder = binding.creator(server.registry)
        server.add_creator("pods", "binding", binder)
        server.add_creator("bindings", "", binder)
        apiserver = LocalClient(server.registry, User(bootstrap.USER, (MASTERS,)), "kube-apiserver")
        last_use = LastUse(apiserver, self.clock.now)
        server.add_creator("pods", "eviction", eviction.creator(server.registry, apiserver))
        admission.mutating = [VpaAdmission(apiserver), *admission.mutating]
        reviews.serve(server, tokens, rbac, authorize)
        if self.has_addons:
            metrics.serve(server, self.usage)
        why.serve(server, apiserver, self.decisions, authorize)
        return server

    def _pipeline(self, client: Client) -> Pipeline:
        """What autoscalers ask; without addons only of what others serve."""
        find = partial(targets.resource_of, client)
        if not self.has_addons:
            return Pipeline(None, None, self.extensions.aggregation, find)
        own = CustomMetrics(self.adapter, client, self.clock)
        metrics.serve_custom(self.server, own)
        return Pipeline(self.usage, own, self.extensions.aggregation, find)

    def client(self, user: str, manager: str = "") -> Client:
        """A client that writes as `user`. Nobody asks whether it may, but admission sees who it is."""
        who = User(user, (MASTERS,)) if user in SUPERUSERS else component(user)
        return LocalClient(self.server.registry, who, manager or user.rpartition(":")[2])

    def controller_client(self, user: str) -> Client:
        return self.client(user, "kube-controller-manager" if user.startswith(PREFIX) else "")

    def recorder(self, source: str, user: str = "", host: str = "") -> EventRecorder:
        """By default of a controller, whose service account is called as it is."""
        user = user or f"{PREFIX}kube-system:{source}"
        client = self.client(user, source) if host else self.controller_client(user)
        recorder = Recorder(client, source, host=host, clock=self.clock.now)
        self.recorders.append(recorder)
        return recorder

    async def bootstrap(self) -> None:
        """Makes what a cluster has from its first moment; harmless for one that has it."""
        api = bootstrap.Api(
            cluster_ip=self.addresses.api_ip,
            service_cidr=self.addresses.service_cidr,
            endpoint_ip=self.addresses.gateway,
            endpoint_port=API_PORT,
            client_ca=self.pki.ca_cert.read_text(),
            proxy_ca=self.pki.proxy_ca_cert.read_text(),
        )
        client = self.client(bootstrap.USER, "kube-apiserver")
        await bootstrap.ensure(client, api, self.clock.now())
        await reconciliation.ensure(client, policy.objects())
        if self.has_addons:
            await _install_addons(client)
            await metrics.publish(client, self.clock.now())
        self.extensions.start()

    def sign_token(self, account: Object, secret: Object) -> str:
        """The endless token of a token secret."""
        return self.tokens.issue_legacy(
            meta.namespace(account), meta.name(account), meta.uid(account), meta.name(secret)
        )

    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.pki.server_cert, self.pki.server_key)
        context.load_verify_locations(self.pki.ca_cert)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context


async def _install_addons(client: Client) -> None:
    """What most clusters have beside Kubernetes itself. A default storage class of the user's own is enough."""
    if not provisioner.has_default_class(client):
        await bootstrap.create_missing(client, provisioner.CLASSES, provisioner.default_class())
    definitions = (*verticalpodautoscaler.definitions(), *volumesnapshot.definitions())
    missing = (bootstrap.create_missing(client, DEFINITIONS, each) for each in definitions)
    await asyncio.gather(*missing)


class _Late:
    """A reader that exists only after those who read with it: the registry is made with them."""

    def __init__(self, find: Callable[[], Reader]) -> None:
        self._find = find

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._find().get(resource, namespace, name)

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return self._find().list(resource, namespace)


def server_names(addresses: Addresses) -> list[str]:
    """The names and addresses under which the API server is reached, from the host and from pods."""
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    inside = [*services, f"kubernetes.default.svc.{addresses.domain}", addresses.api_ip, addresses.gateway]
    return ["localhost", "127.0.0.1", "::1", *inside]


@contextlib.asynccontextmanager
async def _listening(plane: ControlPlane) -> AsyncGenerator[None]:
    """The API on the host's loopback, and inside the node under the address of the service `kubernetes`."""
    tls = plane.tls()
    helper = await HostHelper.open(str(plane.layout.run / "helper.sock"))
    try:
        outside = await helper.listen("127.0.0.1", plane.record["api_port"])
        await plane.server.listen_on(outside, tls=tls)
        for address in (plane.addresses.api_ip, plane.addresses.gateway):
            await plane.server.listen(address, API_PORT, tls=tls)
        yield
    finally:
        await plane.server.close()
        helper.close()


@contextlib.asynccontextmanager
async def _machine(plane: ControlPlane) -> AsyncGenerator[None]:
    """Network and nodes: what is here already is adopted before anything new begins."""
    layout, addresses = plane.layout, plane.addresses
    services = ServiceProxy(
        plane.client("system:kube-proxy", "kube-proxy"),
        layout=addresses,
        record=plane.recorder("service-controller"),
        run_directory=layout.run,
        state_directory=layout.state,
        balances=plane.has_addons,
    )
    sandbox = await Sandbox.connect(str(layout.run / "zygote.sock"))
    helper = await HostHelper.open(str(layout.run / "helper.sock"))
    shared = Shared(
        machine=inspect_machine(layout.state),
        layout=layout,
        addresses=addresses,
        clients=lambda user: plane.client(user, "kubelet"),
        recorders=lambda node: plane.recorder("kubelet", f"{NODE_PREFIX}{node}", node),
        services=services,
        sandbox=sandbox,
        images=NodeImages(open_images(layout.images, connect=_host_dialer(helper))),
        host_resolver=naming.parse_resolver(_text("/etc/resolv.conf")),
        heartbeat=min(LEASE_EVERY, plane.node_grace / HEARTBEATS_IN_GRACE),
        clock=plane.clock,
    )
    nodes = Nodes(plane.server.registry.reader)
    fleet = Fleet(plane.record, shared, nodes, plane.usage, plane.client(ADMINISTRATOR))
    rest.serve(plane.server, nodes)
    kubelet_api.serve(plane.server, nodes, layout.state, plane.clock)
    machine_rest.serve(plane.server, fleet)
    apiproxy.serve(plane.server)
    await services.start()
    await fleet.start()
    try:
        yield
    finally:
        await fleet.stop()
        await services.stop()
        sandbox.close()
        helper.close()


def _host_dialer(helper: HostHelper) -> Callable[[str, int, float], socket.socket]:
    """Connects by way of the host's network, for the threads that talk to registries: the node has no other way out."""
    loop = asyncio.get_running_loop()

    async def dial(host: str, port: int, timeout: float) -> socket.socket:
        failure = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH), host)
        for address in await helper.resolve(host):
            try:
                return await helper.connect(address, port, timeout)
            except OSError as error:
                failure = error
        raise failure

    def connect(host: str, port: int, timeout: float) -> socket.socket:
        connected = asyncio.run_coroutine_threadsafe(dial(host, port, timeout), loop).result()
        connected.settimeout(timeout)
        return connected

    return connect


@contextlib.asynccontextmanager
async def _minds(plane: ControlPlane) -> AsyncGenerator[None]:
    """Controllers and scheduler."""
    scheduler = Scheduler(
        plane.client(SCHEDULER, "kube-scheduler"),
        plane.recorder("default-scheduler", SCHEDULER),
        plane.clock,
        plane.decisions,
    )
    disk = LocalDisk(plane.layout.volumes, plane.layout.snapshots)
    manager = catalogue.start(
        clients=plane.controller_client,
        recorders=plane.recorder,
        root_ca=plane.pki.ca_cert.read_text(),
        metrics=plane.pipeline,
        usage=plane.pipeline,
        sign_token=plane.sign_token,
        signers=signer.signers(pki.Authority.load(plane.pki.ca_cert, plane.pki.ca_key)),
        approve=KubeletApproval(plane.server.authorize),
        node_grace=plane.node_grace,
        disk=disk,
        clock=plane.clock,
        decisions=plane.decisions,
        stopwatch=time.perf_counter,
    )
    scheduler.start()
    try:
        yield
    finally:
        await scheduler.stop()
        await manager.stop()
        await plane.adapter.close()
        disk.close()
        for recorder in plane.recorders:
            await recorder.close()


def _announce(layout: Layout, message: str) -> None:
    """Tells whoever waits for the start (see `podling.cli.cluster`); after a restart nobody does."""
    with contextlib.suppress(OSError):
        descriptor = os.open(layout.run / "ready", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "w") as fifo:
            fifo.write(message)


def _explain(error: OSError | StorageFailed) -> str:
    if isinstance(error, StorageFailed):
        return f"{error}\n"
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}\n"


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
