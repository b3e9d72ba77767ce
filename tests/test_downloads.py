"""Downloads, against a server on this machine that does what servers and lines do: break, stall, lie, start over."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import scratch.data.download as module
from scratch.data.cache import data_folder, find, place
from scratch.data.download import Meter, download, fetch
from scratch.data.sources import SOURCES, File, Source

ROOT = Path(__file__).resolve().parent.parent
CONTENT = hashlib.shake_256(b"content").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@dataclass
class Server:
    """Answers each request by the next behaviour in `plan`, the last one for ever, and notes what was asked."""

    address: str
    plan: list[str] = field(default_factory=lambda: ["honest"])
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    gates: list[threading.Event] = field(default_factory=lambda: [threading.Event(), threading.Event()])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server.notes
        behaviour = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        server.asked.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        getattr(self, f"be_{behaviour}")(self.headers.get("Range"))

    def log_message(self, *_):
        pass

    def send(self, code, body, length=None, **headers):
        self.send_response(code)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def part(self, asked, content=CONTENT, cut=None, total=SIZE):
        """What a server that knows Range sends; `cut` bytes of it, though more are announced."""
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if start >= SIZE:
            return self.send(416, b"")
        extra = {"Content_Range": f"bytes {start}-{SIZE - 1}/{total}"} if asked else {}
        self.send(206 if asked else 200, content[start:][:cut], length=SIZE - start, **extra)

    def be_honest(self, asked):
        self.part(asked)

    def be_broken(self, asked):
        self.part(asked, cut=100_000)

    def be_silent(self, asked):
        self.part(asked, cut=0)

    def be_corrupt(self, asked):
        self.part(asked, content=bytes(1000) + CONTENT[1000:])

    def be_stalled(self, asked):
        self.part(asked, cut=70_000)
        self.wfile.flush()
        self.server.notes.gates[0].wait(20)

    def be_ignorant(self, asked):  # of Range
        self.part(None)

    def be_unmeasured(self, asked):  # no Content-Length, as HTTP/1.0 does it
        self.send(200, CONTENT, length=-1)

    def be_chunked(self, asked, cut=SIZE, end=b"0\r\n\r\n"):
        self.send(200, b"", length=-1, Transfer_Encoding="chunked")
        for start in range(0, cut, 50_000):
            piece = CONTENT[start : min(start + 50_000, cut)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(end)

    def be_chunked_and_broken(self, asked):
        self.be_chunked(asked, cut=100_000, end=b"")

    def be_longer(self, asked):
        self.send(200, CONTENT + b"more")

    def be_endless(self, asked):
        self.send(200, CONTENT + CONTENT, length=-1)

    def be_shorter(self, asked):
        self.send(200, CONTENT[:-1])

    def be_elsewhere(self, asked):  # another range than the one asked for
        self.send(206, CONTENT[:1000], Content_Range=f"bytes 0-999/{SIZE}")

    def be_another(self, asked):  # a file of another length, which also knows Range
        self.part(asked, total=SIZE + 1)

    def be_unlabelled(self, asked):
        self.send(206, CONTENT[:1000])

    def be_missing(self, asked):
        self.send(404, b"<html>not here</html>", Content_Type="text/html")

    def be_forbidden(self, asked):
        self.send(403, b"no")

    def be_busy(self, asked):
        self.send(503, b"later")

    def be_a_portal(self, asked):
        self.send(200, b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")

    def be_an_equally_long_portal(self, asked):
        self.send(200, bytes(SIZE), Content_Type="text/html")

    def be_unsatisfied(self, asked):
        self.send(416, b"") if asked else self.part(None)

    def be_nonsense(self, asked):
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    def be_moved(self, asked):
        self.send(302, b"", Location="/there")

    def be_held(self, asked):  # until the second gate opens; the first says that it is reached
        self.server.notes.gates[0].set()
        self.server.notes.gates[1].wait(20)
        self.part(asked)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.notes = Server(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield listening.notes
    for gate in listening.notes.gates:
        gate.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set" / "file.gz"


def part_of(path):
    return path.with_name(path.name + ".part")


def get(server, path, *plan, size=SIZE, sha256=SHA256, report=None):
    """Download with a server that behaves in this way, one word an attempt; returns the ranges that were asked for."""
    server.plan, server.asked = list(plan), []
    download([f"{server.address}/file.gz"], path, size, sha256, report)
    assert path.read_bytes() == CONTENT and not part_of(path).exists()
    return [asked for _, asked in server.asked]


# -- what a download survives -----------------------------------------------------------------------------------


def test_a_download_arrives_whole_and_says_how_far_it_is(server, path):
    seen = []
    assert get(server, path, "honest", report=lambda *far: seen.append(far)) == [None]
    assert seen[-1] == (SIZE, SIZE) and sorted(seen) == seen and len(seen) > 1
    assert sorted(each.name for each in path.parent.iterdir()) == [".lock", "file.gz"]


def test_a_broken_download_goes_on_where_it_broke_off(server, path):
    assert get(server, path, "broken", "broken", "honest") == [None, "bytes=100000-", "bytes=200000-"]


def test_attempts_that_bring_something_do_not_count_as_failures(server, path):
    cut = SIZE // 50
    Handler.be_crumbling = lambda self, asked: self.part(asked, cut=cut)
    try:
        assert len(get(server, path, "crumbling")) == 50 > module.FAILURES
    finally:
        del Handler.be_crumbling


def test_a_part_left_by_another_process_is_continued(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:123_456])
    assert get(server, path, "honest") == ["bytes=123456-"]


@pytest.mark.parametrize("left", [CONTENT + b"too much", bytes(SIZE), bytes(1000)])
def test_a_part_of_something_else_is_thrown_away(server, path, left):
    path.parent.mkdir()
    part_of(path).write_bytes(left)
    assert get(server, path, "honest")[-1] is None


def test_a_whole_part_only_needs_its_name(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT)
    assert get(server, path, "missing") == []


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("stalled", ["bytes=70000-"]),
        ("silent", [None]),
        ("chunked_and_broken", ["bytes=100000-"]),
        ("corrupt", [None]),
        ("busy", [None]),
        ("nonsense", [None]),
        ("a_portal", [None]),
        ("an_equally_long_portal", [None]),
        ("endless", None),
        ("chunked", None),
        ("unmeasured", None),
        ("moved", [None]),
    ],
)
def test_after_one_fault_the_next_attempt_succeeds(server, path, monkeypatch, first, then):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    assert get(server, path, first, "honest") == [None, *(then or [])]


@pytest.mark.parametrize("second", ["ignorant", "chunked", "unmeasured"])
def test_a_server_that_does_not_know_ranges_starts_over(server, path, second):
    assert get(server, path, "broken", second, "missing") == [None, "bytes=100000-"]


@pytest.mark.parametrize("second", ["unsatisfied", "elsewhere", "another", "unlabelled"])
def test_after_the_wrong_range_everything_is_asked_for(server, path, second):
    assert get(server, path, "broken", second, "honest") == [None, "bytes=100000-", None]


def test_a_web_page_in_between_does_not_cost_what_has_arrived(server, path):
    assert get(server, path, "broken", "a_portal", "honest")[2] == "bytes=100000-"


def test_a_fault_in_the_first_half_is_found_at_the_end_and_everything_is_loaded_again(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(bytes(150_000))
    assert get(server, path, "honest") == ["bytes=150000-", None]


# -- what it gives up -------------------------------------------------------------------------------------------

HOPELESS = [
    ("missing", 1, "answers 404 Not Found"),
    ("forbidden", 1, "answers 403 Forbidden"),
    ("longer", 1, "has 300,004 bytes, expected 300,000"),
    ("shorter", 1, "has 299,999 bytes, expected 300,000"),
    ("busy", 4, "answers 503 Service Unavailable"),
    ("silent", 4, "broke off after 0 of 300,000 bytes"),
    ("corrupt", 4, f"what it sent has not the SHA-256 {SHA256}"),
    ("a_portal", 4, "answers with a web page instead of the file"),
    ("an_equally_long_portal", 4, "answers with a web page instead of the file"),
    ("nonsense", 4, "SSH-2.0-OpenSSH"),
]


@pytest.mark.parametrize(("behaviour", "attempts", "reason"), HOPELESS, ids=[each[0] for each in HOPELESS])
def test_what_cannot_be_had_is_given_up_with_the_reason_and_nothing_is_there(server, path, behaviour, attempts, reason):
    server.plan = [behaviour]
    with pytest.raises(ConnectionError) as caught:
        download([f"{server.address}/file.gz"], path, SIZE, SHA256)
    assert reason in str(caught.value) and f"{server.address}/file.gz: " in str(caught.value)
    assert len(server.asked) == attempts
    assert not path.exists()


def test_a_stalled_server_is_given_up_and_what_came_is_kept(server, path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    Handler.be_dead = lambda self, asked: self.part(asked, cut=0) or self.server.notes.gates[0].wait(20)
    server.plan = ["stalled", "dead"]
    try:
        words = r"after 70,000 of 300,000 bytes \((no answer within 0.1 s|less than 2,000 .*)\)"
        with pytest.raises(ConnectionError, match=words):
            download([f"{server.address}/file.gz"], path, SIZE, SHA256)
    finally:
        del Handler.be_dead
    assert part_of(path).read_bytes() == CONTENT[:70_000] and not path.exists()
    assert get(server, path, "honest") == ["bytes=70000-"]


def test_nobody_there(server, path):
    with pytest.raises(ConnectionError, match="http://127.0.0.1:1/file: .*refused"):
        download(["http://127.0.0.1:1/file"], path, SIZE, SHA256)


def test_a_second_address_takes_over(server, path):
    Handler.be_divided = lambda self, asked: (self.be_missing if self.path == "/a/f" else self.be_honest)(asked)
    server.plan = ["divided"]
    try:
        download([f"{server.address}/a/f", f"{server.address}/b/f"], path, SIZE, SHA256)
    finally:
        del Handler.be_divided
    assert [asked for asked, _ in server.asked] == ["/a/f", "/b/f"] and path.read_bytes() == CONTENT


def test_two_addresses_share_one_part(server, path):
    server.plan = ["broken", "broken", "honest"]
    download([f"{server.address}/a/f", f"{server.address}/b/f"], path, SIZE, SHA256)
    assert server.asked == [("/a/f", None), ("/b/f", "bytes=100000-"), ("/a/f", "bytes=200000-")]
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_is_replaced_and_a_whole_one_is_left_alone(server, path):
    path.parent.mkdir()
    path.write_bytes(bytes(SIZE))
    assert get(server, path, "honest") == [None]
    assert get(server, path, "missing") == []


# -- two at once, and an end at any moment ----------------------------------------------------------------------


def test_of_two_that_want_the_same_file_one_waits_for_the_other(server, path):
    server.plan = ["held"]
    errors = []

    def run():
        try:
            download([f"{server.address}/file.gz"], path, SIZE, SHA256)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert server.gates[0].wait(10)
    server.gates[1].set()
    for thread in threads:
        thread.join(20)
    assert not errors and path.read_bytes() == CONTENT and len(server.asked) == 1


PROCESS = """
import sys
from pathlib import Path
from scratch.data.download import download
download([sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""


def start(server, path):
    words = [sys.executable, "-c", PROCESS, f"{server.address}/file.gz", str(path), str(SIZE), SHA256]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE)


def test_a_killed_process_leaves_its_part_and_no_lock(server, path):
    server.plan = ["stalled", "honest"]
    process = start(server, path)
    try:
        while not (part_of(path).exists() and part_of(path).stat().st_size):
            assert process.poll() is None, process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert not path.exists()
    have = part_of(path).stat().st_size
    assert get(server, path, "honest") == [f"bytes={have}-"]


def test_two_processes_do_each_other_no_harm(server, path):
    server.plan = ["held"]
    processes = [start(server, path) for _ in range(2)]
    assert server.gates[0].wait(20)
    server.gates[1].set()
    for process in processes:
        assert (process.communicate(timeout=30)[1], process.returncode) == (b"", 0)
    assert path.read_bytes() == CONTENT and len(server.asked) == 1 and not part_of(path).exists()


def test_a_full_disk_is_no_fault_of_the_network(server, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        download([f"{server.address}/file.gz"], path, SIZE, SHA256)
    assert not isinstance(caught.value, ConnectionError) and len(server.asked) == 1 and not path.exists()


# -- whole sets -------------------------------------------------------------------------------------------------


@pytest.fixture
def source(server, tmp_path, monkeypatch):
    """A set of two files on the server."""
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path / "data"))
    files = tuple(File(name, SIZE, SHA256, SIZE, SHA256) for name in ("one", "two"))
    addresses, installed = (f"{server.address}/v1/{{}}",), (tmp_path / "usr",)
    return Source("small", files, addresses, ("small", "elsewhere"), installed, "dataset")


def test_only_what_is_missing_is_fetched(server, source, capfd):
    fetch(source)
    assert [path for path, _ in server.asked] == ["/v1/one", "/v1/two"]
    assert [find(source, file) for file in source.files] == [place(source, file) for file in source.files]
    said = capfd.readouterr()
    assert said.out == "" and said.err.splitlines()[-1] == "small: two: 0.3 of 0.3 MB" and "\r" not in said.err
    fetch(source)
    assert len(server.asked) == 2
    place(source, source.files[0]).unlink()
    fetch(source)
    assert [path for path, _ in server.asked[2:]] == ["/v1/one"]


@pytest.mark.parametrize("folder", ["data/small", "data/elsewhere", "usr"])
def test_files_that_lie_elsewhere_need_no_download(server, source, tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / folder / name).write_bytes(CONTENT)
    fetch(source)
    fetch(source, renew=True)
    assert server.asked == []


def test_a_damaged_file_is_fetched_again_only_where_that_is_asked_for(server, source):
    fetch(source)
    place(source, source.files[0]).write_bytes(b"damaged")
    fetch(source)
    assert len(server.asked) == 2
    fetch(source, renew=True)
    assert len(server.asked) == 3 and place(source, source.files[0]).read_bytes() == CONTENT


def test_without_the_network_the_error_says_which_file_to_put_where(server, source):
    server.plan = ["honest", "missing"]
    with pytest.raises(FileNotFoundError) as caught:
        fetch(source)
    lines = str(caught.value).splitlines()
    assert lines == [
        "small: two could not be downloaded.",
        f"{server.address}/v1/two: answers 404 Not Found",
        "Put by hand, packed or unpacked:",
        f"  {place(source, source.files[1])}",
        f"    from {server.address}/v1/two",
        f"    (300,000 bytes, SHA-256 {SHA256})",
        "or install the package dataset of Debian or Ubuntu.",
    ]


def test_the_meter_rewrites_its_line_on_a_terminal_only(monkeypatch, capsys):
    meter = Meter("file")
    for done in (1, 2, 10_000_000):
        meter(done, 10_000_000)
    meter.close()
    assert capsys.readouterr().err == "file: 0.0 of 10.0 MB\nfile: 10.0 of 10.0 MB\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    meter = Meter("file")
    meter(5_000_000, 10_000_000)
    meter(10_000_000, 10_000_000)
    meter.close()
    assert capsys.readouterr().err == "\rfile: 5.0 of 10.0 MB\rfile: 10.0 of 10.0 MB\n"
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    Meter("file")(1, 1)


# -- the folder, and what is written down about the sets --------------------------------------------------------


def test_the_data_folder_follows_the_platform_and_the_variable(monkeypatch):
    for name in ("SCRATCH_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    for platform, folder in (
        ("linux", "/home/me/.cache"),
        ("darwin", "/home/me/Library/Caches"),
        ("win32", "/home/me/AppData/Local"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert data_folder() == Path(folder) / "ai-architectures-from-scratch"
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert data_folder() == Path("/local/ai-architectures-from-scratch")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert data_folder() == Path("/caches/ai-architectures-from-scratch")
    monkeypatch.setenv("SCRATCH_DATA", os.path.join("~", "sets"))
    assert data_folder() == Path(os.path.expanduser("~")) / "sets"


@pytest.mark.clone
def test_each_source_is_complete():
    readme = (ROOT / "scratch" / "data" / "files" / "README.md").read_text(encoding="utf-8")
    for name, source in SOURCES.items():
        assert source.name == name and source.files and source.addresses and source.folders
        for address in source.addresses:
            assert address.startswith("http") and (address.endswith("/{}") or len(source.files) == 1)
        for file in source.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and re.fullmatch("[0-9a-f]{64}", file.content_sha256)
            assert (file.sha256 != file.content_sha256) == (file.size != file.content_size) == file.name.endswith(".gz")
            assert f"| `{file.name}` | {file.size:,} | `{file.sha256}` | `{file.content_sha256}` |" in readme
    sums = [file.content_sha256 for source in SOURCES.values() for file in source.files]
    assert len(set(sums)) == len(sums) == 9
