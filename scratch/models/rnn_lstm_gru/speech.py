"""When does somebody speak? A trained LSTM listens to a recording, 31 times a second, on NumPy.

    sound, 16,000 samples a second ─ frames of 512, each with the 64 before it ─► (T, 576)
      ─ |short-time Fourier transform| (4 moments, 129 frequencies) ─ 4 × (Conv1d, ReLU) ─► 128 features a frame
      ─ LSTM: has there been speech just now? ─ ReLU, Linear, σ ─► p (T,)

The weights are Silero's, as the wheel `silero-vad==6.2.3` publishes them (309,633 numbers, of which 66,048 are the
Fourier transform's, MIT). They don't ship here: `pip install --no-deps silero-vad==6.2.3`. The package is
never imported, its file is read by `scratch.weights.load`, which executes nothing. (The wheel's ONNX and TorchScript
files hold another training of the same network. The tests compare with both.)
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratch import viz
from scratch.activations import relu, sigmoid
from scratch.layers import Conv1d, LSTMCell
from scratch.layers.recurrent.plain import unroll
from scratch.module import Module
from scratch.tensor import Array, Tensor, no_grad
from scratch.training.command import guarded
from scratch.training.progress import say
from scratch.weights import load

WHEEL, WEIGHTS = "silero_vad", "data/silero_vad_16k.safetensors"
INSTALL = "pip install --no-deps silero-vad==6.2.3"
RATE, FRAME, BEFORE = 16_000, 512, 64  # samples: a second, a frame, and what a frame sees of the one before
WINDOW, HOP = 256, 128  # of the Fourier transform
FREQUENCIES = WINDOW // 2 + 1
AT_ONCE = 512  # frames whose features are computed together, 16 s


class SpeechDetector(Module):
    """Convolutions see 36 ms; what was before, and what makes a noise speech, is in the state of the LSTM."""

    def __init__(self):
        self.stft_conv = Conv1d(1, 2 * FREQUENCIES, WINDOW, stride=HOP, bias=False)  # cosines, then sines
        self.conv1 = Conv1d(FREQUENCIES, 128, 3, padding=1)
        self.conv2 = Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = LSTMCell(128, 128)
        self.final_conv = Conv1d(128, 1, 1)

    def features(self, frames: Array) -> Tensor:
        """(N, 576) → (N, 128)"""
        x = self.stft_conv(np.pad(frames, ((0, 0), (0, BEFORE)), mode="reflect")[:, None])  # (N, 258, 4)
        real, imaginary = x[:, :FREQUENCIES], x[:, FREQUENCIES:]
        x = (real * real + imaginary * imaginary).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = relu(convolution(x))
        return x.reshape(len(frames), -1)

    def forward(self, frames: Array, state: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Frames of one sound (T, 576), or of B sounds (T, B, 576), the state (h, c) before them, each (B, 128)
        → the probabilities of speech (T,) or (T, B), the state after them. Raises ValueError for other shapes."""
        frames = np.asarray(frames)
        if frames.ndim not in (2, 3) or frames.shape[-1] != BEFORE + FRAME or not frames.size:
            raise ValueError(f"SpeechDetector expected frames (T, {BEFORE + FRAME}) or (T, B, ·), got {frames.shape}")
        T, B = frames.shape[0], 1 if frames.ndim == 2 else frames.shape[1]
        x = self.features(frames.reshape(T * B, -1)).reshape(T, B, -1)
        h, state = unroll(self.lstm_cell, x, state)
        p = sigmoid(self.final_conv(relu(h).reshape(T * B, -1, 1)))
        return p.reshape(frames.shape[:-1]), state


def find_weights() -> Path:
    """The weight file of the installed wheel. Raises FileNotFoundError, saying how to get it, if it is not there."""
    spec = importlib.util.find_spec(WHEEL)  # looks for the folder; runs nothing of it
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / WEIGHTS
        if path.is_file():
            return path
    raise FileNotFoundError(f"the weights of the detector are not installed: {INSTALL}, or name a file with --weights")


def load_detector(path: str | os.PathLike | None = None) -> SpeechDetector:
    """The published network, ready to listen; from `path`, else from the installed wheel.

    Raises FileNotFoundError for missing weights, ValueError for a file that is damaged or holds another network.
    """
    path = find_weights() if path is None else path
    model = SpeechDetector()
    try:
        model.load_state_dict(load(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text[:500]}") from None
    model.eval()
    return model


# -- the sound --------------------------------------------------------------------------------------------------


def read_wav(path: str | os.PathLike) -> Array:
    """A recording as numbers from −1 to 1, (N,) float32; the mean of its channels.

    Raises ValueError for anything else than uncompressed WAV (8, 16, 24 or 32 bits) of 16,000 samples a second.
    """
    try:
        with wave.open(os.fspath(path), "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a recording, but there is no such file") from None
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected an uncompressed WAV file, but {error or 'it is cut off'}") from None
    if rate != RATE:
        change = f"ffmpeg -i {Path(path).name} -ar {RATE} -ac 1 -c:a pcm_s16le new.wav"
        raise ValueError(f"{path}: expected {RATE:,} samples a second, got {rate:,}; to change it: {change}")
    data = data[: len(data) - len(data) % (width * channels)]
    if width == 1:  # the only width without a sign
        values = np.frombuffer(data, np.uint8).astype(np.float32) / 128 - 1
    else:
        high = np.zeros((len(data) // width, 4), np.uint8)  # the bytes of a number, little end first, moved to the top
        high[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
        values = (high.view("<i4").ravel() / 2**31).astype(np.float32)
    return values.reshape(-1, channels).mean(axis=1)


def framed(sound: Any) -> Array:
    """(N,) → (T, 576): each frame of 512 samples behind the last 64 of the frame before; 0 where there is no sound."""
    sound = np.asarray(sound, np.float32)
    if sound.ndim != 1 or not sound.size:
        raise ValueError(f"framed expected one sound (N,), got {sound.shape}")
    T = -(-len(sound) // FRAME)
    padded = np.zeros(BEFORE + T * FRAME, np.float32)
    padded[BEFORE : BEFORE + len(sound)] = sound
    return np.lib.stride_tricks.sliding_window_view(padded, BEFORE + FRAME)[::FRAME]


def example(seed: int = 0) -> Array:
    """Two spoken nonsense phrases of six syllables with noise before, between and behind: (80000,) float32, 5 s.

    A vowel is a buzz at the voice's pitch f₀, whose k-th harmonic the mouth lets through by its resonances F (formants,
    after Peterson and Barney 1952):  y(t) = Σ_k A(k f₀) / k · sin(2π k ∫f₀ dt),  A(f) = Π_F 1 / |1 − (f/F)² + i f/5F|
    """
    rng, t = np.random.default_rng(seed), np.arange(int(0.2 * RATE)) / RATE
    vowels = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)])
    sound = 1e-3 * rng.standard_normal(5 * RATE)
    for syllable in range(12):
        start = int((0.7 + 0.22 * syllable + 0.9 * (syllable >= 6)) * RATE)
        glide = t[:, None] / t[-1]  # from one vowel to another
        first, second = vowels[rng.choice(len(vowels), 2, replace=False)]
        pitch = 130 - 6 * (syllable % 6) + 10 * np.sin(9 * t)
        f = pitch[:, None] * np.arange(1, 26)  # (n, 25) harmonics
        gain = 1 / np.arange(1, 26)
        for F in (first + (second - first) * glide).T:
            gain = gain / np.abs(1 - (f / F[:, None]) ** 2 + 0.2j * f / F[:, None])
        y = (gain * np.sin(2 * np.pi * np.cumsum(f, axis=0) / RATE)).sum(axis=1) * np.sin(np.pi * t / t[-1]) ** 0.5
        sound[start : start + len(t)] += 0.3 * y / np.abs(y).max()
    return sound.astype(np.float32)


# -- the answer -------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """Speech from one moment to another, in seconds."""

    start: float
    end: float


@no_grad()
def probabilities(model: SpeechDetector, sound: Any) -> Array:
    """The probability of speech in each 32 ms of a sound (N,): (T,), T = ⌈N / 512⌉"""
    frames, state, found = framed(sound), None, []
    for start in range(0, len(frames), AT_ONCE):
        p, state = model(frames[start : start + AT_ONCE], state)
        found.append(p.data)
    return np.concatenate(found)


def segments(
    p: Any, samples: int | None = None, threshold: float = 0.5, shortest: float = 0.25, pause: float = 0.1,
    margin: float = 0.03,
) -> list[Segment]:  # fmt: skip
    """From when to when there is speech, from the probabilities p (T,) of a sound of `samples` samples

    It begins with p ≥ threshold and ends where p falls below threshold − 0.15 and does not rise to the threshold again
    within `pause` seconds; what is not longer than `shortest` is dropped; `margin` is added at both ends. The rule,
    with its numbers, is that of silero-vad, which a test compares. Raises ValueError for a threshold outside 0 … 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"segments expected a threshold between 0 and 1, got {threshold}")
    samples = len(p) * FRAME if samples is None else samples
    low, found = max(threshold - 0.15, 0.01), []
    start = end = None
    for i, value in enumerate(p):
        if value >= threshold:
            start, end = i * FRAME if start is None else start, None
        elif value < low and start is not None:
            end = i * FRAME if end is None else end
            if i * FRAME - end >= pause * RATE:
                found.append((start, end))
                start = end = None
    found += [] if start is None else [(start, samples)]
    found = [(start, end) for start, end in found if end - start > shortest * RATE]
    between = [0, *((a[1] + b[0]) // 2 for a, b in zip(found, found[1:], strict=False)), samples]
    wide = int(margin * RATE)
    return [
        Segment(max(start - wide, between[k]) / RATE, min(end + wide, between[k + 1]) / RATE)
        for k, (start, end) in enumerate(found)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m scratch.models.rnn_lstm_gru.speech RECORDING.wav`"""
    p = argparse.ArgumentParser(prog="speech", description="Say when somebody speaks in a recording.")
    p.add_argument("recording", nargs="?", type=Path, help="WAV file, 16 kHz (default: 5 s of synthetic syllables)")
    p.add_argument("--weights", type=Path, help=f"weight file (default: that of {INSTALL})")
    p.add_argument("--threshold", type=float, default=0.5, help="probability from which it is speech (default: 0.5)")
    p.add_argument("--probabilities", action="store_true", help="also print the probability of every 32 ms")
    p.add_argument("--picture", type=Path, help="also draw frequencies and probabilities into this PNG file")
    a = p.parse_args(arguments)
    sound = example() if a.recording is None else read_wav(a.recording)
    found = probabilities(load_detector(a.weights), sound)
    speech = segments(found, len(sound), a.threshold)
    say(f"{a.recording or 'synthetic syllables'}: {len(sound) / RATE:.2f} s")
    for start, end in speech:
        say(f"speech from {start:.2f} s to {end:.2f} s")
    if not speech:
        say(f"no speech; the highest probability is {found.max():.2f}")
    if a.probabilities:
        for i, value in enumerate(found):
            say(f"{i * FRAME / RATE:7.3f} s  {value:.3f}")
    if a.picture is not None:
        page = viz.speech(sound, RATE, found, speech, threshold=a.threshold)
        say(f"picture  {viz.save(page, a.picture)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
