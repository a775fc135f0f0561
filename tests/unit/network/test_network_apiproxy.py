"""Which address a proxied request is meant for."""

from __future__ import annotations

import pytest

from podling.api.errors import ApiError
from podling.network.apiproxy import _pod_port, _service_port, split_name

SERVICE = {
    "metadata": {"name": "web"},
    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 8080}]},
}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("", "web", "")),
        ("web:80", ("", "web", "80")),
        ("https:web:admin", ("https", "web", "admin")),
        ("https:web:", ("https", "web", "")),
    ],
)
def test_names_carry_a_scheme_and_a_port(text: str, parts: tuple[str, str, str]) -> None:
    assert split_name(text) == parts


@pytest.mark.parametrize("text", ["a:b:c", "https:a:b:c"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="invalid name"):
        split_name(text)


def test_a_service_port_is_meant_by_name_or_number() -> None:
    assert _service_port(SERVICE, "admin") == "admin"
    assert _service_port(SERVICE, "80") == "http"
    with pytest.raises(ApiError, match='no service port "81" found for service "web"'):
        _service_port(SERVICE, "81")
    with pytest.raises(ApiError, match="no service port"):
        _service_port(SERVICE, "")


def test_a_single_port_needs_no_name() -> None:
    assert _service_port({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, "") == ""


def test_a_pod_s_first_port_is_the_default() -> None:
    pod = {"spec": {"containers": [{"name": "side"}, {"name": "app", "ports": [{"containerPort": 5000}]}]}}
    assert _pod_port(pod, "") == 5000
    assert _pod_port(pod, "9000") == 9000
    with pytest.raises(ApiError, match="invalid port"):
        _pod_port(pod, "http")
