"""Losses over their arguments: reductions, weights, ignored labels, smoothing, probabilities, ranks of input."""

import warnings
from itertools import product

import numpy as np

from scratch import losses
from tests.parity import Case

REDUCTIONS = ("mean", "sum", "none")


def to_torch(value):
    import torch

    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def torch_function(name, **arguments):
    from torch.nn import functional

    def function(*inputs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kl_div warns that "mean" is not the divergence
            return getattr(functional, name)(*inputs, **{key: to_torch(value) for key, value in arguments.items()})

    return function


def torch_module(name, **arguments):
    from torch import nn

    return getattr(nn, name)(**{key: to_torch(value) for key, value in arguments.items()})


def shown(arguments):
    return ", ".join(f"{k}={v.shape if isinstance(v, np.ndarray) else v}" for k, v in arguments.items())


def function(name, label, *inputs, **arguments):
    ours = getattr(losses, name)
    return Case(
        f"{name}({shown(arguments)}) {label}",
        inputs,
        lambda *inputs: ours(*inputs, **arguments),
        lambda: torch_function(name, **arguments),
    )


def module(name, *inputs, **arguments):
    ours = getattr(losses, name)
    return Case(
        f"{name}({shown(arguments)})",
        inputs,
        lambda: ours(**arguments),
        lambda: torch_module(name, **arguments),
        module=True,
    )


# -- distances: random numbers, an exact hit, both edges of Huber's parabola --------------------------------------


def distances(x, t):
    made = [function("mse_loss", "scalar", np.array(0.4), np.array(-1.1))]
    for reduction in REDUCTIONS:
        made += [function(name, "", x, t, reduction=reduction) for name in ("mse_loss", "l1_loss")]
        made += [function("huber_loss", "", x, t, reduction=reduction, delta=delta) for delta in (0.3, 1.0, 2.5)]
        made += [function("smooth_l1_loss", "", x, t, reduction=reduction, beta=beta) for beta in (0.0, 0.3, 1.0, 2.5)]
    return made


# -- classes -------------------------------------------------------------------------------------------------------

SHAPES = {"rows": (6, 4), "vector": (4,), "sequence": (3, 4, 5), "image": (2, 4, 3, 2)}
PARTLY = np.array([0, -7, 3, -7, 1, 1])


def labels_for(rng, shape):
    return np.asarray(rng.integers(0, 4, shape[:1] + shape[2:] if len(shape) > 1 else ()))


def classes(rng, class_weight):
    made = []
    for (label, shape), reduction, weight in product(SHAPES.items(), REDUCTIONS, (None, class_weight)):
        if label in ("vector", "image") and weight is None:
            continue
        scores, labels = 2 * rng.standard_normal(shape), labels_for(rng, shape)
        options = {"reduction": reduction, "weight": weight}
        one = int(labels.flat[0])  # ignoring a label that occurs
        for s in (0.0, 0.3):
            smooth = {**options, "label_smoothing": s}
            made += [
                function("cross_entropy", label, scores, labels, **smooth),
                function("cross_entropy", label, scores, labels, **smooth, ignore_index=one),
                function("cross_entropy", f"{label} of probabilities", scores, rng.uniform(0, 1, shape), **smooth),
            ]
        made += [
            function("nll_loss", label, scores, labels, **options),
            function("nll_loss", label, scores, labels, **options, ignore_index=one),
        ]
    return made


def ignored_classes(rows, class_weight):
    made, nothing = [], np.full(6, -7)
    for scores, (reduction, s) in zip(rows, product(REDUCTIONS, (0.0, 0.3)), strict=True):
        options = {"reduction": reduction, "label_smoothing": s, "ignore_index": -7}
        made += [
            function("cross_entropy", "partly ignored", scores, PARTLY, **options),
            function("cross_entropy", "partly ignored", scores, PARTLY, **options, weight=class_weight),
            function("cross_entropy", "all ignored", scores, nothing, **options),
        ]
    return made


def special_classes(rng):
    nothing, labels = np.full(6, -7), np.array([1, 3, 0])
    far = np.array([[1e4, -1e4, 0.0, 5.0], [-1e4, -1e4, -1e4, 1e4], [1e4, 1e4, 0.0, 1.0]])
    return [
        function("nll_loss", "all ignored", rng.standard_normal((6, 4)), nothing, ignore_index=-7),
        function("cross_entropy", "far", far, labels),
        function("cross_entropy", "all smoothed", rng.standard_normal((3, 4)), labels, label_smoothing=1.0),
        function("cross_entropy", "small integers", rng.standard_normal((3, 4)), labels.astype(np.uint8)),
    ]


# -- probabilities -------------------------------------------------------------------------------------------------


def binary(logits, fuzzy, inner, row, column):
    made, weights = [], {"none": None, "row": row, "column": column}
    for reduction in REDUCTIONS:
        for (label, weight), (other, pos) in product(weights.items(), weights.items()):
            options = {"weight": weight, "pos_weight": pos, "reduction": reduction}
            made += [function("binary_cross_entropy_with_logits", f"{label}, {other}", logits, fuzzy, **options)]
        for label, weight in weights.items():
            options = {"weight": weight, "reduction": reduction}
            made += [function("binary_cross_entropy", label, inner, fuzzy, **options)]
    return made


def at_the_edges(inner, fuzzy, reduction):
    """x = 0 and 1 where the target, a constant here, is the same: PyTorch's gradient is infinite with respect to a
    target there, and where x and target differ it is 1e12 in float32's rounding (tested in test_losses.py)."""
    edges = inner.copy()
    edges[0] = [0.0, 1.0, 0.0, 1.0]
    target = np.where((edges == 0) | (edges == 1), edges, fuzzy)

    def theirs():
        bce = torch_function("binary_cross_entropy", reduction=reduction)
        return lambda x: bce(x, to_torch(target))

    return Case(
        f"binary_cross_entropy edges {reduction}",
        (edges,),
        lambda x: losses.binary_cross_entropy(x, target, reduction=reduction),
        theirs,
    )


def divergences(logits, positive, fuzzy, t):
    made = []
    for reduction in (*REDUCTIONS, "batchmean"):
        made += [
            function("kl_div", "", logits, positive, reduction=reduction),
            function("kl_div", "zeros in the target", logits, fuzzy, reduction=reduction),
            function("kl_div", "", logits, t, reduction=reduction, log_target=True),
        ]
    return made


# -- all of them; the weights of modules are drawn by the harness and loaded into PyTorch's by name -----------------


def cases():
    rng = np.random.default_rng(2)
    x, t = 2 * rng.standard_normal((3, 4)), 2 * rng.standard_normal((3, 4))
    t[0, 0], t[1, 1], t[2, 2] = x[0, 0], x[1, 1] + 1, x[2, 2] - 1
    class_weight = rng.uniform(0.5, 2, 4)
    made = [*distances(x, t), *classes(rng, class_weight)]
    rows = rng.standard_normal((6, 6, 4))
    made += [*ignored_classes(rows, class_weight), *special_classes(rng)]

    logits = 3 * rng.standard_normal((3, 4))
    logits[0] = [0.0, 1e4, -1e4, 40.0]
    fuzzy = rng.uniform(0, 1, (3, 4))
    fuzzy[0] = [0.0, 1.0, 1.0, 0.0]
    fuzzy[1, :2] = [0.0, 1.0]
    inner, positive = rng.uniform(0.05, 0.95, (3, 4)), rng.uniform(0.05, 1, (3, 4))
    made += binary(logits, fuzzy, inner, rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, (3, 1)))
    made += [at_the_edges(inner, fuzzy, reduction) for reduction in REDUCTIONS]
    made += divergences(logits, positive, fuzzy, t)

    scores = rows[-1]
    return made + [
        module("MSELoss", x, t),
        module("L1Loss", x, t, reduction="sum"),
        module("HuberLoss", x, t, delta=0.7),
        module("SmoothL1Loss", x, t, reduction="none", beta=0.7),
        module("CrossEntropyLoss", scores, PARTLY, ignore_index=-7, label_smoothing=0.1),
        module("CrossEntropyLoss", scores, PARTLY, weight=np.ones(4), ignore_index=-7, reduction="sum"),
        module("NLLLoss", scores, PARTLY, weight=np.ones(4), ignore_index=-7),
        module("BCEWithLogitsLoss", logits, fuzzy, weight=np.ones(4), pos_weight=np.ones((3, 1))),
        module("BCELoss", inner, fuzzy, weight=np.ones(4), reduction="none"),
        module("KLDivLoss", logits, positive, reduction="batchmean"),
        module("KLDivLoss", logits, t, reduction="sum", log_target=True),
    ]
