"""The speech detector: published weights on our layers give PyTorch's probabilities, and the wheel's segments."""

from __future__ import annotations

import sys
import wave

import numpy as np
import pytest

from scratch import no_grad, viz
from scratch.layers import LSTM
from scratch.models.rnn_lstm_gru import speech
from scratch.weights import load, save_file
from tests.conftest import DETECTOR_WEIGHTS_ARE_HERE

needs_weights = pytest.mark.skipif(not DETECTOR_WEIGHTS_ARE_HERE, reason=f"{speech.INSTALL} (make parity does)")

# Frames of the example, from PyTorch 2.13.0's twin below in float64.
FROZEN = {0: 0.0740409, 21: 0.1988287, 22: 0.7101151, 35: 0.9335644, 60: 0.0523662, 100: 0.8542422, 138: 0.1166122}


@pytest.fixture(scope="module")
def sound():
    return speech.example()


def write(path, values, rate=speech.RATE, width=2, channels=1):
    """Whole numbers as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        numbers = np.asarray(values, np.int64) + (128 if width == 1 else 0)
        file.writeframes(numbers.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes())


def their_detector(state):
    """The network in PyTorch, with the arrays of a safetensors file."""
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
            self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
            self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
            self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
            self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
            self.lstm_cell = nn.LSTMCell(128, 128)
            self.final_conv = nn.Conv1d(128, 1, 1)

        def forward(self, frames):
            x = self.stft_conv(nn.functional.pad(frames[:, None], (0, 64), mode="reflect"))
            x = torch.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
            for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
                x = torch.relu(convolution(x))
            state, found = None, []
            for x_t in x.swapaxes(1, 2):
                state = self.lstm_cell(x_t, state)
                found.append(torch.sigmoid(self.final_conv(torch.relu(state[0])[..., None])).squeeze())
            return torch.stack(found)

    twin = Detector()
    twin.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    return twin.eval()


@needs_weights
def test_the_example_is_heard(sound):
    model = speech.load_detector()
    p = speech.probabilities(model, sound)
    assert p.shape == (157,) and p.dtype == np.float32
    for frame, expected in FROZEN.items():
        assert abs(p[frame] - expected) < 1e-4
    phrases = speech.segments(p, len(sound))
    assert [(round(start, 2), round(end, 2)) for start, end in phrases] == [(0.9, 1.85), (2.91, 4.41)]
    assert model.count_parameters() == 309_633
    assert speech.WHEEL not in sys.modules, "the package is read, never imported"


@needs_weights
def test_what_is_no_speech():
    model, rng = speech.load_detector(), np.random.default_rng(0)
    t = np.arange(2 * speech.RATE) / speech.RATE
    noise, tone, clicks = rng.standard_normal(len(t)), np.sin(2 * np.pi * 440 * t), rng.random(len(t)) < 1e-3
    for other in (0 * t, 0.1 * noise, 0.3 * tone, clicks):
        assert speech.probabilities(model, other).max() < 0.2


@pytest.mark.torch
@needs_weights
def test_probabilities_are_the_pytorch_twins(sound):
    import torch

    twin, frames = their_detector(load(speech.find_weights())), torch.from_numpy(speech.framed(sound).copy())
    ours = speech.probabilities(speech.load_detector(), sound)
    with torch.no_grad():
        theirs, exact = twin(frames).numpy(), twin.double()(frames.double()).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-4)
    for frame, expected in FROZEN.items():  # what is frozen above is PyTorch's
        assert abs(exact[frame] - expected) < 1e-6


def our_name(name: str) -> str:
    """Of an array in the wheel's TorchScript file."""
    if name.startswith("encoder."):
        _, number, _, kind = name.split(".")
        return f"conv{int(number) + 1}.{kind}"
    name = name.replace("stft.forward_basis_buffer", "stft_conv.weight").replace("decoder.rnn", "lstm_cell")
    return name.replace("decoder.decoder.2", "final_conv")


@pytest.mark.torch
@needs_weights
def test_probabilities_are_those_of_the_network_in_the_wheel(sound):
    """The wheel's TorchScript, run by PyTorch: it holds another training of the same network than its safetensors."""
    import torch

    theirs = torch.jit.load(str(speech.find_weights().with_name("silero_vad.jit")))
    model = speech.SpeechDetector().eval()
    model.load_state_dict({our_name(name): value.numpy() for name, value in theirs._model.state_dict().items()})
    sound = sound[: 80 * speech.FRAME]
    with torch.no_grad():
        expected = [theirs(torch.from_numpy(frame.copy()), speech.RATE).item() for frame in sound.reshape(80, 1, -1)]
    assert np.ptp(expected) > 0.9
    np.testing.assert_allclose(speech.probabilities(model, sound), expected, rtol=0, atol=1e-4)


@pytest.mark.torch
@needs_weights
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_segments_are_those_of_the_wheel(threshold):
    pytest.importorskip("packaging")
    code = (speech.find_weights().parent.parent / "utils_vad.py").read_text(encoding="utf-8")
    space: dict = {}
    exec(compile(code, "utils_vad.py", "exec"), space)
    rng = np.random.default_rng(0)
    found = 0
    for length in (1, 5, 40, 300, 301):
        for smooth in (1, 3, 9):
            noise = rng.standard_normal(length + smooth)
            p = 1 / (1 + np.exp(-4 * np.convolve(noise, np.ones(smooth) / smooth**0.5, mode="valid")[:length]))
            samples = length * speech.FRAME - int(rng.integers(speech.FRAME))
            theirs = space["get_speech_timestamps_from_probs"](
                list(p), threshold=threshold, audio_length_samples=samples
            )
            ours = speech.segments(p, samples, threshold)
            assert [(round(s.start * speech.RATE), round(s.end * speech.RATE)) for s in ours] == [
                (each["start"], each["end"]) for each in theirs
            ]
            found += len(ours)
    assert found > 20


def test_a_frame_at_a_time_several_sounds_and_the_layer_give_the_same():
    model, rng = speech.SpeechDetector().eval(), np.random.default_rng(0)
    frames = rng.standard_normal((7, 2, 576)).astype(np.float32)
    with no_grad():
        together, (h, c) = model(frames)
        for b in range(2):
            state, alone = None, []
            for frame in frames[:, b]:
                p, state = model(frame[None], state)
                alone.append(p.data[0])
            np.testing.assert_allclose(alone, together.data[:, b], rtol=1e-4)
            np.testing.assert_allclose(state[1].data[0], c.data[b], rtol=1e-3, atol=1e-5)
        layer = LSTM(128, 128)
        layer.load_state_dict({f"{name}_l0": value for name, value in model.lstm_cell.state_dict().items()})
        y, _ = layer(model.features(frames.reshape(14, 576)).reshape(7, 2, 128))
    np.testing.assert_allclose(y.data[-1], h.data, rtol=1e-4, atol=1e-6)
    for wrong in (np.zeros(576), np.zeros((3, 575)), np.zeros((0, 576))):
        with pytest.raises(ValueError, match=r"expected frames \(T, 576\)"):
            model(wrong)


def test_more_frames_than_are_computed_together(monkeypatch):
    model, sound = speech.SpeechDetector().eval(), np.random.default_rng(0).standard_normal(3000)
    whole = speech.probabilities(model, sound)
    monkeypatch.setattr(speech, "AT_ONCE", 2)
    np.testing.assert_allclose(speech.probabilities(model, sound), whole, rtol=1e-4)


def test_frames_see_the_end_of_the_frame_before():
    frames = speech.framed(np.arange(1, 1101))
    assert frames.shape == (3, 576) and frames.dtype == np.float32
    np.testing.assert_array_equal(frames[0], [*[0] * 64, *range(1, 513)])
    np.testing.assert_array_equal(frames[1], range(449, 1025))
    np.testing.assert_array_equal(frames[2], [*range(961, 1101), *[0] * 436])
    for wrong in (np.zeros((2, 3)), np.zeros(0)):
        with pytest.raises(ValueError, match=r"framed expected one sound \(N,\), got"):
            speech.framed(wrong)


# -- recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_recordings_of_every_width(width, tmp_path):
    top = 2 ** (8 * width - 1)
    write(tmp_path / "a.wav", [0, top // 2, -top, top - 1, -top // 4], width=width)
    sound = speech.read_wav(tmp_path / "a.wav")
    assert sound.dtype == np.float32
    np.testing.assert_allclose(sound, [0, 0.5, -1, (top - 1) / top, -0.25], rtol=1e-6)
    write(tmp_path / "b.wav", [top // 2, -top // 4, 0, 0], width=width, channels=2)
    np.testing.assert_allclose(speech.read_wav(tmp_path / "b.wav"), [0.125, 0], rtol=1e-6)


def test_what_is_no_recording(tmp_path):
    write(tmp_path / "a.wav", [0, 1], rate=44_100)
    with pytest.raises(ValueError, match=r"a\.wav: expected 16,000 samples a second, got 44,100; .*-ar 16000"):
        speech.read_wav(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "c.wav").write_bytes(b"")
    for name in ("b.wav", "c.wav", "."):
        with pytest.raises(ValueError, match="expected an uncompressed WAV file"):
            speech.read_wav(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.wav: expected a recording"):
        speech.read_wav(tmp_path / "none.wav")


# -- segments and weights ---------------------------------------------------------------------------------------


def test_segments_by_hand():
    p = np.zeros(60)
    p[10:25] = 0.9  # 0.32 s to 0.8 s
    p[15:17] = 0.1  # a short pause
    p[40:45] = 0.9  # 160 ms: too short
    p[50] = 0.6  # until the end: from here on neither speech nor pause
    p[51:] = 0.4
    (first, last) = speech.segments(p)
    np.testing.assert_allclose([*first, *last], [0.32 - 0.03, 0.8 + 0.03, 1.6 - 0.03, 60 * 512 / 16000])
    assert speech.segments(np.zeros(5)) == []
    for threshold in (0, 1, -3):
        with pytest.raises(ValueError, match="a threshold between 0 and 1"):
            speech.segments(p, threshold=threshold)


def test_missing_and_foreign_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps silero-vad==6\.2\.3"):
        speech.load_detector()
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        speech.load_detector(tmp_path / "none.safetensors")
    save_file({"a": np.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors: .*missing: stft_conv\.weight") as caught:
        speech.load_detector(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 700


def test_the_command_and_its_picture(tmp_path, capsys):
    model = speech.SpeechDetector()
    model.final_conv.bias.data += 9  # everything is speech
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    write(tmp_path / "a.wav", np.arange(-8000, 8000))
    picture = tmp_path / "p.png"
    speech.main([str(tmp_path / "a.wav"), "--weights", str(tmp_path / "w.safetensors"), "--picture", str(picture)])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.endswith("a.wav: 1.00 s") and second == "speech from 0.00 s to 1.00 s" and third.endswith("p.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    model.final_conv.bias.data -= 18
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    speech.main([str(tmp_path / "a.wav"), "--weights", str(tmp_path / "w.safetensors"), "--probabilities"])
    _, second, *rest = capsys.readouterr().out.splitlines()
    assert second == "no speech; the highest probability is 0.00" and len(rest) == 32
    assert rest[1] == "  0.032 s  0.000"


def test_the_picture_shows_what_it_was_given():
    p = np.linspace(0, 1, 10)
    page = viz.speech(np.random.default_rng(0).standard_normal(5120), speech.RATE, p, [(0.1, 0.2)], threshold=0.4)
    above, below = page.axes[:2]
    assert above.images[0].get_extent() == [0, 0.32, 0, 8] and below.get_xlim() == (0, 0.32)
    np.testing.assert_allclose(below.lines[0].get_ydata(), [*p, 1])
    np.testing.assert_allclose(below.lines[0].get_xdata()[[0, 1, -1]], [0, 0.032, 0.32])
    (band,) = below.patches
    np.testing.assert_allclose([band.get_x(), band.get_width()], [0.1, 0.1])
    assert band.get_hatch() and [text.get_text() for text in below.get_legend().texts][1] == "threshold 0.4"
    with pytest.raises(ValueError, match=r"a sound \(N,\) and probabilities \(T,\), got \(2, 300\)"):
        viz.speech(np.zeros((2, 300)), speech.RATE, p, [])
