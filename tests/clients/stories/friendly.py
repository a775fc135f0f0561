"""What scripts and notebooks do with kr8s, which finds out most by discovery."""

import asyncio
import json
import tempfile

import httpx
import kr8s
import kr8s.asyncio
from kr8s.asyncio.objects import Deployment as AsyncDeployment
from kr8s.asyncio.objects import Pod as AsyncPod
from kr8s.objects import ConfigMap, Pod, Service, Table, new_class, objects_from_files
from pods import talker


def _config_map(name, namespace, **data):
    return ConfigMap({"metadata": {"name": name, "namespace": namespace}, "data": data})


def the_cluster_tells_who_and_what_it_is(namespace):
    api = kr8s.api(namespace=namespace)
    assert api.version()["gitVersion"].startswith("v1.")
    kinds = {r["kind"] for r in api.api_resources()}
    assert {"Pod", "Deployment", "Lease", "Ingress", "CustomResourceDefinition"} <= kinds
    assert api.whoami()
    assert [n.name for n in api.get("nodes")]
    assert namespace in [n.name for n in api.get("ns")]


def objects_are_made_patched_labelled_and_deleted(namespace):
    one = _config_map("one", namespace, a="1")
    one.create()
    assert one.exists()
    one.patch({"data": {"b": "2"}})
    one.patch([{"op": "remove", "path": "/data/a"}], type="json")
    one.label(kind="story")
    one.annotate(note="kept")
    again = ConfigMap.get("one", namespace=namespace)
    assert dict(again.data) == {"b": "2"}
    assert [m.name for m in kr8s.get("configmaps", namespace=namespace, label_selector="kind=story")] == ["one"]
    one.delete()
    one.wait("delete", timeout=10)
    assert not one.exists()
    try:
        ConfigMap.get("one", namespace=namespace, timeout=1)
        raise AssertionError("a deleted object was found")
    except kr8s.NotFoundError:
        pass


def a_pod_is_talked_to(namespace):
    pod = Pod({**talker("talker"), "metadata": {"name": "talker", "namespace": namespace, "labels": {"app": "t"}}})
    pod.create()
    pod.wait("condition=Ready", timeout=30)
    assert pod.ready()
    assert list(pod.logs()) == ["hello", "to the log"]
    done = pod.exec(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    service = {"metadata": {"name": "talk", "namespace": namespace}}
    Service({**service, "spec": {"selector": {"app": "t"}, "ports": [{"port": 80, "targetPort": 8000}]}}).create()
    found = Service.get("talk", namespace=namespace)
    assert [p.name for p in found.ready_pods()] == ["talker"]
    pod.delete(grace_period=0)


async def a_port_is_forwarded_and_a_deployment_scaled(namespace):
    template = talker("web")
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
    }
    deployment = await AsyncDeployment({"metadata": {"name": "web", "namespace": namespace}, "spec": spec})
    await deployment.create()
    await deployment.wait("condition=Available", timeout=30)
    await deployment.scale(2)
    await deployment.wait("jsonpath='{.status.readyReplicas}'=2", timeout=30)
    pods = await deployment.pods()
    assert len(pods) == 2
    async with pods[0].portforward(8000) as port, httpx.AsyncClient() as http:
        for _ in range(3):
            assert (await http.get(f"http://127.0.0.1:{port}")).text == "heard"
    await deployment.delete()


async def a_watch_follows(namespace):
    api = await kr8s.asyncio.api(namespace=namespace)
    seen = asyncio.Queue()

    async def follow():
        async for kind, pod in api.watch("pods", namespace=namespace):
            await seen.put((kind, pod.name))

    following = asyncio.create_task(follow())
    pod = await AsyncPod({**talker("one"), "metadata": {"name": "one", "namespace": namespace}})
    await pod.create()
    assert await asyncio.wait_for(seen.get(), 10) == ("ADDED", "one")
    await pod.delete(grace_period=0)
    while await asyncio.wait_for(seen.get(), 10) != ("DELETED", "one"):
        pass
    following.cancel()


def a_kind_made_on_the_fly_works(namespace):
    lease = new_class(kind="Lease", version="coordination.k8s.io/v1", namespaced=True, plural="leases")
    made = lease({"metadata": {"name": "story", "namespace": namespace}, "spec": {"holderIdentity": "me"}})
    made.create()
    assert lease.get("story", namespace=namespace).spec.holderIdentity == "me"


def files_are_read_owners_adopt_and_services_answer(namespace):
    pod = talker("talker", {"app": "t"})
    service = {
        "metadata": {"name": "talk"},
        "spec": {"selector": {"app": "t"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    documents = [pod, {"apiVersion": "v1", "kind": "Service", **service}]
    for document in documents:
        document["metadata"]["namespace"] = namespace
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("---\n".join(json.dumps(document) + "\n" for document in documents))
        file.flush()
        made = objects_from_files(file.name)
    for one in made:
        one.create()
    made[0].wait("condition=Ready", timeout=30)
    child = _config_map("child", namespace)
    child.create()
    made[0].adopt(child)
    assert ConfigMap.get("child", namespace=namespace).metadata.ownerReferences[0].name == "talker"
    with made[0].portforward(8000) as port:
        assert httpx.get(f"http://127.0.0.1:{port}").text == "heard"
    assert made[1].proxy_http_get("/").text == "heard"
    made[0].delete(propagation_policy="Foreground", grace_period=0)
    child.wait("delete", timeout=20)


def a_node_is_tainted_cordoned_and_taken_back(namespace):
    node = next(iter(kr8s.get("nodes")))
    node.taint("story", "x", effect="PreferNoSchedule")
    assert "story" in [t.key for t in node.taints]
    node.cordon()
    assert node.unschedulable
    node.uncordon()
    node.refresh()
    assert not node.unschedulable
    node.patch({"spec": {"taints": None}})
    table = next(iter(kr8s.get("pods", namespace=namespace, as_object=Table)), None)
    assert table is None or table.column_definitions[0].name == "Name"
