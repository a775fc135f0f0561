"""Every kubectl command of a working day, with each kubectl that this machine has.

The unprivileged person uses the oldest and the newest: what they run against is the same.
"""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.kubectl import Kubectl, binary, default, versions
from support.people import Person
from support.system import wait_until
from support.terminal import terminal

NAME = f"kubectl-{os.getpid()}"
DOCKERFILE = """\
FROM python:3.12-slim
WORKDIR /site
RUN echo "hello from the pod" > index.html
CMD ["python", "-u", "-m", "http.server", "8080"]
"""
WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: site:v1
        imagePullPolicy: Never
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""


@pytest.fixture(scope="module")
def clusters(persons: dict[str, Person]) -> Generator[dict[str, Person]]:
    """An empty cluster of each person, and the image `site` in two versions."""
    with ExitStack() as stack:
        for person in persons.values():
            context = person.home / "site"
            context.mkdir(exist_ok=True)
            (context / "Dockerfile").write_text(DOCKERFILE)
            person.own(context)
            person.podling("build", "-q", "-t", "site:v1", "-t", "site:v2", context)
            stack.callback(person.podling, "down", "--name", NAME)
            person.podling("up", "--empty", "--name", NAME)
        yield persons


def _seats() -> list[object]:
    """Who sits before which kubectl. `make test` takes the oldest, the usual one and the newest."""
    every = versions()
    quick = {every[0], default(), every[-1]}
    both = [("root", v) for v in every] + [("rootless", v) for v in dict.fromkeys((*every[:1], *every[-1:]))]
    seats = both if os.getuid() == 0 else [("rootless", v) for v in every]
    return [pytest.param(seat, marks=() if seat[1] in quick else pytest.mark.slow, id="-".join(seat)) for seat in seats]


@dataclass
class Web:
    """The Deployment `web` in a namespace of its own, and one kubectl."""

    kubectl: Kubectl
    namespace: str

    def __call__(self, *args: str | Path, **options: object) -> str:
        return self.kubectl("-n", self.namespace, *args, **options)

    @property
    def command(self) -> list[str | Path]:
        return [self.kubectl.binary, "--context", self.kubectl.context, "-n", self.namespace]

    def rolled_out(self) -> str:
        return self("rollout", "status", "deployment/web", "--timeout=30s")

    def pod(self) -> str:
        """The newest one."""
        selector = ("-l", "app=web", "--sort-by=.metadata.creationTimestamp")
        return self("get", "pods", *selector, "-o", "name").split()[-1]

    def value(self, path: str) -> str:
        return self("get", "deployment/web", "-o", f"jsonpath={path}")


@pytest.fixture(scope="module", params=_seats())
def web(request: pytest.FixtureRequest, clusters: dict[str, Person]) -> Web:
    kind, version = request.param
    kubectl = Kubectl(clusters[kind], f"podling-{NAME}", binary(version))
    found = Web(kubectl, f"with-{version.replace('.', '-')}")
    kubectl("create", "namespace", found.namespace)
    assert found("apply", "-f", "-", stdin=WEB).splitlines() == ["deployment.apps/web created", "service/web created"]
    assert "successfully rolled out" in found.rolled_out()
    return found


def test_get_shows_everything_that_belongs_to_a_deployment(web: Web) -> None:
    shown = web("get", "pods,svc,deploy,rs,endpointslices", "-o", "wide")
    for words in ("pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-", "endpointslice.discovery"):
        assert words in shown
    assert "1/1     Running   0" in shown
    assert "10.244.0." in shown


def test_get_in_other_forms(web: Web) -> None:
    assert web("get", "deploy", "web", "-o", "yaml").startswith("apiVersion: apps/v1\nkind: Deployment\n")
    assert web("get", "pods", "-o", "custom-columns=PHASE:.status.phase", "--no-headers").split() == ["Running"]
    assert "kubernetes" in web.kubectl("get", "services", "--all-namespaces")
    assert "Ready" in web.kubectl("get", "nodes")
    missing = web.kubectl.run("-n", web.namespace, "get", "pod", "nobody", check=False)
    assert (missing.returncode, missing.stderr) == (1, 'Error from server (NotFound): pods "nobody" not found\n')


def test_describe_tells_the_story(web: Web) -> None:
    deployment = web("describe", "deployment", "web")
    for words in (
        "StrategyType:",
        "RollingUpdate",
        "NewReplicaSet:",
        "ScalingReplicaSet",
        "Scaled up replica set web-",
    ):
        assert words in deployment
    pod = web("describe", web.pod())
    for words in ("Node:", "IP:", "Readiness:", "http-get http://:http/", "Scheduled", "Started"):
        assert words in pod
    assert "Endpoints:" in web("describe", "service", "web")
    assert "Capacity:" in web.kubectl("describe", "node")


def test_logs_are_followed(web: Web) -> None:
    follower = web.kubectl.start("-n", web.namespace, "logs", "-f", "deployment/web", stdout=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        web("exec", "deployment/web", "--", "sh", "-c", "echo a word > /proc/1/fd/1")
        assert any("a word" in line for line in follower.stdout)
    finally:
        follower.kill()
        follower.communicate()
    assert "a word" in web("logs", "--tail=50", web.pod())


def test_exec_gives_output_exit_code_and_takes_input(web: Web) -> None:
    assert web("exec", "-i", web.pod(), "--", "sh", "-c", "tr a-z A-Z", stdin="whispered") == "WHISPERED"
    failed = web.kubectl.run("-n", web.namespace, "exec", web.pod(), "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7


def test_exec_with_a_terminal_is_a_shell_to_sit_before(web: Web) -> None:
    with terminal(web.kubectl.person, *web.command, "exec", "-it", web.pod(), "--", "sh") as shell:
        shell.type("tty && echo in $((40 + 2))\n")
        shell.wait_for("/dev/pts/")
        shell.wait_for("in 42")
        shell.type("exit 3\n")
        assert shell.end() == 3


def test_cp_both_ways(web: Web) -> None:
    here = web.kubectl.person.home / f"cp-{web.namespace}"
    here.write_text("carried over\n")
    web.kubectl.person.own(here)
    name = web.pod().removeprefix("pod/")
    web("cp", here, f"{name}:/tmp/there")
    web("cp", f"{name}:/tmp/there", f"{here}.back")
    assert Path(f"{here}.back").read_text() == "carried over\n"


def test_port_forward_reaches_the_pod(web: Web) -> None:
    forward = web.kubectl.start("-n", web.namespace, "port-forward", "service/web", ":80", stdout=subprocess.PIPE)
    try:
        assert forward.stdout is not None
        port = int(forward.stdout.readline().split("127.0.0.1:")[1].split(" ")[0])
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"hello from the pod\n"
    finally:
        forward.kill()
        forward.communicate()


def test_apply_knows_what_changed(web: Web) -> None:
    assert set(web("apply", "-f", "-", stdin=WEB).split()[1::2]) == {"unchanged"}
    longer = WEB.replace("app: web}}\nspec:\n  replicas", "app: web, tier: front}}\nspec:\n  replicas", 1)
    difference = web.kubectl.run("-n", web.namespace, "diff", "-f", "-", stdin=longer, check=False)
    assert (difference.returncode, "+    tier: front" in difference.stdout) == (1, True)
    assert "deployment.apps/web configured" in web("apply", "-f", "-", stdin=longer)
    assert web.value("{.metadata.labels.tier}") == "front"
    web("apply", "-f", "-", stdin=WEB)
    assert web.value("{.metadata.labels.tier}") == ""


def test_server_side_apply_has_owners(web: Web) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {key: %s}\n"
    assert "serverside-applied" in web("apply", "--server-side", "-f", "-", stdin=config % "mine")
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    conflict = web.kubectl.run("-n", web.namespace, *other, stdin=config % "theirs", check=False)
    assert conflict.returncode == 1
    assert 'conflict with "kubectl"' in conflict.stderr
    web(*other, "--force-conflicts", stdin=config % "theirs")
    assert web("get", "configmap", "owned", "-o", "jsonpath={.data.key}") == "theirs"


def test_edit_opens_an_editor(web: Web) -> None:
    web("create", "configmap", "edited", "--from-literal=word=before")
    done = web.kubectl.person.run(
        "env", "KUBE_EDITOR=sed -i s/before/after/", *web.command, "edit", "configmap", "edited"
    )
    assert done.stdout == "configmap/edited edited\n"
    assert web("get", "configmap", "edited", "-o", "jsonpath={.data.word}") == "after"


def test_labels_and_annotations(web: Web) -> None:
    web("label", "service/web", "seen=yes")
    web("annotate", "service/web", "example.com/note=a note")
    assert web("get", "service", "-l", "seen=yes", "-o", "name") == "service/web\n"
    refused = web.kubectl.run("-n", web.namespace, "label", "service/web", "seen=no", check=False)
    assert "already has a value (yes), and --overwrite is false" in refused.stderr
    web("label", "service/web", "seen-")
    assert web("get", "service", "-l", "seen", "-o", "name") == ""


def test_scale_and_watch(web: Web) -> None:
    watch = web.kubectl.start(
        *("-n", web.namespace, "get", "deployment/web", "-w", "-o", "jsonpath={.status.readyReplicas}{'\\n'}"),
        stdout=subprocess.PIPE,
    )
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "1\n"
        web("scale", "deployment/web", "--replicas=2")
        assert any(line == "2\n" for line in watch.stdout)
    finally:
        watch.kill()
        watch.communicate()
    assert "condition met" in web("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=30s")
    web("scale", "deployment/web", "--replicas=1")


def test_a_rollout_and_its_undoing(web: Web) -> None:
    web("set", "image", "deployment/web", "web=site:v2")
    assert "successfully rolled out" in web.rolled_out()
    history = web("rollout", "history", "deployment/web").split()
    web("rollout", "undo", "deployment/web")
    web.rolled_out()
    assert web.value("{.spec.template.spec.containers[0].image}") == "site:v1"
    after = web("rollout", "history", "deployment/web").split()
    assert int(after[-2]) > int(history[-2])


def test_a_paused_rollout_waits_for_its_resumption(web: Web) -> None:
    web("rollout", "pause", "deployment/web")
    web("set", "env", "deployment/web", "PAUSED=first")
    before = web.pod()
    waits = web.kubectl.run("-n", web.namespace, "rollout", "restart", "deployment/web", check=False)
    assert "can't restart paused deployment (run rollout resume first)" in waits.stderr
    web("rollout", "resume", "deployment/web")
    web.rolled_out()
    assert web("exec", "deployment/web", "--", "printenv", "PAUSED") == "first\n"
    assert web.pod() != before


def test_a_restart_replaces_the_pod(web: Web) -> None:
    before = web.pod()
    web("rollout", "restart", "deployment/web")
    web.rolled_out()
    assert web.pod() != before


def test_a_deleted_pod_is_replaced(web: Web) -> None:
    victim = web.pod()
    assert web("delete", victim).startswith(f'pod "{victim.removeprefix("pod/")}" deleted')
    web.rolled_out()
    assert web.pod() != victim


def test_the_api_explains_itself(web: Web) -> None:
    assert "rollingUpdate" in web("explain", "deployment.spec.strategy")
    resources = web("api-resources", "--namespaced=true", "-o", "name").split()
    assert {"pods", "deployments.apps", "ingresses.networking.k8s.io"} <= set(resources)
    assert "apps/v1" in web("api-versions").split()
    assert web("auth", "can-i", "delete", "pods").strip() == "yes"
    nobody = ("auth", "can-i", "delete", "pods", "--as=system:serviceaccount:default:default")
    assert web.kubectl.run("-n", web.namespace, *nobody, check=False).stdout.strip() == "no"
    assert "Server Version" in web("version")
    assert "is running at" in web("cluster-info")


def test_events_are_listed(web: Web) -> None:
    shown = web("events", "--for", "deployment/web")
    assert "ScalingReplicaSet" in shown
    assert "Started" in web("get", "events", "--sort-by=.lastTimestamp")


def test_a_pod_is_run_and_waited_for(web: Web) -> None:
    web("run", "once", "--image=site:v1", "--image-pull-policy=Never", "--restart=Never", "--", "echo", "ran")
    web("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/once", "--timeout=30s")
    assert web("logs", "once") == "ran\n"
    web("delete", "pod", "once", "--now")


CREATED = """\
configmap made --from-literal=a=1
secret generic made --from-literal=a=1
serviceaccount made
role made --verb=get --resource=pods
rolebinding made --role=made --serviceaccount=default:default
quota made --hard=count/widgets.example.com=1
poddisruptionbudget made --selector=app=nobody --min-available=1
service clusterip made --tcp=80:8080
service nodeport made-too --tcp=80:8080
service externalname made-outside --external-name=example.com
ingress made --rule=example.com/*=web:80
deployment made --image=site:v1 --replicas=0
cronjob made --image=site:v1 --schedule=@yearly -- true
job made --from=cronjob/made
"""


def test_create_makes_every_kind_that_it_knows(web: Web) -> None:
    for line in CREATED.splitlines():
        assert web("create", *line.split()).endswith("created\n"), line
    assert web("create", "token", "made").count(".") == 2
    assert "condition met" in web("wait", "--for=condition=Complete", "job/made", "--timeout=30s")
    kinds = "configmap,secret,serviceaccount,role,rolebinding,quota,pdb,service,ingress,deployment,cronjob,job"
    assert len(web("get", kinds, "-o", "name", "--field-selector=metadata.name=made").split()) == 12
    # The last first: a job that a cron job owns goes with it.
    for line in reversed(CREATED.splitlines()):
        kind, name = [w for w in line.split() if w not in ("generic", "clusterip", "nodeport", "externalname")][:2]
        assert "deleted" in web("delete", kind, name)


def test_patches_of_three_kinds(web: Web) -> None:
    patches = {
        "strategic": '{"metadata": {"annotations": {"strategic": "1"}}}',
        "merge": '{"metadata": {"annotations": {"merge": "1", "strategic": null}}}',
        "json": '[{"op": "add", "path": "/metadata/annotations/json", "value": "1"}]',
    }
    for kind, patch in patches.items():
        assert web("patch", "service/web", f"--type={kind}", "-p", patch) == "service/web patched\n"
    path = "jsonpath={.metadata.annotations.strategic}{.metadata.annotations.merge}{.metadata.annotations.json}"
    assert web("get", "service/web", "-o", path) == "11"
    assert web("patch", "service/web", "--type=merge", "-p", '{"metadata": {}}') == "service/web patched (no change)\n"


def test_a_deployment_is_exposed_and_autoscaled(web: Web) -> None:
    assert (
        web("expose", "deployment/web", "--name=exposed", "--port=81", "--target-port=8080")
        == "service/exposed exposed\n"
    )
    assert web("get", "service/exposed", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    assert "autoscaled" in web("autoscale", "deployment/web", "--min=1", "--max=2")
    assert web("get", "hpa/web", "-o", "jsonpath={.spec.maxReplicas}") == "2"
    web("delete", "service/exposed", "hpa/web")


def test_replace_by_force_makes_it_anew(web: Web) -> None:
    web("create", "configmap", "replaced", "--from-literal=a=1")
    before = web("get", "configmap/replaced", "-o", "json")
    assert "replaced" in web("replace", "-f", "-", stdin=before.replace('"a": "1"', '"a": "2"'))
    assert "replaced" in web("replace", "--force", "-f", "-", stdin=before)
    after = web("get", "configmap/replaced", "-o", "jsonpath={.data.a} {.metadata.uid}").split()
    assert after[0] == "1"
    assert after[1] not in before


def test_a_node_is_tainted_cordoned_drained_and_taken_back(web: Web) -> None:
    node = web.kubectl("get", "nodes", "-o", "name").strip().removeprefix("node/")
    assert "tainted" in web.kubectl("taint", "node", node, "k=v:PreferNoSchedule")
    assert "untainted" in web.kubectl("taint", "node", node, "k-")
    victim = web.pod().removeprefix("pod/")
    try:
        drained = web.kubectl(
            "drain", node, "--pod-selector=app=web", "--ignore-daemonsets", "--timeout=60s", timeout=70
        )
        assert f"pod/{victim} evicted" in drained
        assert "SchedulingDisabled" in web.kubectl("get", "node", node)
    finally:
        assert "uncordoned" in web.kubectl("uncordon", node)
    web.rolled_out()


def test_top_shows_what_is_used(web: Web) -> None:
    shown = lambda *what: web.kubectl.run("-n", web.namespace, "top", *what, check=False)  # noqa: E731
    wait_until(lambda: shown("pods").returncode == 0, 60, "usage of pods")
    assert web.pod().removeprefix("pod/") in shown("pods", "--containers").stdout
    assert "Mi" in shown("nodes").stdout


def test_a_pod_is_attached_to(web: Web) -> None:
    command = (
        "run",
        "-i",
        "--rm",
        "--quiet",
        "echo",
        "--image=site:v1",
        "--image-pull-policy=Never",
        "--restart=Never",
    )
    assert "said" in web(*command, "--", "cat", stdin="said\n")


def test_a_pod_is_debugged_from_beside(web: Web) -> None:
    pod = web.pod().removeprefix("pod/")
    beside = ("--image=site:v1", "--image-pull-policy=Never", "-c", "beside", "--target=web")
    web("debug", pod, *beside, "--", "sh", "-c", "cat /proc/1/comm; echo looked")
    wait_until(
        lambda: "looked" in web.kubectl.run("-n", web.namespace, "logs", pod, "-c", "beside", check=False).stdout, 30
    )
    assert web("logs", pod, "-c", "beside").startswith("python")


def test_a_proxy_reaches_services_through_the_api(web: Web) -> None:
    proxy = web.kubectl.start("proxy", "--port=0", stdout=subprocess.PIPE)
    try:
        assert proxy.stdout is not None
        where = proxy.stdout.readline().split()[-1]
        url = f"http://{where}/api/v1/namespaces/{web.namespace}/services/web:80/proxy/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"hello from the pod\n"
    finally:
        proxy.kill()
        proxy.communicate()


def test_the_server_is_asked_without_a_kind(web: Web) -> None:
    assert web.kubectl("get", "--raw", "/readyz") == "ok"
    assert '"v1.' in web.kubectl("get", "--raw", "/version")
    who = web.kubectl.run("auth", "whoami", check=False)
    # 1.27 asks for a version of the review that no longer exists.
    assert "kubernetes-admin" in who.stdout or "the selfsubjectreviews API is not enabled" in who.stderr


def test_a_directory_of_kustomize_is_applied_and_pruned(web: Web) -> None:
    directory = web.kubectl.person.home / f"kustomize-{web.namespace}"
    directory.mkdir()
    generated = "configMapGenerator: [{name: built, literals: [a=1]}]\ngeneratorOptions: {labels: {part: built}}\n"
    (directory / "kustomization.yaml").write_text(f"namePrefix: k-\n{generated}")
    web.kubectl.person.own(directory)
    assert "name: k-built-" in web("kustomize", directory)
    assert "created (server dry run)" in web("apply", "-k", directory, "--dry-run=server")
    assert web("get", "configmaps", "-l", "part=built", "-o", "name") == ""
    web("apply", "-k", directory)
    first = web("get", "configmaps", "-l", "part=built", "-o", "name")
    (directory / "kustomization.yaml").write_text(f"namePrefix: k-\n{generated}".replace("a=1", "a=2"))
    pruned = web("apply", "-k", directory, "--prune", "-l", "part=built", "--prune-allowlist=core/v1/ConfigMap")
    assert f"{first.strip()} pruned" in pruned
    assert len(web("get", "configmaps", "-l", "part=built", "-o", "name").split()) == 1


def test_what_is_owned_may_be_left_behind(web: Web) -> None:
    web("create", "deployment", "left", "--image=site:v1", "--replicas=0")
    web("wait", "--for=jsonpath={.status.observedGeneration}=1", "deployment/left", "--timeout=30s")
    web("delete", "deployment/left", "--cascade=orphan")
    left = web("get", "replicasets", "-l", "app=left", "-o", "jsonpath={.items[*].metadata.ownerReferences}")
    assert left == ""
    assert "deleted" in web("delete", "replicasets", "-l", "app=left")


def test_set_changes_parts_of_a_template(web: Web) -> None:
    dry = ("--dry-run=server", "-o")
    cpu = "jsonpath={.spec.template.spec.containers[0].resources.requests.cpu}"
    assert web("set", "resources", "deployment/web", "--requests=cpu=11m", *dry, cpu) == "11m"
    account = "jsonpath={.spec.template.spec.serviceAccountName}"
    assert web("set", "serviceaccount", "deployment/web", "other", *dry, account) == "other"
    assert web("set", "selector", "service/web", "app=other", *dry, "jsonpath={.spec.selector.app}") == "other"


def test_lists_come_in_pages(web: Web) -> None:
    for number in range(3):
        web("create", "configmap", f"page-{number}")
    web("label", "configmap", "page-0", "page-1", "page-2", "paged=yes")
    paged = web("get", "configmaps", "--chunk-size=1", "-l", "paged=yes", "-o", "name").split()
    assert paged == [f"configmap/page-{number}" for number in range(3)]


def test_a_namespace_takes_everything_with_it(web: Web) -> None:
    """Last in this file: the namespace is that of all the others."""
    web.kubectl("delete", "namespace", web.namespace, timeout=60)
    assert web("get", "all,configmaps", "-o", "name") == ""
