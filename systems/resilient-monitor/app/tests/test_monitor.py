"""What the service promises, endpoint by endpoint."""

from __future__ import annotations

import threading

from flask.testing import FlaskClient


def test_every_answer_names_its_pod_and_version(client: FlaskClient) -> None:
    for path in ("/", "/health", "/ready", "/metrics", "/version", "/api/status", "/no-such-page"):
        headers = client.get(path).headers
        assert (headers["X-Pod"], headers["X-Version"]) == ("pod-a", "v7"), path


def test_curl_gets_a_line_and_a_browser_a_page(client: FlaskClient) -> None:
    assert client.get("/").text == "pod-a v7\n"
    assert "<title>resilient-monitor</title>" in client.get("/", headers={"Accept": "text/html"}).text


def test_it_lives_and_is_ready_from_the_start(client: FlaskClient) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200


def test_unready_fails_readiness_but_not_liveness_until_it_is_taken_back(client: FlaskClient) -> None:
    client.post("/chaos/unready")
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    client.post("/chaos/ready")
    assert client.get("/ready").status_code == 200


def test_a_frozen_process_answers_nothing_any_more(client: FlaskClient) -> None:
    assert client.post("/chaos/freeze").status_code == 202
    answered = threading.Event()
    threading.Thread(target=lambda: (client.get("/health"), answered.set()), daemon=True).start()
    assert not answered.wait(0.3)


def test_metrics_count_by_rule_so_that_strangers_cannot_make_new_series(client: FlaskClient) -> None:
    client.get("/version")
    client.get("/a")
    client.get("/b")
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",path="/version",status="200"} 1.0' in text
    assert 'http_requests_total{method="GET",path="(unknown)",status="404"} 2.0' in text
    assert 'monitor_info{pod="pod-a",version="v7"} 1.0' in text


def test_breaking_it_needs_a_post(client: FlaskClient) -> None:
    assert client.get("/chaos/exit").status_code == 405
