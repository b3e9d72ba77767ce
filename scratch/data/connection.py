"""A request over http or https that ends: its answer keeps coming at a minimum rate, or the request has failed.

A time limit on a socket is for silence: a server that sends one byte now and then, headers without end, or one
"100 Continue" after another never meets it. Here a `Deadline` stands behind every read from the socket, whatever layer
reads (status line, headers, sizes of chunks, content), and only content that has arrived moves it on.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

SCHEMES = ("http://", "https://")
REDIRECTIONS = 5
Clock = Callable[[], float]


class Slow(TimeoutError):
    """Bytes came, but too few."""


class Deadline:
    """`seconds` to bring the answer's head, then again for each `least` bytes of content."""

    def __init__(self, seconds: float, least: float, clock: Clock = time.monotonic):
        self.seconds, self.least, self.clock = seconds, least, clock
        self.until = clock() + seconds
        self.came = 0.0  # bytes of content since the deadline was moved
        self.heard = False  # whether anything at all came since then

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError at and after it."""
        left = self.until - self.clock()
        if left <= 0:
            raise self.missed()
        return left

    def missed(self) -> TimeoutError:
        """The error: `Slow` if something came since the deadline was moved."""
        return Slow(f"less than {self.least / self.seconds:,.0f} bytes a second") if self.heard else TimeoutError()

    def progress(self, count: float) -> None:
        """So many bytes of content have arrived."""
        self.came += count
        if self.came >= self.least:
            self.until, self.came, self.heard = self.clock() + self.seconds, 0.0, False


class _Reader(io.RawIOBase):
    """A socket's stream, which gives up at the deadline."""

    def __init__(self, stream: Any, connection: socket.socket, deadline: Deadline):
        self.stream, self.connection, self.deadline = stream, connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.connection.settimeout(self.deadline.left())
        try:
            count = self.stream.readinto(buffer)
        except TimeoutError:
            raise self.deadline.missed() from None
        self.deadline.heard |= bool(count)
        return count

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, *arguments: Any, deadline: Deadline, **options: Any):
        super().__init__(connection, *arguments, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), connection, deadline))


def _connection(kind: type[http.client.HTTPConnection], deadline: Deadline, host: str, **options: Any) -> Any:
    connection = kind(host, **{**options, "timeout": deadline.left()})
    connection.response_class = functools.partial(_Response, deadline=deadline)  # type: ignore[assignment]
    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline):
        super().__init__()
        self.deadline = deadline

    def http_open(self, request: urllib.request.Request) -> Any:
        kind = functools.partial(_connection, http.client.HTTPConnection, self.deadline)
        return self.do_open(kind, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline):
        super().__init__()
        self.deadline = deadline

    def https_open(self, request: urllib.request.Request) -> Any:
        kind = functools.partial(_connection, http.client.HTTPSConnection, self.deadline)
        return self.do_open(kind, request)


class _Redirect(urllib.request.HTTPRedirectHandler):
    """To http and https only, never to a file or to ftp, and not for ever."""

    max_redirections = REDIRECTIONS

    def redirect_request(self, request: Any, answer: Any, code: int, message: str, headers: Any, address: str) -> Any:
        if not address.lower().startswith(SCHEMES):
            raise OSError(f"it redirects to {address}, which is neither http nor https")
        return super().redirect_request(request, answer, code, message, headers, address)


def answer(address: str, headers: dict[str, str], deadline: Deadline) -> http.client.HTTPResponse:
    """The server's answer, its content still to be read; reading raises TimeoutError at the deadline.

    Raises HTTPError for an error code, and OSError, HTTPException, ValueError or OverflowError for whatever else goes
    wrong, such as a redirection to an address that is none.
    """
    if not address.lower().startswith(SCHEMES):
        raise ValueError(f"expected an address of http or https, got {address}")
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), _Http(deadline), _Https(deadline),
                    urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
                    _Redirect()):  # fmt: skip
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(address, headers=headers), timeout=deadline.seconds)
