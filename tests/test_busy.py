"""The table of commands next to busy programs, from times that are made up; and that the busy programs end."""

import json
import os

import pytest

pytestmark = pytest.mark.clone
busy = pytest.importorskip("benchmarks.busy")


@pytest.mark.parametrize(("rate", "code", "worst"), [(50.0, 0, "2.40"), (30.0, 1, "3.33")])
def test_the_worst_of_times_and_rates_decides(rate, code, worst, monkeypatch, capsys, tmp_path):
    others = []

    class Others:
        def __init__(self, count):
            self.count = count

        def __enter__(self):
            others.append(self.count)

        def __exit__(self, *error):
            others.pop()

    monkeypatch.setattr(busy, "busy", Others)
    monkeypatch.setattr(busy, "cores", lambda: 2)
    monkeypatch.setattr(busy, "train", lambda name, seconds: (10.0, rate) if others else (5.0, 100.0))
    monkeypatch.setattr(busy, "sample", lambda name, seconds: (1.2 if others else 0.5, 0.0))
    assert busy.main(["mlp", "gpt", "--json", str(tmp_path / "out.json")]) == code
    output = capsys.readouterr().out
    assert f"| train mlp --preset quick | 5.0 | 10.0 | 2.00 | 100.0 | {rate:.1f} | {100 / rate:.2f} |" in output
    assert "| sample gpt | 0.5 | 1.2 | 2.40 | – | – | – |" in output
    assert f"{worst} times" in output.splitlines()[-1]
    assert len(json.loads((tmp_path / "out.json").read_text())) == 4 and others == []


@pytest.mark.skipif(os.name == "nt", reason="signal 0 asks nothing there")
def test_busy_programs_end_with_the_block(monkeypatch):
    started = []
    popen = busy.subprocess.Popen
    monkeypatch.setattr(busy.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(KeyboardInterrupt), busy.busy(2):
        assert [each.poll() for each in started] == [None, None]
        raise KeyboardInterrupt
    assert len(started) == 2 and all(each.poll() is not None for each in started)
    with busy.busy(0):
        assert len(started) == 2


def test_an_unknown_name_and_bad_numbers_are_refused(capsys):
    with pytest.raises(ValueError, match="mlpp"):
        busy.main(["mlpp"])
    for words in (["--rounds", "0"], ["--seconds", "0"], ["--seconds", "inf"]):
        with pytest.raises(SystemExit):
            busy.main(words)
    assert "--rounds" in capsys.readouterr().err
