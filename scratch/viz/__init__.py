"""Pictures: every function takes arrays and returns a matplotlib Figure; `save` writes it as a small PNG.

Matplotlib is imported inside the functions, never through pyplot: no window, no global state.
"""

from scratch.viz.attention import attention_maps, attention_steps
from scratch.viz.boundary import boundary_animation, boundary_grid, decision_boundary
from scratch.viz.confusion import confusion
from scratch.viz.critic import critic_animation, critic_grid, critic_surface
from scratch.viz.curves import compare_runs, loss_curves, smoothed
from scratch.viz.feature_maps import feature_map_rows, filter_grid
from scratch.viz.films import image_film, points_film, write_film
from scratch.viz.heat import heat_maps, receptive_fields
from scratch.viz.images import first_layer_weights, image_grid, worst_mistakes
from scratch.viz.pairs import adversarial_pairs, segmentation
from scratch.viz.photo import read_photo
from scratch.viz.planes import arrows, clouds
from scratch.viz.points import bars, class_scatter
from scratch.viz.sequences import lines, path, traces
from scratch.viz.sound import speech
from scratch.viz.style import figure, save
from scratch.viz.surfaces import histograms, surface_paths
from scratch.viz.tape import draw_tape, keep_gradients, tape_text
from scratch.viz.terminal import in_characters, in_lines, shades
from scratch.viz.tokens import token_grid

__all__ = [
    "adversarial_pairs",
    "arrows",
    "attention_maps",
    "attention_steps",
    "bars",
    "boundary_animation",
    "boundary_grid",
    "class_scatter",
    "clouds",
    "compare_runs",
    "confusion",
    "critic_animation",
    "critic_grid",
    "critic_surface",
    "decision_boundary",
    "draw_tape",
    "feature_map_rows",
    "figure",
    "filter_grid",
    "first_layer_weights",
    "heat_maps",
    "histograms",
    "image_film",
    "image_grid",
    "in_characters",
    "in_lines",
    "keep_gradients",
    "lines",
    "loss_curves",
    "path",
    "points_film",
    "read_photo",
    "receptive_fields",
    "save",
    "segmentation",
    "shades",
    "smoothed",
    "speech",
    "surface_paths",
    "tape_text",
    "token_grid",
    "traces",
    "worst_mistakes",
    "write_film",
]
