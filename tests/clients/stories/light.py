"""What charms and operators do with lightkube, which decodes every object into its own types."""

from lightkube import AsyncClient, Client
from lightkube.core.exceptions import ApiError, ObjectDeleted
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec, Probe, TCPSocketAction
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Event, Namespace, Node, Pod, Service
from lightkube.types import CascadeType, PatchType
from pods import TALKER, talker


def _config_map(name, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, labels={"kind": "story"}), data=data)


def _deployment(replicas):
    listening = Probe(tcpSocket=TCPSocketAction(port=8000), periodSeconds=1)
    command = ["python", "-c", TALKER]
    container = Container(name="main", image="python:3.13-slim", command=command, readinessProbe=listening)
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": "web"}),
        spec=PodSpec(containers=[container], terminationGracePeriodSeconds=0),
    )
    return Deployment(
        apiVersion="apps/v1",
        kind="Deployment",
        metadata=ObjectMeta(name="web"),
        spec=DeploymentSpec(replicas=replicas, selector=LabelSelector(matchLabels={"app": "web"}), template=template),
    )


def every_object_of_a_new_cluster_decodes(namespace):
    kube = Client(namespace=namespace)
    assert next(iter(kube.list(Node))).status.nodeInfo.kubeletVersion.startswith("v1.")
    assert namespace in {n.metadata.name for n in kube.list(Namespace)}
    assert kube.get(Service, "kubernetes", namespace="default").spec.ports[0].port == 443
    list(kube.list(Event, namespace="*"))


def objects_are_written_in_every_way(namespace):
    kube = Client(namespace=namespace, field_manager="story")
    made = kube.create(_config_map("one", a="1"))
    kube.patch(ConfigMap, "one", {"data": {"b": "2"}}, patch_type=PatchType.MERGE)
    kube.patch(ConfigMap, "one", [{"op": "remove", "path": "/data/a"}], patch_type=PatchType.JSON)
    kube.patch(ConfigMap, "one", {"data": {"c": "3"}}, patch_type=PatchType.STRATEGIC)
    applied = kube.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="one"), data={"d": "4"}))
    assert applied.data == {"b": "2", "c": "3", "d": "4"}
    made.data = {"z": "26"}
    try:
        kube.replace(made)
        raise AssertionError("an outdated object was accepted")
    except ApiError as error:
        assert (error.status.code, error.status.reason) == (409, "Conflict")
    assert [m.metadata.name for m in kube.list(ConfigMap, labels={"kind": "story"}, chunk_size=1)] == ["one"]
    kube.deletecollection(ConfigMap)
    assert not list(kube.list(ConfigMap, labels={"kind": ("story", "tale")}))


def a_deployment_is_scaled_and_deleted_with_its_pods(namespace):
    kube = Client(namespace=namespace, field_manager="story")
    kube.create(_deployment(1))
    kube.wait(Deployment, "web", for_conditions=["Available"])
    scale = kube.get(Deployment.Scale, "web")
    scale.spec.replicas = 3
    kube.replace(scale, "web")
    for _, deployment in kube.watch(Deployment, fields={"metadata.name": "web"}, server_timeout=30):
        if deployment.status.readyReplicas == 3:
            break
    pods = list(kube.list(Pod, labels={"app": "web"}))
    assert len(pods) == 3
    first = pods[0].metadata.name
    assert list(kube.log(first)) == ["hello\n", "to the log\n"]
    kube.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
    try:
        kube.wait(Deployment, "web", for_conditions=["Never"])
        raise AssertionError("the wait for a deleted object ended well")
    except (ObjectDeleted, ApiError):
        pass
    assert not list(kube.list(Pod, labels={"app": "web"}))


def a_kind_known_only_by_name_works(namespace):
    kube = Client(namespace=namespace)
    leases = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")
    kube.create(leases(metadata={"name": "story"}, spec={"holderIdentity": "me"}))
    assert kube.get(leases, "story").spec["holderIdentity"] == "me"


async def the_asynchronous_client_watches(namespace):
    kube = AsyncClient(namespace=namespace)
    await kube.create(Pod.from_dict(talker("talker")))
    pod = await kube.wait(Pod, "talker", for_conditions=["Ready"])
    assert pod.status.podIP
    async for kind, seen in kube.watch(ConfigMap):
        assert (kind, seen.metadata.name) == ("ADDED", "kube-root-ca.crt")
        break
    await kube.close()
