"""Downloads from a Label Studio server: addresses, tokens, and servers that misbehave. All of it on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.label_studio_exports import LoopbackServer, Reply, serving
from toolkit.core.errors import MvtkError, OptionError, StopRunError
from toolkit.sam.downloads import LabelStudioServer

IMAGE = b"\x89PNG and so on"
UPLOAD = "/data/upload/1/0a1b2c3d-car.jpg"
PERSONAL = "header.claims.signature"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with serving({UPLOAD: Reply(IMAGE)}) as running:
        yield running


def client(server: LoopbackServer, token: str = "secret", **options: Any) -> LabelStudioServer:
    return LabelStudioServer(server.url, token, first_wait_s=0, timeout_s=5, **options)


def test_an_upload_is_fetched_with_the_token(server: LoopbackServer) -> None:
    assert client(server).fetch(UPLOAD, 1) == IMAGE
    assert client(server, "").fetch(UPLOAD, 1) == IMAGE
    assert client(server).fetch(server.url + UPLOAD, 1) == IMAGE
    assert server.asked == [(UPLOAD, "Token secret"), (UPLOAD, None), (UPLOAD, "Token secret")]


def test_a_server_below_a_path(server: LoopbackServer) -> None:
    server.replies["/studio/data/local-files/?d=day1/a%20car.jpg"] = Reply(IMAGE)
    studio = LabelStudioServer(f"{server.url}/studio/", "secret", first_wait_s=0)
    assert studio.fetch("/data/local-files/?d=day1/a%20car.jpg", 1) == IMAGE


def test_a_cloud_image_is_asked_for_by_its_task_and_its_storage_gets_no_token(server: LoopbackServer) -> None:
    reference = "s3://bucket/day 1/car.jpg"
    asked = f"/tasks/12/presign/?fileuri={base64.urlsafe_b64encode(reference.encode()).decode()}"
    with serving({"/car.jpg?signature=x": Reply(IMAGE)}) as storage:
        server.replies[asked] = Reply(status=302, headers={"Location": f"{storage.url}/car.jpg?signature=x"})
        assert client(server).fetch(reference, 12) == IMAGE
        assert server.asked == [(asked, "Token secret")]
        assert storage.asked == [("/car.jpg?signature=x", None)]


def test_a_redirect_to_itself_keeps_the_token(server: LoopbackServer) -> None:
    server.replies["/data/old.jpg"] = Reply(status=301, headers={"Location": UPLOAD})
    assert client(server).fetch("/data/old.jpg", 1) == IMAGE
    assert server.asked == [("/data/old.jpg", "Token secret"), (UPLOAD, "Token secret")]


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_a_redirect_leads_to_web_addresses_only(server: LoopbackServer, location: str) -> None:
    server.replies["/data/x.jpg"] = Reply(status=302, headers={"Location": location})
    with pytest.raises(MvtkError, match=r"'/data/x.jpg': "):
        client(server).fetch("/data/x.jpg", 1)


def test_another_host_is_asked_only_if_allowed_and_gets_no_token(server: LoopbackServer) -> None:
    with serving({"/car.jpg": Reply(IMAGE)}) as other:
        host = other.url.removeprefix("http://")
        with pytest.raises(MvtkError, match="on another server than --url") as caught:
            client(server).fetch(f"{other.url}/car.jpg", 1)
        assert caught.value.hint.startswith(f"allow it with --other-hosts {host}")
        assert other.asked == []
        assert client(server, other_hosts=[host]).fetch(f"{other.url}/car.jpg", 1) == IMAGE
        assert other.asked == [("/car.jpg", None)]


def test_a_personal_token_is_refreshed_and_again_when_it_ends(server: LoopbackServer) -> None:
    tokens = iter(["one", "two"])

    def refresh(request: BaseHTTPRequestHandler) -> Reply:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        assert body == {"refresh": PERSONAL}
        return Reply(json.dumps({"access": next(tokens)}).encode())

    def image(request: BaseHTTPRequestHandler) -> Reply:
        return (
            Reply(status=401)
            if request.headers["Authorization"] == "Bearer one" and len(server.asked) > 2
            else Reply(IMAGE)
        )

    server.replies |= {"/api/token/refresh": refresh, UPLOAD: image}
    studio = client(server, PERSONAL)
    assert studio.fetch(UPLOAD, 1) == IMAGE
    assert studio.fetch(UPLOAD, 1) == IMAGE
    assert server.asked == [
        ("/api/token/refresh", None),
        (UPLOAD, "Bearer one"),
        (UPLOAD, "Bearer one"),
        ("/api/token/refresh", None),
        (UPLOAD, "Bearer two"),
    ]


@pytest.mark.parametrize(
    ("reply", "message", "hint"),
    [
        (Reply(status=404), "the server answered 404 Not Found", ""),
        (Reply(status=403), "the server answered 403 Forbidden", "the owner of --token may not see this project"),
        (Reply(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}), "with a web page", "check --token"),
        (Reply(b"x" * 2000), "more than the limit of 1000 bytes", ""),
    ],
)
def test_a_refusal_fails_the_image(server: LoopbackServer, reply: Reply, message: str, hint: str) -> None:
    server.replies[UPLOAD] = reply
    with pytest.raises(MvtkError) as caught:
        client(server, max_bytes=1000).fetch(UPLOAD, 1)
    assert not isinstance(caught.value, StopRunError)
    assert caught.value.message.startswith(f"'{UPLOAD}': ")
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert len(server.asked) == 1
    assert "secret" not in str(caught.value)


def test_a_wrong_token_stops_the_run(server: LoopbackServer) -> None:
    server.replies[UPLOAD] = Reply(status=401)
    with pytest.raises(StopRunError, match="401 Unauthorized"):
        client(server).fetch(UPLOAD, 1)
    server.replies["/api/token/refresh"] = Reply(status=401)
    with pytest.raises(StopRunError, match="401 Unauthorized"):
        client(server, PERSONAL).fetch(UPLOAD, 1)
    server.replies["/api/token/refresh"] = Reply(b'{"no": "token"}')
    with pytest.raises(StopRunError, match="gives no access token"):
        client(server, PERSONAL).fetch(UPLOAD, 1)


@pytest.mark.parametrize("hitch", [Reply(status=503), Reply(status=429), Reply(b"cut", claimed_length=99)])
def test_a_hitch_is_tried_again(server: LoopbackServer, hitch: Reply) -> None:
    replies = iter([hitch, hitch, Reply(IMAGE)])
    server.replies[UPLOAD] = lambda _: next(replies)
    assert client(server).fetch(UPLOAD, 1) == IMAGE
    server.replies[UPLOAD] = hitch
    with pytest.raises(MvtkError, match=r"answered (503|429)|cannot be fetched in 3 attempts"):
        client(server).fetch(UPLOAD, 1)


def test_a_server_that_is_not_there_stops_the_run() -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(StopRunError, match="cannot be fetched in 3 attempts") as caught:
        LabelStudioServer(url, "secret", first_wait_s=0).fetch(UPLOAD, 1)
    assert caught.value.hint.startswith("check --url")


def test_what_is_no_address(server: LoopbackServer) -> None:
    for url in ("localhost:8080", "file:///etc", "http://"):
        with pytest.raises(OptionError, match="is no web address"):
            LabelStudioServer(url)
    for reference in ("day1/car.jpg", "ftp://host/car.jpg", "file:///etc/hostname"):
        with pytest.raises(MvtkError, match="not an address that a server could answer"):
            client(server).fetch(reference, 1)
    with pytest.raises(MvtkError, match="no web address"):
        client(server).fetch("http://host:port/car.jpg", 1)
    assert server.asked == []
