"""Downloading the images of tasks from a Label Studio server.

The token goes to the server that was named and to nobody else, also when that redirects, as it does to the storage of
cloud images. What other servers hold is fetched only where their names are given. References and their addresses are
those of ``label_studio_sdk``'s ``get_local_path``; tokens those of https://labelstud.io/guide/access_tokens.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Sequence
from contextlib import closing
from typing import IO, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from toolkit.core.errors import MvtkError, OptionError, StopRunError
from toolkit.sam.image_references import CLOUD_SCHEMES, shown_reference

MAX_DOWNLOAD_BYTES: Final = 512 * 1024**2
_CHUNK_BYTES: Final = 1024**2
_ATTEMPTS: Final = 3
_FIRST_WAIT_S: Final = 0.5
_WEB: Final = ("http://", "https://")
_LEFT_AS_IT_IS: Final = "/?=&%:,+~@!$'()*;-._"
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_JWT_DOTS: Final = 2
_CHECK_TOKEN: Final = "check --token: it stands in Label Studio under Account & Settings"  # noqa: S105 - a hint


class LabelStudioServer:
    """Fetches images from one server. It may be used by one thread at a time.

    Args:
        url: the server's address, such as ``"http://localhost:8080"``, with its path if it has one.
        token: an access token, legacy or personal (which is refreshed); empty: none is sent.
        other_hosts: names (with the port, where it is not the usual one) of further hosts that images may be fetched
            from; they get no token.
        max_bytes: a larger image is refused.
        timeout_s: how long the server may stay silent.
        first_wait_s: how long to wait before the second of three attempts; twice as long before the third.

    Raises:
        OptionError: ``url`` is no web address.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        other_hosts: Sequence[str] = (),
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        timeout_s: float = 30.0,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        if not url.startswith(_WEB) or not urlsplit(url).hostname:
            raise OptionError(f"--url {url!r} is no web address", "give it as http://host:8080 or https://host")
        self._base = url.rstrip("/")
        self._token = token
        self._access_token = ""
        self._other_hosts = frozenset(other_hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._first_wait_s = first_wait_s
        self._opener = _opener(_origin(self._base))

    def fetch(self, reference: str, task_id: int | str) -> bytes:
        """Return the content of the image that a reference stands for.

        Args:
            reference: as the export has it.
            task_id: its task, which the server is asked for images in cloud storage with.

        Raises:
            StopRunError: the server cannot be reached, or refuses the token.
            MvtkError: the image cannot be fetched; the line names the reference.
        """
        address = self._address(reference, task_id)
        try:
            return self._download(address)
        except MvtkError as error:
            raise type(error)(f"{shown_reference(reference)}: {error.message}", error.hint) from error

    def _address(self, reference: str, task_id: int | str) -> str:
        scheme = reference.partition("://")[0]
        if scheme in CLOUD_SCHEMES:
            encoded = base64.urlsafe_b64encode(reference.encode()).decode()
            return f"{self._base}/tasks/{quote(str(task_id), safe='')}/presign/?fileuri={encoded}"
        if reference.startswith(_WEB):
            host = urlsplit(reference).netloc
            if _origin(reference) != _origin(self._base) and host not in self._other_hosts:
                hint = f"allow it with --other-hosts {host}, or put the image below --images"
                raise MvtkError(f"{shown_reference(reference)}: on another server than --url", hint)
            return quote(reference, safe=_LEFT_AS_IT_IS)
        if reference.startswith("/"):
            return self._base + quote(reference, safe=_LEFT_AS_IT_IS)
        raise MvtkError(
            f"{shown_reference(reference)}: not an address that a server could answer", "put the image below --images"
        )

    def _download(self, address: str) -> bytes:
        wait_s = self._first_wait_s
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                return self._get(address)
            except HTTPError as error:
                error.close()
                if error.code == http.client.UNAUTHORIZED and self._is_refreshable and self._access_token:
                    self._access_token = ""  # it lives for minutes; the next attempt asks for another one
                elif (error.code < _SERVER_ERRORS and error.code != _TOO_MANY_REQUESTS) or not attempts_left:
                    raise _refusal(error) from error
            except (OSError, http.client.HTTPException) as error:
                if not attempts_left:
                    raise self._unreachable(address, error) from error
            if attempts_left:
                time.sleep(wait_s)
                wait_s *= 2
        raise StopRunError("the server refuses the token, also when it is new", _CHECK_TOKEN)

    def _unreachable(self, address: str, error: Exception) -> MvtkError:
        reason = error.reason if isinstance(error, URLError) else error
        message = f"cannot be fetched in {_ATTEMPTS} attempts: {reason or type(error).__name__}"
        if _origin(address) == _origin(self._base) and isinstance(error, URLError):
            return StopRunError(message, "check --url and whether the server runs, then run the command again")
        return MvtkError(message, "run the command again")

    def _get(self, address: str) -> bytes:
        request = Request(address)  # noqa: S310 - only http and https come this far
        if self._token and _origin(address) == _origin(self._base):
            request.add_unredirected_header("Authorization", self._authorization())
        with closing(self._opener.open(request, timeout=self._timeout_s)) as response:
            if response.headers.get_content_type() == "text/html":
                hint = _CHECK_TOKEN if self._token else "give --token"
                raise MvtkError("the server answered with a web page, not with an image", hint)
            return self._body(response)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        content = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_bytes:
                raise MvtkError(f"more than the limit of {self._max_bytes} bytes")
        expected = response.headers.get("Content-Length", "")
        if expected.isdecimal() and int(expected) != len(content):
            raise http.client.IncompleteRead(b"", int(expected) - len(content))
        return bytes(content)

    @property
    def _is_refreshable(self) -> bool:
        """Whether the token is a personal one: a JSON Web Token, with which access tokens are asked for."""
        return self._token.count(".") == _JWT_DOTS

    def _authorization(self) -> str:
        if not self._is_refreshable:
            return f"Token {self._token}"
        if not self._access_token:
            self._access_token = self._new_access_token()
        return f"Bearer {self._access_token}"

    def _new_access_token(self) -> str:
        body = json.dumps({"refresh": self._token}).encode()
        request = Request(  # noqa: S310 - the address that was given, http or https
            f"{self._base}/api/token/refresh", data=body, headers={"Content-Type": "application/json"}
        )
        with closing(self._opener.open(request, timeout=self._timeout_s)) as response:
            try:
                return str(json.loads(self._body(response))["access"])
            except (ValueError, KeyError, TypeError) as error:
                raise StopRunError("the server gives no access token for this --token", _CHECK_TOKEN) from error


class _CarefulRedirects(HTTPRedirectHandler):
    """Follows redirects, and sends the token on to its own server only."""

    def __init__(self, origin: tuple[str, str | None, int | None]) -> None:
        self._origin = origin

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if redirected is not None and authorization and _origin(newurl) == self._origin:
            redirected.add_unredirected_header("Authorization", authorization)
        return redirected


def _opener(origin: tuple[str, str | None, int | None]) -> OpenerDirector:
    """Return what opens web addresses and nothing else: no file:, no ftp:, wherever a server redirects to."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
        _CarefulRedirects(origin),
    ):
        opener.add_handler(handler)
    return opener


def _origin(address: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a web address."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise MvtkError(f"{shown_reference(address)}: no web address: {error}") from error
    return parts.scheme, parts.hostname, port or {"http": 80, "https": 443}.get(parts.scheme)


def _refusal(error: HTTPError) -> MvtkError:
    message = f"the server answered {error.code} {error.reason}"
    if error.code == http.client.UNAUTHORIZED:
        return StopRunError(message, _CHECK_TOKEN)
    if error.code == http.client.FORBIDDEN:
        return MvtkError(message, "the owner of --token may not see this project")
    return MvtkError(message)
