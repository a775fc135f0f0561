"""Policies and webhooks: asked about what they match, and heard."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import orjson
import pytest
from extensionworld import World, until, world
from reviewer import webhook

from podling.api import meta
from podling.api.errors import ApiError
from podling.api.requests import Attributes, Decision
from podling.api.resources import User
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
            constraints = {"resourceRules": [rule]}
            await with_policy(
                here, {"matchConstraints": constraints, "variables": [variable], "validations": validations}
            )
            status = meta.status(here.client.get(POLICIES, "", "p") or {})
            words = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
            words += " | object.replicas > 1\n | ......^"
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
