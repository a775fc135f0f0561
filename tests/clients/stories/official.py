"""What programs do with the official Python client."""

import re
import socket
import threading
import time

from kubernetes import client, config, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError
from kubernetes.stream import portforward, stream
from pods import talker

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()


def _config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"kind": "story"}), data=data)


def _refused(call, *args, **kwargs):
    """The error that a call must end with."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        return error
    raise AssertionError(f"{call} was not refused")


def _running(namespace, name):
    core.create_namespaced_pod(namespace, talker(name))
    events = watch.Watch().stream(
        core.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=30
    )
    for event in events:
        conditions = event["object"].status.conditions or []
        if any(c.type == "Ready" and c.status == "True" for c in conditions):
            return
    raise AssertionError(f"pod {name} is not ready in time")


def objects_are_created_read_replaced_patched_and_deleted(namespace):
    made = core.create_namespaced_config_map(namespace, _config_map("one", a="1"))
    made.data["b"] = "2"
    replaced = core.replace_namespaced_config_map("one", namespace, made)
    assert int(replaced.metadata.resource_version) > int(made.metadata.resource_version)
    patched = core.patch_namespaced_config_map("one", namespace, {"data": {"a": None, "c": "3"}})
    assert patched.data == {"b": "2", "c": "3"}
    core.patch_namespaced_config_map("one", namespace, [{"op": "add", "path": "/data/d", "value": "4"}])
    assert core.read_namespaced_config_map("one", namespace).data == {"b": "2", "c": "3", "d": "4"}
    assert core.delete_namespaced_config_map("one", namespace)["status"] == "Success"
    assert _refused(core.read_namespaced_config_map, "one", namespace).status == 404


def two_writers_conflict(namespace):
    stale = core.create_namespaced_config_map(namespace, _config_map("one", a="1"))
    assert _refused(core.create_namespaced_config_map, namespace, _config_map("one")).reason == "Conflict"
    core.patch_namespaced_config_map("one", namespace, {"data": {"a": "2"}})
    error = _refused(core.replace_namespaced_config_map, "one", namespace, stale)
    assert error.status == 409, error
    assert "the object has been modified" in error.body


def lists_come_in_pages_of_one_moment(namespace):
    for number in range(7):
        core.create_namespaced_config_map(namespace, _config_map(f"page-{number}"))
    first = core.list_namespaced_config_map(namespace, label_selector="kind=story", limit=3)
    core.create_namespaced_config_map(namespace, _config_map("page-9"))
    names, page = [m.metadata.name for m in first.items], first
    assert page.metadata.remaining_item_count is None, "with a selector nobody knows how many remain"
    while page.metadata._continue:
        page = core.list_namespaced_config_map(
            namespace, label_selector="kind=story", limit=3, _continue=page.metadata._continue
        )
        assert page.metadata.resource_version == first.metadata.resource_version
        names += [m.metadata.name for m in page.items]
    assert names == [f"page-{n}" for n in range(7)]


def a_watch_tells_every_change_and_ends_in_time(namespace):
    start = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, _config_map("one", a="1"))
    core.patch_namespaced_config_map("one", namespace, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("one", namespace)
    events = watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=start,
        field_selector="metadata.name=one",
        timeout_seconds=1,
    )
    seen = [(e["type"], e["object"].data["a"]) for e in events]
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen


def a_watch_from_the_future_of_another_life_is_answered(namespace):
    """The client must learn that its version means nothing here, instead of waiting for ever."""
    events = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version="999999999", timeout_seconds=1
    )
    assert list(events) == []


def an_informer_keeps_a_cache_and_tells_of_changes(namespace):
    from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

    seen, arrived = [], threading.Condition()

    def record(kind):
        def handler(*objects):
            with arrived:
                seen.append((kind, objects[-1].metadata.name))
                arrived.notify_all()

        return handler

    core.create_namespaced_config_map(namespace, _config_map("before"))
    informer = SharedInformer(core.list_namespaced_config_map, namespace=namespace, label_selector="kind=story")
    for kind in (ADDED, MODIFIED, DELETED):
        informer.add_event_handler(kind, record(kind))
    informer.start()
    try:
        with arrived:
            assert arrived.wait_for(lambda: (ADDED, "before") in seen, 10), seen
        core.create_namespaced_config_map(namespace, _config_map("during"))
        core.patch_namespaced_config_map("during", namespace, {"data": {"a": "1"}})
        core.delete_namespaced_config_map("before", namespace)
        with arrived:
            wanted = {(ADDED, "during"), (MODIFIED, "during"), (DELETED, "before")}
            assert arrived.wait_for(lambda: wanted <= set(seen), 10), seen
        assert [m.metadata.name for m in informer.cache.list() if m.metadata.name != "kube-root-ca.crt"] == ["during"]
    finally:
        informer.stop()


def one_of_two_candidates_leads_and_the_other_follows(namespace):
    from kubernetes.leaderelection import electionconfig, leaderelection
    from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

    leading, led = [], threading.Semaphore(0)

    def candidate(name):
        def lead():
            leading.append(name)
            led.release()
            time.sleep(60)

        lock = LeaseLock("story", namespace, name)
        settings = electionconfig.Config(lock, 3, 2, 1, onstarted_leading=lead, onstopped_leading=lambda: None)
        threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()

    candidate("first")
    assert led.acquire(timeout=10)
    candidate("second")
    assert not led.acquire(timeout=4), leading
    coordination = client.CoordinationV1Api()
    lease = coordination.read_namespaced_lease("story", namespace)
    assert lease.spec.holder_identity == "first", lease


def a_pod_is_talked_to_by_exec_port_forward_and_logs(namespace):
    _running(namespace, "talker")
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "talker",
        namespace,
        command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    said.run_forever(timeout=10)
    assert (said.read_stdout(), said.read_stderr(), said.returncode) == ("out\n", "err\n", 3)
    _exec_with_input(namespace)
    assert core.read_namespaced_pod_log("talker", namespace) == "hello\nto the log\n"
    assert core.read_namespaced_pod_log("talker", namespace, tail_lines=1) == "to the log\n"
    followed = watch.Watch().stream(core.read_namespaced_pod_log, "talker", namespace, follow=True)
    assert [next(followed), next(followed)] == ["hello", "to the log"]
    _port_forward(namespace)


def pods_and_services_are_reached_through_the_api(namespace):
    _running(namespace, "talker")
    assert core.connect_get_namespaced_pod_proxy("talker:8000", namespace) == "heard"
    service = {"metadata": {"name": "talk"}, "spec": {"selector": {"app": "talker"}, "ports": [{"port": 8000}]}}
    core.create_namespaced_service(namespace, service)
    events = watch.Watch().stream(client.DiscoveryV1Api().list_namespaced_endpoint_slice, namespace, timeout_seconds=20)
    next(e for e in events if e["object"].endpoints)
    assert core.connect_get_namespaced_service_proxy_with_path("talk:8000", namespace, "any/where") == "heard"


def _exec_with_input(namespace):
    shell = stream(
        core.connect_get_namespaced_pod_exec,
        "talker",
        namespace,
        command=["sh"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    shell.write_stdin("echo $((6 * 7))\n")
    assert shell.readline_stdout(timeout=10) == "42"
    shell.write_stdin("exit 4\n")
    shell.run_forever(timeout=10)
    assert shell.returncode == 4


def _port_forward(namespace):
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, "talker", namespace, ports="8000")
    connection: socket.socket = forwarded.socket(8000)
    connection.settimeout(10)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    assert answer.endswith(b"heard"), answer
    assert forwarded.error(8000) is None


def the_dynamic_client_discovers_and_applies(namespace):
    dynamic = DynamicClient(client.ApiClient())
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.namespaced
    wanted = _deployment(2)
    applied = deployments.server_side_apply(wanted, namespace=namespace, field_manager="story")
    assert applied.spec.replicas == 2
    assert [f.manager for f in applied.metadata.managedFields] == ["story"]
    try:
        deployments.server_side_apply(_deployment(3), namespace=namespace, field_manager="other")
        raise AssertionError("nobody minded another manager")
    except ConflictError as error:
        assert ".spec.replicas" in str(error.body), error.body
    forced = deployments.server_side_apply(
        _deployment(3), namespace=namespace, field_manager="other", force_conflicts=True
    )
    assert forced.spec.replicas == 3
    for event in deployments.watch(namespace=namespace, name="web", timeout=30):
        if (event["object"].status or {}).get("readyReplicas") == 3:
            break
    else:
        raise AssertionError("three replicas are not ready in time")
    deployments.delete("web", namespace=namespace, body={"propagationPolicy": "Foreground"})
    for event in deployments.watch(namespace=namespace, name="web", timeout=30):
        if event["type"] == "DELETED":
            break
    assert not core.list_namespaced_pod(namespace).items


def _deployment(replicas):
    template = talker("web")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
        },
    }


def manifests_are_created_from_yaml(namespace):
    deployment = _deployment(0)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "web"}, "rules": []}
    manifests = [deployment, {"apiVersion": "v1", "kind": "List", "items": [account, role]}]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=manifests, namespace=namespace)
    assert apps.read_namespaced_deployment("web", namespace).spec.replicas == 0
    assert core.read_namespaced_service_account("web", namespace).metadata.uid
    try:
        utils.create_from_yaml(client.ApiClient(), yaml_objects=manifests, namespace=namespace)
        raise AssertionError("what is there was created again")
    except utils.FailToCreateError as error:
        assert [e.status for e in error.api_exceptions] == [409, 409, 409], error


def every_group_and_version_is_served(namespace):
    """Generated clients know them all; each lists what it serves, none fails."""
    modules = {name: getattr(client, name) for name in dir(client) if re.fullmatch(r"\w+V\d\w*Api", name)}
    assert len(modules) > 30
    for api in modules.values():
        _list_everything(api())
    assert client.VersionApi().get_code().git_version.startswith("v1.")


def _list_everything(api):
    """Calls each `list_...` of one group and version that needs no argument, for what the cluster serves of it: the
    client knows kinds that are newer. Events are left out: the client refuses those without an `eventTime`, which are
    ordinary."""
    try:
        served = {r.kind.lower() for r in api.get_api_resources().resources} - {"event"}
    except ApiException as error:
        assert error.status == 404, error
        return
    for name in dir(api):
        kind = re.fullmatch(r"list_(?!namespaced_)(\w+?)(_for_all_namespaces)?", name)
        if kind and kind.group(1).replace("_", "") in served:
            getattr(api, name)(limit=5)
