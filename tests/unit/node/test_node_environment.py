"""Variables, names and identities of containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_fakes import FakeClient, FakeImage, make_pod

from podling.images.config import ImageConfig
from podling.node import amounts, env_file, naming
from podling.node.container import arguments, full_environment
from podling.node.environment import ConfigError, PodContext, container_environment, expand, field_value
from podling.node.identity import Identity, UnknownAccount, capabilities, identify
from podling.node.naming import Resolver, hosts_file, resolver


def context_of(pod: dict[str, Any]) -> PodContext:
    return PodContext(pod, "10.244.0.7", "10.244.0.1", {"cpu": "2", "memory": "4Gi"})


def environment(
    container: dict[str, Any],
    client: FakeClient | None = None,
    volumes: dict[str, Path] | None = None,
    **spec: Any,
) -> dict[str, str]:
    pod = make_pod(containers=[{"name": "app", "image": "app:v1", **container}], **spec)
    reader: Any = client or FakeClient()
    return container_environment(pod["spec"]["containers"][0], context_of(pod), reader, (volumes or {}).get)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("a$(A)b$(B)", "a1b2"),
    ],
)
def test_references_expand(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


def test_a_variable_sees_only_those_before_it() -> None:
    names = [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "b"}, {"name": "C", "value": "$(B)!"}]
    assert environment({"env": names}) == {"A": "$(B)", "B": "b", "C": "b!"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='1'\nB='2'\n", "2"),
        ("# B='0'\n\n  B='two words' # said twice\nB='3'", "two words"),
        ("A='# no\nB='\nB='2\n3'", "2\n3"),
        ("B= 'nothing'\n", ""),
        ("A='1'", ""),
    ],
)
def test_a_file_of_variables_is_read_as_a_shell_reads_it(text: str, value: str) -> None:
    assert env_file.value_of(text, "B") == value


@pytest.mark.parametrize("text", ["A='1'\nB=2\n", "A='1'\nB = '2'", "A='1'\nB='2' 3", "A='1'\nB='2", "\nB"])
def test_what_is_no_such_file_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="at line 2"):
        env_file.value_of(text, "B")


class TestVariablesOfFiles:
    def value(self, volume: Path, **more: Any) -> dict[str, str]:
        reference = {"volumeName": "v", "path": "vars.env", "key": "B", "optional": False, **more}
        return environment({"env": [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]}, volumes={"v": volume})

    def test_it_is_what_another_container_wrote(self, tmp_path: Path) -> None:
        (tmp_path / "vars.env").write_text("B='2'\n")
        assert self.value(tmp_path) == {"X": "2"}

    def test_what_is_missing_is_an_error_unless_it_is_optional(self, tmp_path: Path) -> None:
        assert self.value(tmp_path, optional=True) == {}
        with pytest.raises(ConfigError, match="couldn't parse env file"):
            self.value(tmp_path)
        (tmp_path / "vars.env").write_text("A='1'\n")
        assert self.value(tmp_path, optional=True) == {}
        with pytest.raises(ConfigError, match='environment variable key "B" not found in file'):
            self.value(tmp_path)
        with pytest.raises(ConfigError, match='cannot find the volume "w" referenced by FileKeyRef'):
            self.value(tmp_path, volumeName="w")

    def test_no_link_leads_out_of_the_volume(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("B='2'\n")
        volume = tmp_path / "volume"
        volume.mkdir()
        (volume / "vars.env").symlink_to("../secret")
        with pytest.raises(ConfigError, match="couldn't parse env file"):
            self.value(volume)


def test_whole_config_maps_come_with_a_prefix() -> None:
    client = FakeClient()
    client.put("configmaps", {"metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v", "a=b": "x"}})
    source = [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "none", "optional": True}}]
    assert environment({"envFrom": source}, client) == {"P_k": "v"}


def test_what_is_missing_is_said_as_the_kubelet_says_it() -> None:
    client = FakeClient()
    client.put("configmaps", {"metadata": {"name": "c", "namespace": "default"}, "data": {}})

    def variable(kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {"env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": "k", **more}}}]}

    with pytest.raises(ConfigError, match=r'^secret "none" not found$'):
        environment(variable("secretKeyRef", "none"), client)
    with pytest.raises(ConfigError, match=r"^couldn't find key k in ConfigMap default/c$"):
        environment(variable("configMapKeyRef", "c"), client)
    assert environment(variable("configMapKeyRef", "c", optional=True), client) == {}


def test_services_of_the_namespace_become_variables() -> None:
    client = FakeClient()
    ports = [{"port": 80, "name": "http", "protocol": "TCP"}]
    for name, namespace, ip in (
        ("my-svc", "default", "10.96.0.5"),
        ("none", "default", "None"),
        ("other", "x", "10.96.0.6"),
    ):
        metadata = {"name": name, "namespace": namespace}
        client.put("services", {"metadata": metadata, "spec": {"clusterIP": ip, "ports": ports}})
    assert environment({"env": [{"name": "URL", "value": "http://$(MY_SVC_SERVICE_HOST)"}]}, client) == {
        "MY_SVC_SERVICE_HOST": "10.96.0.5",
        "MY_SVC_SERVICE_PORT": "80",
        "MY_SVC_SERVICE_PORT_HTTP": "80",
        "MY_SVC_PORT": "tcp://10.96.0.5:80",
        "MY_SVC_PORT_80_TCP": "tcp://10.96.0.5:80",
        "MY_SVC_PORT_80_TCP_PROTO": "tcp",
        "MY_SVC_PORT_80_TCP_PORT": "80",
        "MY_SVC_PORT_80_TCP_ADDR": "10.96.0.5",
        "URL": "http://10.96.0.5",
    }
    assert environment({}, client, enableServiceLinks=False) == {}


def test_resources_are_told_in_units_of_their_divisor() -> None:
    def told(reference: dict[str, Any]) -> str:
        variable = {"name": "R", "valueFrom": {"resourceFieldRef": reference}}
        limits = {"limits": {"cpu": "1500m", "memory": "64Mi"}}
        return environment({"env": [variable], "resources": limits})["R"]

    assert told({"resource": "limits.cpu"}) == "2"
    assert told({"resource": "limits.cpu", "divisor": "1m"}) == "1500"
    assert told({"resource": "limits.memory", "divisor": "1Mi"}) == "64"
    assert told({"resource": "requests.memory"}) == "0"


def test_labels_are_written_sorted_and_quoted() -> None:
    pod = make_pod()
    pod["metadata"]["labels"] = {"b": 'say "hi"\n', "a": "1"}
    assert field_value("metadata.labels", context_of(pod)) == 'a="1"\nb="say \\"hi\\"\\n"'
    assert field_value("metadata.labels['a']", context_of(pod)) == "1"
    assert field_value("status.podIP", context_of(pod)) == "10.244.0.7"


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({}, ["/run.sh", "serve"]),
        ({"command": ["a", "$(X)"]}, ["a", "1"]),
        ({"args": ["b"]}, ["/run.sh", "b"]),
        ({"command": ["a"], "args": ["$$(X)", "$(Y)"]}, ["a", "$(X)", "$(Y)"]),
    ],
)
def test_command_and_args_against_the_image(fields: dict[str, Any], result: list[str]) -> None:
    image = FakeImage(config=ImageConfig(entrypoint=("/run.sh",), cmd=("serve",)))
    assert arguments(fields, image, {"X": "1"}) == result


def test_the_container_overrules_the_image() -> None:
    image = FakeImage(config=ImageConfig(env=("PATH=/opt", "A=image")))
    found = full_environment({}, image, Identity(0, 0, (0,), "/root"), {"A": "pod"}, "web")
    assert found == {"PATH": "/opt", "HOSTNAME": "web", "HOME": "/root", "A": "pod"}


class TestIdentity:
    PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    GROUP = "root:x:0:\nstaff:x:50:app,other\napp:x:1000:\n"

    def who(self, image_user: str, context: dict[str, Any] | None = None, **pod_context: Any) -> Identity:
        pod = make_pod(securityContext=pod_context)
        container = {"name": "app", "securityContext": context or {}}
        files = {"/etc/passwd": self.PASSWD, "/etc/group": self.GROUP}
        return identify(container, pod, image_user, lambda path: files[path])

    def test_names_are_looked_up_in_the_image(self) -> None:
        assert self.who("app") == Identity(1000, 1000, (50, 1000), "/home/app")
        assert self.who("app:staff") == Identity(1000, 50, (50,), "/home/app")
        assert self.who("4000:5000") == Identity(4000, 5000, (5000,), "/")
        with pytest.raises(UnknownAccount, match="unable to find user ghost"):
            self.who("ghost")
        with pytest.raises(ConfigError, match="non-numeric user"):
            self.who("ghost", runAsNonRoot=True)

    def test_the_security_context_overrules(self) -> None:
        assert self.who("app", {"runAsUser": 7}, runAsGroup=8, fsGroup=9, supplementalGroups=[10]) == Identity(
            7, 8, (8, 9, 10), "/"
        )

    def test_root_is_refused_where_it_may_not_be(self) -> None:
        where = '(pod: "web_default(uid-web)", container: app)'
        with pytest.raises(ConfigError) as error:
            self.who("", runAsNonRoot=True)
        assert str(error.value) == f"container has runAsNonRoot and image will run as root {where}"
        with pytest.raises(ConfigError) as error:
            self.who("app", runAsNonRoot=True)
        expected = "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root"
        assert str(error.value) == f"{expected} {where}"
        assert self.who("1000", runAsNonRoot=True).uid == 1000

    def test_capabilities_drop_then_add(self) -> None:
        wanted = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CAP_CHOWN"]}
        assert capabilities({"securityContext": {"capabilities": wanted}}) == ["CHOWN", "NET_BIND_SERVICE"]
        assert "SYS_ADMIN" not in capabilities({})
        assert "SYS_ADMIN" in capabilities({"securityContext": {"privileged": True}})
        assert "KILL" not in capabilities({"securityContext": {"capabilities": {"drop": ["kill"]}}})


class TestNames:
    HOST = Resolver(("192.0.2.1",), ("corp.example",), ("timeout:2",))

    def test_cluster_first(self) -> None:
        found = resolver(make_pod(), ["10.96.0.10"], "cluster.local", self.HOST)
        assert found.text() == (
            "search default.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
            "nameserver 10.96.0.10\n"
            "options ndots:5\n"
        )

    def test_the_hosts_own_on_its_network(self) -> None:
        assert resolver(make_pod(hostNetwork=True), ["10.96.0.10"], "cluster.local", self.HOST) == self.HOST
        wanted = make_pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
        assert resolver(wanted, ["10.96.0.10"], "cluster.local", self.HOST).nameservers == ("10.96.0.10",)

    def test_the_pods_own_config(self) -> None:
        config = {
            "nameservers": ["1.1.1.1"],
            "searches": ["a"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "x"}],
        }
        found = resolver(make_pod(dnsPolicy="None", dnsConfig=config), [], "", self.HOST)
        assert found == Resolver(("1.1.1.1",), ("a",), ("ndots:2", "x"))

    def test_a_subdomain_gives_a_full_name(self) -> None:
        pod = make_pod(hostname="h", subdomain="s", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}])
        text = hosts_file(pod, "10.244.0.7", "cluster.local")
        assert "10.244.0.7\th.s.default.svc.cluster.local\th\n" in text
        assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n")

    def test_long_pod_names_are_cut(self) -> None:
        assert naming.host_name(make_pod("a" * 62 + "-b"), "node1", "cluster.local") == "a" * 62

    def test_a_pod_can_have_its_full_name_as_long_as_the_kernel_can(self) -> None:
        pod = make_pod("web-0", subdomain="web", setHostnameAsFQDN=True)
        assert naming.host_name(pod, "node1", "corp.test") == "web-0.web.default.svc.corp.test"
        pod = make_pod("w" * 40, subdomain="web", setHostnameAsFQDN=True)
        with pytest.raises(naming.NameTooLong, match=r"\(64 characters is the max, 70 characters requested\)"):
            naming.host_name(pod, "node1", "cluster.local")

    def test_an_override_is_all_the_name_there_is(self) -> None:
        pod = make_pod(hostnameOverride="my.own.name", hostname="web", subdomain="sub")
        assert naming.host_name(pod, "node1", "cluster.local") == "my.own.name"
        assert "10.244.0.7\tmy.own.name\n" in hosts_file(pod, "10.244.0.7", "cluster.local")

    def test_a_pod_on_the_nodes_network_has_the_machines_hosts(self) -> None:
        pod = make_pod(hostNetwork=True, hostAliases=[{"ip": "192.0.2.9", "hostnames": ["a", "b"]}])
        assert naming.node_hosts_file(pod, "127.0.0.1 localhost\n", "10.244.0.1", "node1").splitlines() == [
            "# Kubernetes-managed hosts file (host network).",
            "127.0.0.1 localhost",
            "10.244.0.1\tnode1",
            "",
            "# Entries added by HostAliases.",
            "192.0.2.9\ta\tb",
        ]


class TestAmounts:
    def test_limits_of_a_container(self) -> None:
        resources = {"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "1Gi"}}
        assert amounts.container_limits({"resources": resources}) == {
            "cpu_shares": 256,
            "cpu_millis": 1000,
            "memory_bytes": 2**30,
        }
        assert amounts.container_limits({}) == {"cpu_shares": 2}

    def test_a_pod_is_limited_only_if_all_its_containers_are(self) -> None:
        limited = {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}
        pod = make_pod(containers=[limited, {"name": "b", "resources": {"limits": {"memory": "2Mi"}}}])
        assert amounts.pod_limits(pod) == {"cpu_shares": 1024, "memory_bytes": 3 * 2**20}


@pytest.mark.parametrize(
    ("source", "limits", "size"),
    [
        ({}, {}, 4 << 30),
        ({"sizeLimit": "1Gi"}, {}, 1 << 30),
        ({}, {"memory": "2Gi"}, 2 << 30),
        ({"sizeLimit": "3Gi"}, {"memory": "2Gi"}, 2 << 30),
        ({"sizeLimit": "8Gi"}, {}, 4 << 30),
    ],
)
def test_a_volume_in_memory_holds_no_more_than_the_pod_may_use(
    source: dict[str, Any], limits: dict[str, str], size: int
) -> None:
    pod = make_pod(containers=[{"name": "app", "image": "app:v1", "resources": {"limits": limits}}])
    assert amounts.memory_volume(source, pod, {"memory": "4Gi"}) == size
