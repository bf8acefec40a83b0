"""Makers of Label Studio exports and of a server that holds their images, for tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.brush_rle import encode_brush_rle

ANNOTATOR = {"id": 3, "email": "ada.annotator@example.org", "first_name": "Ada", "last_name": "Annotator"}
"""What no output may hold anything of."""
WIDTH, HEIGHT = 40, 30


def result(
    kind: str, value: dict[str, Any], *labels: str, size_wh: tuple[int, int] = (WIDTH, HEIGHT)
) -> dict[str, Any]:
    """One region; ``kind`` is such as "polygon"."""
    key = f"{kind}labels"
    return {
        "id": f"{kind[0]}{sum(map(ord, str(value)))}",
        "type": key,
        "from_name": "label",
        "to_name": "image",
        "original_width": size_wh[0],
        "original_height": size_wh[1],
        "image_rotation": 0,
        "value": {**value, key: list(labels)},
    }


def rectangle(
    left: float, top: float, width: float, height: float, *labels: str, rotation: float = 0
) -> dict[str, Any]:
    """A rectangle in percent."""
    value = {"x": left, "y": top, "width": width, "height": height, "rotation": rotation}
    return result("rectangle", value, *labels)


def polygon(points: list[list[float]], *labels: str) -> dict[str, Any]:
    """A polygon in percent."""
    return result("polygon", {"points": points}, *labels)


def brush(alpha_hw: NDArray[np.uint8], *labels: str) -> dict[str, Any]:
    """A brush mask."""
    height, width = alpha_hw.shape
    value = {"format": "rle", "rle": list(encode_brush_rle(alpha_hw))}
    return result("brush", value, *labels, size_wh=(width, height))


def annotation(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One annotation."""
    given = {"id": 1, "completed_by": ANNOTATOR, "created_at": "2024-05-01T10:00:00Z", "was_cancelled": False}
    return {**given, "result": list(results), **changes}


def task(number: int, image: str, *annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One task."""
    given = {"id": number, "data": {"image": image}, "annotations": list(annotations), "predictions": []}
    return {**given, "meta": {}, "updated_by": ANNOTATOR, "comment_authors": [ANNOTATOR], **changes}


def write_export(path: Path, *tasks: dict[str, Any]) -> Path:
    """Write an export."""
    path.write_text(json.dumps(list(tasks)))
    return path


@dataclass(frozen=True)
class Reply:
    """What the server answers to a request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    claimed_length: int | None = None


@dataclass
class LoopbackServer:
    """A server on this machine that answers by path (with its query) and remembers what it was asked."""

    url: str
    replies: dict[str, Reply | Callable[[BaseHTTPRequestHandler], Reply]]
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """The path of each request, and its token."""


@contextmanager
def serving(
    replies: Mapping[str, Reply | Callable[[BaseHTTPRequestHandler], Reply]] | None = None,
) -> Iterator[LoopbackServer]:
    """Run a server for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Authorization")))
            reply = server.replies.get(self.path, Reply(status=404))
            reply = reply if isinstance(reply, Reply) else reply(self)
            self.send_response(reply.status)
            headers = {"Content-Type": "application/octet-stream", **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(reply.claimed_length or len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_GET  # noqa: N815 - likewise

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        server = LoopbackServer(f"http://127.0.0.1:{http_server.server_port}", dict(replies or {}))
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http_server.shutdown()
            thread.join()
