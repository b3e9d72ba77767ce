"""Pictures of sound: its frequencies over time, and what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def speech(
    sound: Any, rate: int, probability: Any, segments: Sequence[tuple[float, float]], *, threshold: float = 0.5,
    title: str = "",
) -> Figure:  # fmt: skip
    """Above, how loud each frequency is at each moment; below, the probability of speech, with the segments hatched.

    Args: sound: (N,), `rate` samples a second. probability: (T,), evenly over the sound. segments: (start, end) in
        seconds. Raises ValueError for other shapes.
    """
    sound, p = np.asarray(style.as_array(sound), np.float64), np.asarray(style.as_array(probability), np.float64)
    if sound.ndim != 1 or p.ndim != 1 or len(sound) < 256 or not len(p):
        raise ValueError(f"speech expected a sound (N,) and probabilities (T,), got {sound.shape} and {p.shape}")
    seconds = len(sound) / rate
    page, axes = style.figure(2, 1, panel=(9.0, 2.2), sharex=True)
    above, below = axes[:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(sound, 256)[:: max(1, len(sound) // 600)]
    loud = 20 * np.log10(np.abs(np.fft.rfft(windows * np.hanning(256))) + 1e-6).T
    top = loud.max()
    drawn = above.imshow(loud, origin="lower", aspect="auto", extent=(0, seconds, 0, rate / 2000), cmap="magma",
                         vmin=top - 70, vmax=top)  # fmt: skip
    above.grid(False)
    page.colorbar(drawn, ax=above, pad=0.01).set_label("dB", fontsize=style.SMALL)
    style.label(above, title, y="frequency (kHz)")
    below.step(np.arange(len(p) + 1) * seconds / len(p), [*p, p[-1]], where="post", color=style.BLUE, label="p(speech)")
    below.axhline(threshold, color=style.BLACK, linestyle=(0, (5, 1.5)), linewidth=1, label=f"threshold {threshold:g}")
    for k, (start, end) in enumerate(segments):
        below.axvspan(start, end, facecolor=style.ORANGE, alpha=0.3, hatch="///", edgecolor=style.ORANGE, linewidth=0,
                      label="" if k else "called speech")  # fmt: skip
    below.set(xlim=(0, seconds), ylim=(-0.03, 1.03))
    style.label(below, x="time (s)", y="probability")
    below.legend(fontsize=style.SMALL, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderpad=0)
    return page
