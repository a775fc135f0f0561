"""What operators written with kopf do: handlers, finalizers, retries, timers, daemons."""

import os
import socket
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from kopf.testing import KopfRunner
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

OPERATOR = Path(__file__).with_name("tale_operator.py")
HOOKS = Path(__file__).with_name("tale_hooks.py")
FINALIZER = "tales.podling.test/kept"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "tales.tales.podling.test"},
    "spec": {
        "group": "tales.podling.test",
        "scope": "Namespaced",
        "names": {"plural": "tales", "singular": "tale", "kind": "Tale", "shortNames": ["ta"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["text"],
                                "properties": {"text": {"type": "string"}, "stubborn": {"type": "boolean"}},
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}

config.load_kube_config()
core, custom = client.CoreV1Api(), client.CustomObjectsApi()


@contextmanager
def _operator(namespace, *more):
    files = [str(path) for path in (OPERATOR, *more)]
    with KopfRunner(["run", "--standalone", "--namespace", namespace, *files], timeout=30) as runner:
        yield
    assert runner.exit_code == 0, runner.output
    assert runner.exception is None, runner.output
    assert "Traceback" not in runner.output, runner.output


def _define():
    definitions = client.ApiextensionsV1Api()
    try:
        definitions.create_custom_resource_definition(DEFINITION)
    except ApiException as error:
        assert error.status == 409, error
    _until(lambda: _established(definitions), "the definition is established")


def _established(definitions):
    found = definitions.read_custom_resource_definition("tales.tales.podling.test").status.conditions or []
    return any(c.type == "Established" and c.status == "True" for c in found)


def _until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def _tale(namespace, **spec):
    body = {"apiVersion": "tales.podling.test/v1", "kind": "Tale", "metadata": {"name": "one"}, "spec": spec}
    custom.create_namespaced_custom_object("tales.podling.test", "v1", namespace, "tales", body)


def _read(namespace):
    return custom.get_namespaced_custom_object("tales.podling.test", "v1", namespace, "tales", "one")


def _data(namespace, name="one"):
    try:
        return core.read_namespaced_config_map(name, namespace).data or {"": ""}
    except ApiException as error:
        assert error.status == 404, error
        return None


def _events(namespace):
    """The reasons of what was said of the tale."""
    items = core.list_namespaced_event(namespace, field_selector="involvedObject.kind=Tale").items
    return [e.reason for e in items]


def _delete(namespace):
    custom.delete_namespaced_custom_object("tales.podling.test", "v1", namespace, "tales", "one")


def _gone(namespace):
    try:
        return not _read(namespace)
    except ApiException as error:
        return error.status == 404


def handlers_run_on_creation_update_and_deletion(namespace):
    _define()
    with _operator(namespace):
        _tale(namespace, text="once upon a time")
        _until(lambda: _data(namespace), "the configuration is made")
        told = _until(lambda: (s := _read(namespace)).get("status", {}).get("create") and s, "the result is kept")
        assert told["status"]["create"] == {"words": 4}
        assert told["status"]["phase"] == "Told"
        assert told["metadata"]["finalizers"] == [FINALIZER]
        owner = core.read_namespaced_config_map("one", namespace).metadata.owner_references[0]
        assert (owner.kind, owner.uid, owner.controller) == ("Tale", told["metadata"]["uid"], True)
        custom.patch_namespaced_custom_object(
            "tales.podling.test", "v1", namespace, "tales", "one", {"spec": {"text": "the end"}}
        )
        changed = {"text": "the end", "before": "once upon a time"}
        _until(lambda: _data(namespace) == changed, "the update arrives")
        _delete(namespace)
        _until(lambda: _gone(namespace), "the finalizer is taken away")
        assert _data(namespace, "one-epitaph"), "the deletion handler ran before"
    _until(lambda: _data(namespace) is None, "what it owned is collected")


def a_handler_is_retried_until_it_succeeds(namespace):
    _define()
    with _operator(namespace):
        _tale(namespace, text="again", stubborn=True)
        _until(lambda: _data(namespace), "the configuration is made")

        def settled():
            annotations = _read(namespace)["metadata"].get("annotations", {})
            return "kopf.zalando.org/last-handled-configuration" in annotations and annotations

        annotations = _until(settled, "all handlers have succeeded")
        assert "kopf.zalando.org/stubborn" not in annotations
        _delete(namespace)
        _until(lambda: _gone(namespace), "it goes away")


def timers_tick_and_daemons_follow(namespace):
    _define()
    with _operator(namespace):
        _tale(namespace, text="tick")
        _until(lambda: _read(namespace).get("status", {}).get("ticks", 0) >= 3, "the timer ticks")
        _until(lambda: "Followed" in _events(namespace), "the daemon runs")
        _delete(namespace)
        _until(lambda: _gone(namespace), "the daemon is ended and the finalizer taken away")


def an_operator_that_was_away_catches_up(namespace):
    _define()
    _tale(namespace, text="before")
    with _operator(namespace):
        _until(lambda: _data(namespace) == {"text": "before"}, "what was made meanwhile is handled")
        _until(lambda: _read(namespace).get("status", {}).get("create"), "and settled")
    custom.patch_namespaced_custom_object(
        "tales.podling.test", "v1", namespace, "tales", "one", {"spec": {"text": "after"}}
    )
    _delete(namespace)
    assert not _gone(namespace), "the finalizer holds it"
    with _operator(namespace):
        _until(lambda: _gone(namespace), "the deletion is handled")


def plain_events_of_built_in_kinds_arrive(namespace):
    _define()
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "watched", "labels": {"tale": "yes"}}})
    with _operator(namespace):
        _until(lambda: _data(namespace, "watched-listed"), "what was there is listed")
        core.delete_namespaced_config_map("watched", namespace)
        _until(lambda: _data(namespace, "watched-gone"), "its deletion arrives")


def admission_webhooks_change_refuse_and_warn(namespace):
    """The operator runs outside of the cluster, which reaches it under an address of this machine."""
    _define()
    os.environ |= {"TALE_HOST": _own_address(), "TALE_NAMESPACE": namespace}
    hooks = client.AdmissionregistrationV1Api()
    name = f"{namespace}.tales.podling.test"
    try:
        with _operator(namespace, HOOKS):
            _until(lambda: _has_hooks(hooks.read_mutating_webhook_configuration, name), "the mutating hook is known")
            _until(lambda: _has_hooks(hooks.read_validating_webhook_configuration, name), "and the validating one")
            _judge(namespace)
            _delete(namespace)
            _until(lambda: _gone(namespace), "it goes away")
    finally:
        hooks.delete_collection_mutating_webhook_configuration(field_selector=f"metadata.name={name}")
        hooks.delete_collection_validating_webhook_configuration(field_selector=f"metadata.name={name}")


def _judge(namespace):
    with warnings.catch_warnings(record=True):
        _tale(namespace, text="  a long tale ")
    assert _read(namespace)["spec"]["text"] == "a long tale"
    boring = {"spec": {"text": "boring"}}
    try:
        custom.patch_namespaced_custom_object("tales.podling.test", "v1", namespace, "tales", "one", boring)
        raise AssertionError("a boring tale was accepted")
    except ApiException as error:
        assert error.status == 418, error
        assert "kubernetes-admin is bored" in error.body, error.body


def _own_address():
    """Of this machine, as others reach it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]


def _has_hooks(read, name):
    try:
        return read(name).webhooks
    except ApiException as error:
        assert error.status == 404, error
        return None
