"""What commands print: through missing, closed and broken streams, in any encoding, and as commands for a shell."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scratch.console import OBEYED, complain, fitting, note, say, typed, write
from scratch.training import checkpoint, command
from scratch.training.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
FAST = "--steps 6 --hidden 8 --evaluate-every 3 --warmup 2"
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs sh")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess:
    """`scratch` in the line is this one."""
    line = line.replace("scratch ", f"'{sys.executable}' -m scratch ")
    return subprocess.run(["sh", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


# -- streams that are missing, closed, full or without a reader --------------------------------------------------


@posix
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "| head -1", ">/dev/full"])
def test_a_training_goes_on_to_its_end_without_an_output(streams, tmp_path):
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"scratch train mlp {FAST} --folder run {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")[0]["step"] == 6
    assert (tmp_path / "run" / "report.md").is_file()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(lines) == 8 and all(line.startswith('{"step": ') for line in lines)  # nothing else got into its file


@posix
@pytest.mark.parametrize("words", ["list", "data", "report nowhere", "nonsense", "train mlp --help", "train", "chat"])
@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_commands_end_without_a_traceback_where_streams_are_missing(words, streams, tmp_path):
    done = shell(f"scratch {words} {streams}", tmp_path)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    failing = words in ("report nowhere", "nonsense", "train", "chat")
    assert done.returncode in ((0, 2) if words == "chat" else (2,) if failing else (0,))


@posix
def test_an_output_that_is_full_is_one_line_of_error(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell("scratch list >/dev/full", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: [Errno 28]") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("stream", [None, "closed"])
def test_printing_without_a_stream_does_nothing(stream, monkeypatch):
    """pythonw on Windows has None; a notebook or a service may have closed them."""
    for name in ("stdout", "stderr"):
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr(sys, name, None if stream is None else closed)
    say("a")
    write("b")
    note("c")
    complain("d")
    progress = Progress(10)
    progress.update(10, 1.0)
    progress.line("e")
    progress.close()
    monkeypatch.setattr(sys, "stdin", None)
    assert command.guarded(lambda: len(sys.stdin.read())) == 0  # the null device
    for opened in (sys.stdin, sys.stdout, sys.stderr):
        opened.close()


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_run_is_silent_once_its_reader_has_gone_and_another_command_ends(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(BrokenPipeError):
        say("a")
    note("b")
    assert sys.stdout.name == os.devnull
    say("c")
    sys.stdout.close()


def test_a_terminal_that_has_gone_takes_only_the_bar_with_it(monkeypatch):
    class Terminal(io.StringIO):
        gone = False

        def isatty(self) -> bool:
            return True

        def flush(self) -> None:
            if self.gone:
                raise OSError(5, "Input/output error")

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(10)
    assert progress.bar is not None
    progress.update(10, 1.0)
    assert "10/10" in terminal.getvalue()
    terminal.gone = True
    progress.line("a")
    assert progress.bar is None and sys.stdout.name == os.devnull
    progress.update(10, 1.0)
    progress.close()
    sys.stdout.close()


def test_missing_numbers_of_streams_are_filled(tmp_path):
    """Without it the checkpoint would be file number 1, and what a C library prints would go into it."""
    script = ("import os; os.close(1); os.close(0); from scratch.console import open_missing_streams; "
              "open_missing_streams(); f = open('x', 'w'); os.write(1, b'stray'); assert f.fileno() > 2; "
              "assert os.read(0, 9) == b''")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x").read_bytes() == b""


# -- what a terminal obeys --------------------------------------------------------------------------------------


def test_no_text_reaches_the_terminal_with_characters_that_it_obeys(capsys):
    say("a\x1b]0;owned\x07\x9b31m\tb\nc\u202e\udc80é中")
    complain("error: \x1b[2J" + "x" * 10**6)
    printed = capsys.readouterr()
    assert printed.out == "a\\x1b]0;owned\\x07\\x9b31m\tb\nc\\u202e\\udc80é中\n"
    assert printed.err.startswith("error: \\x1b[2Jxxx") and len(printed.err) < 4100


def test_an_ascii_terminal_gets_ascii():
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert fitting("5 ± 1 · é 中 \x1b", ascii_only) == "5 +- 1 - e ? \\x1b"


@pytest.mark.parametrize("columns", ["1", "2", "0", "-3", "x", "39", ""])
def test_help_is_laid_out_for_any_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        from scratch.cli import main

        main(["train", "mlp", "--help"])
    assert not end.value.code and os.environ["COLUMNS"] == columns
    assert "--hidden" in capsys.readouterr().out


# -- commands for a shell ---------------------------------------------------------------------------------------

NAMES = ["runs/mlp-1", "a b", "a&b", "(1)", "it's", 'a"b', "a;b", "$(touch x)", "`touch x`", "$HOME", "~", "*", "a\\b",
         "#a", "a\nb", "a\n", "\x1b[31m", "é中", "b\udc80", "100%", "a!b", "{a,b}", "a=b", "\t", ""]  # fmt: skip


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_path_that_was_meant(name, tmp_path):
    seen = subprocess.run(["sh", "-c", f"printf %s {typed(name)}"], cwd=tmp_path, capture_output=True).stdout
    assert seen == os.fsencode(name)
    assert not list(tmp_path.iterdir())
    assert name.endswith("\n") or typed(name).isprintable()


@posix
def test_a_path_is_never_an_option():
    assert typed(Path("-x")) == "./-x" and typed("--help") == "./--help" and typed(Path("a-x")) == "a-x"
    assert typed("-x", windows=True) == ".\\-x"


@posix
def test_names_beyond_the_terminals_characters_are_typed_in_octal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert typed("é") == "\"$(printf '\\303\\251')\""
    assert subprocess.run(["sh", "-c", f"printf %s {typed('é')}"], capture_output=True).stdout == "é".encode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (r"runs\mlp-1", r"runs\mlp-1"),
        (r"C:\a b\c", r'"C:\a b\c"'),
        ("a&b", '"a&b"'),
        ("it's (1)", '"it\'s (1)"'),
        ("a;b,c", '"a;b,c"'),
        ("$(calc) it's", "'$(calc) it''s'"),
        ("“a”", "'“a”'"),
        ("100%", '"100%"'),
    ],
)
def test_paths_for_the_shells_of_windows(name, text):
    assert typed(name, windows=True) == text


@posix
def test_what_a_stopped_run_prints_resumes_it(tmp_path):
    folder = tmp_path / "it's $(touch made) -x"
    code = (
        "import os, signal, sys; from scratch.training import Run; from scratch.cli import main\n"
        "log = Run.log\n"
        "def stopping(self, step, loss, **more):\n"
        "    log(self, step, loss, **more)\n"
        "    step == 2 and os.kill(os.getpid(), signal.SIGTERM)\n"
        "Run.log = stopping\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["train", "mlp", *FAST.split(), "--folder", str(folder)]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, env=ENVIRONMENT, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 143, done.stderr
    line = done.stdout.splitlines()[-1]
    assert line.startswith("stopped after 3 steps; go on with: scratch resume ")
    resumed = shell(line.partition("go on with: ")[2], tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed  after 3 steps" in resumed.stdout and [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_pattern_of_obeyed_characters_leaves_words_alone():
    assert OBEYED.sub("", "tab\t line\n é 中 👩‍🔬 \xa0") == "tab\t line\n é 中 👩‍🔬 \xa0"


def test_a_download_outlives_the_stream_that_shows_how_far_it_is(monkeypatch):
    from scratch.data.download import Meter

    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        meter = Meter("x")
        meter(1, 2)
        meter(2, 2)
        meter.close()
