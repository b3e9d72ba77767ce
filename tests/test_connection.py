"""Servers that answer without end, too slowly, or with nonsense: the next address is tried."""

from __future__ import annotations

import hashlib
import re
import socket
import threading

import pytest

import scratch.data.download as module
from scratch.data.connection import REDIRECTIONS, Deadline, Slow, answer
from scratch.data.download import download, fetch
from scratch.data.sources import File, Source

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
HONEST = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (SIZE, CONTENT)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Servers:
    """A server for each answer: what it sends at once, then again and again every `pause` seconds."""

    def __init__(self):
        self.over = threading.Event()
        self.sockets, self.threads, self.asked = [], [], []

    def start(self, first: bytes, again: bytes = b"", pause: float = 0.02) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(0.05)
        self.sockets.append(listening)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/file"
        self.threads.append(threading.Thread(target=self._serve, args=(listening, address, first, again, pause)))
        self.threads[-1].start()
        return address

    def _serve(self, listening, address, first, again, pause):
        while not self.over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.settimeout(5)
                    connection.recv(4096)
                    self.asked.append(address)
                    connection.sendall(first)
                    while again and not self.over.wait(pause):
                        connection.sendall(again)
                except OSError:
                    pass  # the client has gone

    def close(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        for each in self.sockets:
            each.close()


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "TIMEOUT", 0.15)
    running = Servers()
    yield running
    running.close()


ENDLESS = {
    "a byte now and then": (OK + b"Content-Length: %d\r\n\r\n" % SIZE, b"x", r"less than 2,000 bytes a second"),
    "headers without end": (OK, b"X-More: yes\r\n", "less than|more than 100 headers"),
    "a header without end": (OK + b"X: ", b"x", "less than"),
    "continue without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "less than"),
    "a status line without end": (b"HTTP/1.1 2", b"0", "less than"),
    "a trailer without end": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n", "less than"),
    "a chunk's size without end": (CHUNKED, b"0", "less than"),
    "silence": (b"", b"", "broke|closed|no answer|[Rr]emote"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_does_not_end_is_left_for_the_next_address(servers, tmp_path, kind):
    first, again, _ = ENDLESS[kind]
    slow, honest = servers.start(first, again), servers.start(HONEST)
    download([slow, honest], tmp_path / "file", SIZE, SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert servers.asked == [slow, honest]


@pytest.mark.parametrize("kind", ["a byte now and then", "continue without end", "silence"])
def test_without_another_address_it_is_given_up_with_the_reason(servers, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(module, "TIMEOUT", 0.08)
    first, again, words = ENDLESS[kind]
    address = servers.start(first, again)
    with pytest.raises(ConnectionError, match=f"{re.escape(address)}: .*({words})"):
        download([address], tmp_path / "file", SIZE, SHA256)
    assert servers.asked == [address] * module.FAILURES and not (tmp_path / "file").exists()


def moved(address: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % address.encode("latin-1")


WRONG = {
    "an empty label": (moved("http://a..b/"), "idna|label"),
    "an address of IPv6": (moved("http://[bad/"), "IPv6"),
    "a port too large": (moved("http://127.0.0.1:99999999/"), "port|range|refused"),
    "a port of 5,000 digits": (moved("http://127.0.0.1:" + "9" * 5000 + "/"), "port"),
    "no host": (moved("http:///x"), "host|infinite loop"),
    "a long label": (moved(f"http://{'a' * 300}/"), "idna|label|not known|resolve|resolution|encod"),
    "a file": (moved("file:///etc/passwd"), "[Rr]edirection to url 'file:///etc/passwd' is not allowed"),
    "ftp": (moved("ftp://127.0.0.1/x"), "redirects to ftp://127.0.0.1/x, which is neither"),
    "data": (moved("data:,x"), "[Rr]edirection to url 'data:,x' is not allowed"),
    "no address": (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answers 302 Found"),
    "a range of 5,000 digits": (
        b"HTTP/1.1 206 P\r\nContent-Range: bytes " + b"9" * 5000 + b"-9/9\r\n\r\n", "bytes 999.*asked for the bytes"
    ),
    "a length of 5,000 digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "broke off after 0"),
    "a chunk of negative size": (CHUNKED + b"-5\r\nabc\r\n", "broke off|[Ii]ncomplete"),
    "a chunk of no number": (CHUNKED + b"zz\r\nabc\r\n", "broke off|[Ii]ncomplete"),
    "escapes in the reason": (b"HTTP/1.1 503 \x1b]0;owned\x07\r\n\r\n", r"503 \\x1b\]0;owned\\x07"),
    "escapes for a status": (b"\x1b[31m nonsense\r\n\r\n", r"\\x1b"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_an_answer_that_makes_no_sense_is_a_reason_and_the_next_address_is_tried(servers, tmp_path, kind):
    content, words = WRONG[kind]
    wrong = servers.start(content)
    with pytest.raises(ConnectionError, match=f"(?is){re.escape(wrong)}: .*({words})") as caught:
        download([wrong], tmp_path / "file", SIZE, SHA256)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    (tmp_path / "file.part").unlink(missing_ok=True)
    download([wrong, servers.start(HONEST)], tmp_path / "file", SIZE, SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_redirections_are_followed_but_not_for_ever(servers, tmp_path):
    honest = servers.start(HONEST)
    hops = [honest]
    for _ in range(REDIRECTIONS + 1):
        hops.append(servers.start(moved(hops[-1])))
    download([hops[REDIRECTIONS - 1]], tmp_path / "file", SIZE, SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(ConnectionError, match="redirect"):
        download([hops[-1]], tmp_path / "other", SIZE, SHA256)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x", "/etc/passwd", "gopher://x"])
def test_only_http_and_https_are_asked(address):
    with pytest.raises(ValueError, match="expected an address of http or https"):
        answer(address, {}, Deadline(1, 1))


def test_instructions_follow_for_placing_the_file_by_hand(servers, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path / "data"))
    first, again, words = ENDLESS["a byte now and then"]
    address = servers.start(first, again)
    source = Source("small", (File("one", SIZE, SHA256, SIZE, SHA256),), (address,), ("small",))
    with pytest.raises(FileNotFoundError, match=f"(?s){words}.*Put by hand.*{SIZE:,} bytes, SHA-256 {SHA256}"):
        fetch(source)


def test_a_deadline_moves_with_content_and_with_nothing_else():
    now = [100.0]
    deadline = Deadline(20, 40_000, clock=lambda: now[0])
    now[0] = 115
    assert deadline.left() == 5
    deadline.progress(39_999)
    assert deadline.left() == 5
    deadline.progress(1)
    assert deadline.left() == 20
    now[0] = 134.5
    deadline.heard = True
    assert deadline.left() == 0.5
    now[0] = 135
    with pytest.raises(Slow, match="less than 2,000 bytes a second"):
        deadline.left()
    silent = Deadline(20, 40_000, clock=lambda: now[0])
    now[0] = 155
    with pytest.raises(TimeoutError) as caught:
        silent.left()
    assert type(caught.value) is TimeoutError
