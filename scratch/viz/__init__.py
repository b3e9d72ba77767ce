"""Pictures: every function takes arrays and returns a matplotlib Figure; `save` writes it as a small PNG.

Matplotlib is imported inside the functions, never through pyplot: no window, no global state.
"""

from scratch.viz.boundary import boundary_animation, boundary_grid, decision_boundary
from scratch.viz.confusion import confusion
from scratch.viz.curves import compare_runs, loss_curves, smoothed
from scratch.viz.images import first_layer_weights, image_grid, worst_mistakes
from scratch.viz.style import figure, save
from scratch.viz.surfaces import histograms, surface_paths
from scratch.viz.tape import draw_tape, keep_gradients, tape_text

__all__ = [
    "boundary_animation",
    "boundary_grid",
    "compare_runs",
    "confusion",
    "decision_boundary",
    "draw_tape",
    "figure",
    "first_layer_weights",
    "histograms",
    "image_grid",
    "keep_gradients",
    "loss_curves",
    "save",
    "smoothed",
    "surface_paths",
    "tape_text",
    "worst_mistakes",
]
