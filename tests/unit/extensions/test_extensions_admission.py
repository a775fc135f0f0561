"""Policies and webhooks: asked about what they match, and heard."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import orjson
import pytest
from extensionworld import ADMIN, World, until, world
from reviewer import webhook

from podling.api import meta
from podling.api.errors import ApiError
from podling.api.requests import Attributes, Call, Decision
from podling.api.resources import User
from podling.extensions.caller import refusal_of
from podling.store.types import Object
from support.http import Http

GROUP = "admissionregistration.k8s.io"
POLICIES = f"validatingadmissionpolicies.{GROUP}"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def with_policy(here: World, policy: Object, **binding: object) -> None:
    spec = {"matchConstraints": {"resourceRules": [RULE]}, **policy}
    await here.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
    bound = {"policyName": "p", "validationActions": ["Deny"], **binding}
    await here.client.create(f"validatingadmissionpolicybindings.{GROUP}", {"metadata": {"name": "b"}, "spec": bound})
    await until(lambda: meta.status(here.client.get(POLICIES, "", "p") or {}).get("observedGeneration") == 1)


def test_a_policy_denies_with_its_message_and_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            validation = {
                "expression": "variables.size < 2",
                "messageExpression": "'too many: ' + string(variables.size)",
                "reason": "Forbidden",
            }
            variable = {"name": "size", "expression": "has(object.data) ? object.data.size() : 0"}
            await with_policy(here, {"variables": [variable], "validations": [validation]})
            await here.client.create("configmaps", config_map("good", a="1"))
            with pytest.raises(ApiError, match="'p' with binding 'b' denied request: too many: 2") as refused:
                await here.client.create("configmaps", config_map("bad", a="1", b="2"))
            assert refused.value.code == 403

    asyncio.run(story())


def test_a_policy_takes_its_parameters_from_the_binding(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await here.client.create("configmaps", config_map("limits", word="secret"))
            policy = {
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "validations": [{"expression": "!object.metadata.name.contains(params.data.word)"}],
            }
            reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
            await with_policy(here, policy, paramRef=reference)
            await here.client.create("configmaps", config_map("open"))
            with pytest.raises(ApiError, match="failed expression"):
                await here.client.create("configmaps", config_map("my-secret"))

    asyncio.run(story())


def test_a_policy_that_fails_denies_unless_it_is_to_be_ignored(tmp_path: Path) -> None:
    async def story(policy: str) -> None:
        async with world(tmp_path) as here:
            await with_policy(
                here, {"failurePolicy": policy, "validations": [{"expression": "object.data.missing == 'x'"}]}
            )
            await here.client.create("configmaps", config_map("one", a="1"))

    with pytest.raises(ApiError, match="resulted in error: no such key: missing"):
        asyncio.run(story("Fail"))
    (tmp_path / "other").mkdir()
    tmp_path = tmp_path / "other"
    asyncio.run(story("Ignore"))


def hook(url: str, ca: str, **more: object) -> Object:
    return {
        "name": "hook.example.com",
        "clientConfig": {"url": url, "caBundle": ca},
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configure(here: World, kind: str, url: str, ca: str, **more: object) -> None:
    configuration = {"metadata": {"name": "h"}, "webhooks": [hook(url, ca, **more)]}
    await here.client.create(f"{kind}webhookconfigurations.{GROUP}", configuration)


def test_a_validating_webhook_refuses_with_its_words(tmp_path: Path) -> None:
    def answer(request: Object) -> Object:
        assert request["operation"] == "CREATE"
        assert request["userInfo"]["username"] == "admin"
        status = {"code": 418, "message": f"{request['object']['metadata']['name']} is not wanted"}
        return {"allowed": request["name"] != "bad", "status": status}

    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, answer) as (url, ca):
            await configure(here, "validating", url, ca)
            await here.client.create("configmaps", config_map("good"))
            with pytest.raises(ApiError) as refused:
                await here.client.create("configmaps", config_map("bad"))
            assert refused.value.code == 418
            assert refused.value.message == 'admission webhook "hook.example.com" denied the request: bad is not wanted'

    asyncio.run(story())


def test_a_mutating_webhook_changes_what_is_stored(tmp_path: Path) -> None:
    def answer(request: Object) -> Object:
        operations = [{"op": "add", "path": "/metadata/labels", "value": {"seen": request["namespace"]}}]
        return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(operations)).decode()}

    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, answer) as (url, ca):
            conditions = [{"name": "some", "expression": "object.metadata.name != 'plain'"}]
            await configure(here, "mutating", url, ca, matchConditions=conditions)
            made = await here.client.create("configmaps", config_map("one"))
            assert meta.labels(made) == {"seen": "default"}
            assert meta.labels(await here.client.create("configmaps", config_map("plain"))) == {}

    asyncio.run(story())


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_a_webhook_that_is_not_there_counts_as_its_failure_policy_says(tmp_path: Path, policy: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await configure(here, "validating", "https://127.0.0.1:1/hook", "", failurePolicy=policy)
            await here.client.create("configmaps", config_map("one"))

    if policy == "Ignore":
        asyncio.run(story())
        return
    with pytest.raises(ApiError, match=r'failed calling webhook "hook.example.com": failed to call webhook'):
        asyncio.run(story())


def test_a_webhook_that_wants_to_is_asked_again_when_a_later_one_has_changed_the_object(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Object) -> Object:
        data = request["object"]["data"]
        asked.append(",".join(data))
        if "first" not in data:
            return patched({"first": "1"}, data)
        return {"allowed": True} if "second" in data else patched({"second": "2"}, data)

    def patched(more: Object, data: Object) -> Object:
        operations = [{"op": "replace", "path": "/data", "value": {**data, **more}}]
        return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(operations)).decode()}

    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, answer) as (url, ca):
            hooks = [hook(url, ca, name=f"{name}.example.com", reinvocationPolicy="IfNeeded") for name in ("a", "b")]
            await here.client.create(
                f"mutatingwebhookconfigurations.{GROUP}", {"metadata": {"name": "h"}, "webhooks": hooks}
            )
            made = await here.client.create("configmaps", config_map("one", k="v"))
            assert made["data"] == {"k": "v", "first": "1", "second": "2"}
            assert asked == ["k", "k,first", "k,first,second"]

    asyncio.run(story())


def test_the_status_tells_which_expressions_do_not_fit_the_kinds(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            rule = {**RULE, "apiGroups": ["apps"], "resources": ["deployments"]}
            validations = [
                {"expression": "object.replicas > 1"},
                {"expression": "object.spec.template.spec.containers.all(c, c.image != '') && variables.n > 0"},
            ]
            variable = {"name": "n", "expression": "object.spec.replicas"}
            anything = {**rule, "resources": ["*", "deployments/status"]}
            constraints = {"resourceRules": [rule, anything]}
            await with_policy(
                here, {"matchConstraints": constraints, "variables": [variable], "validations": validations}
            )
            status = meta.status(here.client.get(POLICIES, "", "p") or {})
            words = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
            words += " | object.replicas > 1\n | ......^\n"
            warning = {"fieldRef": "spec.validations[0].expression", "warning": words}
            assert status["typeChecking"] == {"expressionWarnings": [warning]}

    asyncio.run(story())


def test_match_conditions_may_ask_what_the_user_is_allowed_to(tmp_path: Path) -> None:
    def may(_user: User, attributes: Attributes) -> Decision:
        return Decision(
            (attributes.verb, attributes.resource, attributes.namespace) == ("break", "glasses", "default"), "y"
        )

    async def story() -> None:
        async with world(tmp_path, may) as here:
            check = "authorizer.group('x').resource('glasses').namespace(request.namespace).check('break')"
            validations = [
                {"expression": f"{check}.allowed() && {check}.reason() == 'y'"},
                {"expression": "!authorizer.path('/healthz').check('get').allowed()"},
            ]
            await with_policy(here, {"validations": validations})
            await here.client.create("configmaps", config_map("one"))

    asyncio.run(story())


def test_only_few_checks_fit_into_an_expression(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            check = "authorizer.requestResource.check('get').allowed()"
            await with_policy(here, {"validations": [{"expression": " && ".join([check] * 4)}]})
            with pytest.raises(ApiError, match="operation cancelled: actual cost limit exceeded"):
                await here.client.create("configmaps", config_map("one"))

    asyncio.run(story())


def test_a_policy_sees_what_a_client_wants_to_run_in_a_pod(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.server.handle("pods", "exec", lambda exchange: exchange.request.respond(200, b"ran"), "get")
            rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
            conditions = ("request.kind.kind == 'PodExecOptions'", "object.command[0] != 'sh'", "request.name == 'web'")
            validations = [{"expression": " && ".join(conditions), "message": "no shells"}]
            await with_policy(here, {"matchConstraints": {"resourceRules": [rule]}, "validations": validations})
            path = "/api/v1/namespaces/default/pods/web/exec?stdout=1&command="
            assert await status_of(here, f"{path}ls") == (200, "ran")
            code, words = await status_of(here, f"{path}sh&command=-c")
            assert (code, "denied request: no shells" in words) == (422, True)

    asyncio.run(story())


def test_a_policy_on_the_scale_subresource_sees_a_scale(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["*/scale"]}
            expression = "object.kind == 'Scale' && object.spec.replicas <= oldObject.spec.replicas + 1"
            await with_policy(
                here, {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]}
            )
            template = {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }
            spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
            deployment = {"metadata": {"name": "d", "namespace": "default"}, "spec": spec}
            await here.client.create("deployments.apps", deployment)
            scale = "/apis/apps/v1/namespaces/default/deployments/d/scale"
            merge = "application/merge-patch+json"
            assert (await status_of(here, scale, {"spec": {"replicas": 2}}, merge))[0] == 200
            assert (await status_of(here, scale, {"spec": {"replicas": 9}}, merge))[0] == 422

    asyncio.run(story())


async def status_of(here: World, path: str, patch: Object | None = None, kind: str = "") -> tuple[int, str]:
    """The code and the body of the answer to a GET or a PATCH."""
    http = Http(*await asyncio.open_connection("127.0.0.1", await here.server.listen("127.0.0.1", 0)))
    answer = await http.request("PATCH" if patch else "GET", path, patch, **({"Content_Type": kind} if kind else {}))
    http.close()
    await here.server.close()
    return answer.status, answer.body.decode()


async def refused_by(here: World, obj: Object, resource: str = "configmaps") -> ApiError:
    with pytest.raises(ApiError) as refused:
        await here.client.create(resource, obj)
    return refused.value


def test_the_conditions_of_a_webhook_that_fail_are_told_together(tmp_path: Path) -> None:
    conditions = [
        {"name": "a", "expression": "object.data.one == '1'"},
        {"name": "b", "expression": "namespaceObject.metadata.name == 'default'"},
    ]

    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, lambda _request: {"allowed": False}) as (url, ca):
            await configure(here, "validating", url, ca, matchConditions=conditions)
            error = await refused_by(here, config_map("one", two="2"))
            assert (error.code, error.reason) == (403, "Forbidden")
            assert error.message.startswith(
                "configmaps \"one\" is forbidden: [expression 'object.data.one == '1'' resulted in error: no such key: "
                "one, expression 'namespaceObject.metadata.name == 'default'' resulted in error: "
            )
            await here.client.create("configmaps", config_map("one", one="2"))  # false decides

    asyncio.run(story())


def test_a_webhook_sees_a_new_object_without_what_the_system_will_give_it(tmp_path: Path) -> None:
    seen: list[Object] = []

    def answer(request: Object) -> Object:
        seen.append(request)
        return {"allowed": True}

    async def story() -> None:
        rules = [{**RULE, "resources": ["*"]}]
        async with world(tmp_path) as here, webhook(tmp_path, answer) as (url, ca):
            await configure(here, "mutating", url, ca, rules=rules)
            nameless: Object = {"metadata": {"generateName": "web-", "namespace": "default"}}
            made = await here.client.create("configmaps", nameless)
            await here.client.create("namespaces", {"metadata": {"name": "shop"}})
            assert made["metadata"]["name"].startswith("web-")

    asyncio.run(story())
    config, namespace = seen
    assert "name" not in config
    assert not {"name", "uid", "creationTimestamp"} & config["object"]["metadata"].keys()
    assert (namespace["name"], namespace["namespace"]) == ("shop", "shop")


def test_what_is_deleted_with_all_the_others_has_no_name(tmp_path: Path) -> None:
    seen: list[Object] = []

    def answer(request: Object) -> Object:
        seen.append(request)
        return {"allowed": True}

    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, answer) as (url, ca):
            await configure(here, "validating", url, ca, rules=[{**RULE, "operations": ["DELETE"]}])
            for name in ("one", "two"):
                await here.client.create("configmaps", config_map(name))
            await here.client.delete("configmaps", "default", "one")
            registry = here.server.registry
            resource = registry.served.by_name("configmaps")
            assert resource is not None
            rest = registry.store.list("configmaps", "default")
            await registry.delete_collection(resource, rest, {}, Call(user=ADMIN))

    asyncio.run(story())
    assert [request.get("name") for request in seen] == ["one", None]
    assert [request["oldObject"]["metadata"]["name"] for request in seen] == ["one", "two"]


def test_a_refusal_calls_an_object_without_a_name_by_its_beginning(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, lambda _request: {"allowed": True}) as (url, ca):
            condition = {"name": "a", "expression": "object.data.one == '1'"}
            await configure(here, "mutating", url, ca, matchConditions=[condition])
            nameless: Object = {"metadata": {"generateName": "web-", "namespace": "default"}, "data": {"two": "2"}}
            assert "configmaps is forbidden: expression" in (await refused_by(here, nameless)).message

    asyncio.run(story())


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        ("mutating", {"patch": "W10=", "allowed": True}, "but not response.patchType"),
        ("mutating", {"patchType": "JSONPatch", "allowed": True}, "response.patchType but not response.patch"),
        ("validating", {"patch": "W10=", "allowed": True}, "validating webhook may not return response.patch"),
        (
            "mutating",
            {"patch": base64.b64encode(b"nonsense").decode(), "patchType": "JSONPatch", "allowed": True},
            "received undecodable patch in webhook response: ",
        ),
        (
            "mutating",
            {"patch": base64.b64encode(b"{}").decode(), "patchType": "JSONPatch", "allowed": True},
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
        (
            "mutating",
            {
                "patch": base64.b64encode(b'[{"op":"replace","path":"","value":[]}]').decode(),
                "patchType": "JSONPatch",
                "allowed": True,
            },
            "json: cannot unmarshal array into Go value of type struct",
        ),
        (
            "mutating",
            {
                "patch": base64.b64encode(b'[{"op":"remove","path":"/data"}]').decode(),
                "patchType": "X",
                "allowed": True,
            },
            'unsupported patch type "X"',
        ),
        (
            "mutating",
            {
                "patch": base64.b64encode(b'[{"op":"remove","path":"/data/x"}]').decode(),
                "patchType": "JSONPatch",
                "allowed": True,
            },
            "error in remove for path: '/data/x': Unable to remove nonexistent key: x: missing value",
        ),
    ],
)
def test_a_patch_that_is_none_is_refused(tmp_path: Path, kind: str, answer: Object, words: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, lambda _request: answer) as (url, ca):
            await configure(here, kind, url, ca)
            error = await refused_by(here, config_map("one", a="1"))
            assert (error.code, words in error.message) == (500, True)

    asyncio.run(story())


def test_a_policy_whose_parameters_are_of_no_known_kind_refuses_whatever_its_binding_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            policy = {"paramKind": {"apiVersion": "v1", "kind": "Nothing"}, "validations": [{"expression": "true"}]}
            reference = {"name": "x", "parameterNotFoundAction": "Allow"}
            await with_policy(here, policy, validationActions=["Warn"], paramRef=reference)
            error = await refused_by(here, config_map("one"))
            assert (error.code, error.message) == (
                422,
                "configmaps \"one\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure "
                "policy: failed to find resource referenced by paramKind: '/v1, Kind=Nothing'",
            )

    asyncio.run(story())


def test_an_exclusion_is_exact_where_the_policy_is(tmp_path: Path) -> None:
    async def story(match: str) -> None:
        (tmp_path / match).mkdir()
        async with world(tmp_path / match) as here:
            scalers = {**RULE, "apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"]}
            constraints = {
                "matchPolicy": match,
                "resourceRules": [{**scalers, "apiVersions": ["v2"]}],
                "excludeResourceRules": [{**scalers, "apiVersions": ["v1"]}],
            }
            await with_policy(here, {"matchConstraints": constraints, "validations": [{"expression": "false"}]})
            spec = {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}
            scaler: Object = {"metadata": {"name": "s", "namespace": "default"}, "spec": spec}
            await here.client.create("horizontalpodautoscalers.autoscaling", scaler)

    asyncio.run(story("Equivalent"))
    with pytest.raises(ApiError, match="failed expression: false"):
        asyncio.run(story("Exact"))


def test_a_namespace_is_selected_as_it_will_be(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            constraints = {
                "resourceRules": [{**RULE, "resources": ["namespaces"]}],
                "namespaceSelector": {"matchLabels": {"held": "yes"}},
            }
            await with_policy(here, {"matchConstraints": constraints, "validations": [{"expression": "false"}]})
            made = await here.client.create("namespaces", {"metadata": {"name": "shop"}})
            labels = {**made["metadata"]["labels"], "held": "yes"}
            with pytest.raises(ApiError, match="failed expression: false"):
                await here.client.update("namespaces", {**made, "metadata": {**made["metadata"], "labels": labels}})

    asyncio.run(story())


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (500, "boom", 'an error on the server ("boom") has prevented the request from succeeding'),
        (503, "x", "the server is currently unable to handle the request"),
        (404, "x", "the server could not find the requested resource"),
        (403, "not you", "not you"),
        (418, "x", "the server responded with the status code 418 but did not return more information"),
    ],
)
def test_an_answer_that_is_no_success_is_told_in_kubernetes_words(status: int, said: str, words: str) -> None:
    assert refusal_of(status, said) == words


def test_a_service_that_is_not_there_is_told_with_its_url(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            config = {"service": {"name": "hook", "namespace": "default", "path": "/x", "port": 443}}
            call_it = {"clientConfig": config, "timeoutSeconds": 7}
            await configure(here, "validating", "", "", **call_it)
            assert (await refused_by(here, config_map("one"))).message == (
                'Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: '
                'Post "https://hook.default.svc:443/x?timeout=7s": service "hook" not found'
            )
            ports = [{"port": 80}]
            service = {"metadata": {"name": "hook", "namespace": "default"}, "spec": {"ports": ports}}
            await here.client.create("services", service)
            assert 'no service port 443 found for service "hook"' in (await refused_by(here, config_map("one"))).message

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "Review"}, "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got"),
        ({"response": None}, "webhook response was absent"),
        ({"response": {"uid": "x", "allowed": True}}, 'expected response.uid="'),
    ],
)
def test_an_answer_that_is_no_review_is_none(tmp_path: Path, change: Object, words: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here, webhook(tmp_path, lambda _request: {"allowed": True}, change) as (url, ca):
            await configure(here, "validating", url, ca)
            with pytest.raises(ApiError) as refused:
                await here.client.create("configmaps", config_map("one"))
            assert refused.value.code == 500
            prefix = 'failed calling webhook "hook.example.com": received invalid webhook response: '
            assert f"{prefix}{words}" in refused.value.message

    asyncio.run(story())
