# %% [markdown]
# # Week 2: better steps, better beginnings
#
# In an hour: why plain gradient descent crawls through valleys, what momentum, RMSprop and Adam do about it, how the
# learning rate should change over a run, why the first weights decide whether a deep network learns at all, and the
# training loop that puts all of it together.
#
# You need week 1: the tape, layers, losses.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import math

import check
import numpy as np

from scratch import Parameter, Sequential, Tensor, manual_seed
from scratch.activations import ReLU
from scratch.data import Batches, load_digits
from scratch.initializers import he_normal, normal, xavier_normal
from scratch.layers import Linear
from scratch.losses import cross_entropy
from scratch.models.mlp import MLP
from scratch.optim import SGD, Adam, RMSprop
from scratch.schedules import constant, cosine, inverse_sqrt, one_cycle
from scratch.schedules import step as step_schedule
from scratch.tensor import record  # noqa: F401  what you fill in needs it
from scratch.training import evaluate
from scratch.viz import figure, histograms, smoothed, surface_paths
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. The valley
#
# Two parameters, and a loss that bends 25 times as strongly in one direction as in the other:
#
# $$f(x, y) = \tfrac12 (x^2 + 25\, y^2), \qquad \nabla f = (x,\ 25\, y)$$
#
# One step of gradient descent multiplies each coordinate by a number of its own:
#
# $$x \leftarrow (1 - \eta)\, x, \qquad y \leftarrow (1 - 25\, \eta)\, y$$
#
# **Predict 1.** From the start $(-8, 1.5)$, for each of the learning rates 0.01, 0.07 and 0.081: does it arrive within
# 40 steps, crawl, or fly out? Which of the two coordinates decides? What is the largest learning rate that does not
# fly out?


# %%
def valley(x, y):
    return 0.5 * (x * x + 25 * y * y)


def descend(surface, make, start, steps):
    """The path of an optimiser over a surface of two parameters; `make` gets a list of them."""
    p = Parameter(np.array(start))
    optimizer, path = make([p]), [p.data.copy()]
    for _ in range(steps):
        loss = surface(p[0], p[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append(p.data.copy())
    return np.array(path)


paths = {}
for lr in (0.01, 0.07, 0.081):
    paths[f"η = {lr}"] = descend(valley, lambda p, lr=lr: SGD(p, lr=lr), (-8.0, 1.5), 40)
surface_paths(valley, paths, ((-9, 3), (-3.2, 3.2)), minimum=(0, 0), title="plain gradient descent in a valley")

# %% [markdown]
# The steep direction sets the speed limit: $|1 - 25\eta| < 1$ needs $\eta < 2/25 = 0.08$. The flat direction then has
# to make do with it: at 0.07 each step shortens $x$ by 7 per cent only. The ratio of the two curvatures, the *condition
# number*, says how bad it is, and in real networks it is far larger than 25.
#
# ## 2. Three ideas against the valley
#
# With $g$ the gradient of a parameter $\theta$:
#
# - **momentum** remembers $b \leftarrow \mu b + g$ and steps $\theta \leftarrow \theta - \eta\, b$
# - **RMSprop** remembers $v \leftarrow \alpha v + (1-\alpha)\, g^2$ and steps
#   $\theta \leftarrow \theta - \eta\, g / (\sqrt v + \epsilon)$
# - **Adam** remembers $m \leftarrow \beta_1 m + (1-\beta_1)\, g$ and
#   $v \leftarrow \beta_2 v + (1-\beta_2)\, g^2$, puts hats on them, $\hat m = m / (1 - \beta_1^t)$ and
#   $\hat v = v / (1 - \beta_2^t)$, and steps $\theta \leftarrow \theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)$
#
# Momentum adds up what the gradients agree on: the way along the valley. What they disagree on, the way across,
# cancels. RMSprop divides by the gradient's own recent size, so that every parameter moves at about the same pace. Adam
# does both. Its hats correct for the start: $m$ and $v$ begin at 0, and after $t$ steps the weights of the mean sum to
# only $1 - \beta^t$ (the [page of this week](../docs/weeks/week2.md) derives it).
#
# **Fill in 1.** One step of Adam. `t` counts from 1.


# %%
def my_adam_step(theta, g, m, v, t, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8):
    """Arrays of one shape → the new (theta, m, v)."""
    return ...


# %%
def my_run(theta, gradients):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        result = my_adam_step(theta, g, m, v, t)
        if result is ...:
            return ...
        theta, m, v = result
    return theta


def library_run(theta, gradients):
    p = Parameter(theta)
    optimizer = Adam([p], lr=0.1)
    for g in gradients:
        p.grad = g
        optimizer.step()
    return p.data


rng = np.random.default_rng(0)
cases = [[np.array([1.0, -2.0]), rng.standard_normal((1, 2))], [rng.standard_normal(5), rng.standard_normal((20, 5))]]
check.function(my_run, library_run, cases, name="my_adam_step")

# %% [markdown]
# **Predict 2.** Two parameters start at 1. The first gets the gradient 0.001, the second the gradient 1,000. How far
# does each move in the first step, with $\eta = 0.1$: under plain descent, and under Adam?

# %%
for make in (SGD, Adam):
    p = Parameter(np.array([1.0, 1.0]))
    p.grad = np.array([0.001, 1000.0])
    make([p], lr=0.1).step()
    print(f"{make.__name__:4}  moved by {1 - p.data[0]:.6f} and {1 - p.data[1]:.6f}")

# %% [markdown]
# In the first step $\hat m = g$ and $\hat v = g^2$, so Adam moves by $\eta\, g / |g|$: by $\eta$, whatever the
# gradient's size. This is why its learning rate means the same for every layer and nearly every model (0.001 is a good
# first try), and why a loss multiplied by 10 trains the same.
#
# Now the race, in the straight valley and in a bent one (Rosenbrock's, made a little milder), each optimiser with a
# learning rate that suits it.
#
# **Predict 3.** In which order do they arrive in the straight valley? Sketch the path of momentum before you see it.


# %%
def bent(x, y):
    return (1 - x) ** 2 + 20 * (y - x * x) ** 2


runners = {
    "plain": lambda p: SGD(p, lr=0.07),
    "momentum 0.9": lambda p: SGD(p, lr=0.03, momentum=0.9),
    "RMSprop": lambda p: RMSprop(p, lr=0.2, alpha=0.9),
    "Adam": lambda p: Adam(p, lr=0.5),
}
paths = {name: descend(valley, make, (-8.0, 1.5), 60) for name, make in runners.items()}
surface_paths(valley, paths, ((-9, 3), (-3.2, 3.2)), minimum=(0, 0), title="the straight valley")

# %%
runners = {
    "plain": lambda p: SGD(p, lr=0.004),
    "momentum 0.9": lambda p: SGD(p, lr=0.002, momentum=0.9),
    "RMSprop": lambda p: RMSprop(p, lr=0.02, alpha=0.9),
    "Adam": lambda p: Adam(p, lr=0.1),
}
paths = {name: descend(bent, make, (-1.2, 1.0), 200) for name, make in runners.items()}
surface_paths(bent, paths, ((-1.8, 1.8), (-1, 2)), minimum=(1, 1), title="the bent valley, 200 steps")

# %% [markdown]
# Nobody wins everywhere. In the straight valley RMSprop, which walks at its own pace, ends lowest, while momentum and
# Adam still swing around the goal. In the bent valley momentum and Adam are nearly there, and plain descent has just
# turned the corner. A surface of two parameters teaches what the rules *do*. Which one to take is a question for real
# data.
#
# ## 3. Real data and the training loop
#
# 3,500 handwritten digits to learn from, 500 to choose by. (The 1,000 test digits stay closed: whoever looks at them
# while choosing has no test left.) The network gives ten numbers per image, the *logits* $z$. Softmax makes
# probabilities of them, and the loss is the surprise at the true class $y$, in nats:
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}, \qquad L = -\frac1B \sum_i \ln p_{i, y_i}, \qquad
# \frac{\partial L}{\partial z_{ik}} = \frac{1}{B} \left(p_{ik} - [k = y_i]\right)$$
#
# The gradient is beautifully plain: what was predicted, minus what was true.
#
# **Fill in 2.** Softmax and cross-entropy as one operation. Subtract the largest logit of each row before `exp`:
# softmax stays the same, and nothing overflows.


# %%
def my_cross_entropy(logits, targets):
    """logits: Tensor (B, classes); targets: array (B,) of class numbers → the mean loss, a Tensor with one number."""
    # z = logits.data - ...
    # p = ...                               (B, classes)
    # rows = np.arange(len(targets))        p[rows, targets] are the probabilities of the true classes
    # def backward(dy): ...                 dy is one number
    # return record(loss, (logits,), backward)
    return ...


# %%
cases = [
    [np.array([[1.0, 2.0, 0.5]]), np.array([0])],
    [3 * rng.standard_normal((6, 4)), np.array([0, 3, 1, 1, 2, 3])],
    [np.array([[1000.0, 0.0], [0.0, 1000.0]]), np.array([1, 1])],
]
check.operation(my_cross_entropy, cross_entropy, cases)

# %% [markdown]
# **Predict 4.** An untrained network gives ten logits near 0. What is its loss? And what is the loss of a network that
# gives the *wrong* class a probability of 0.999 and shares the rest evenly?

# %%
data = load_digits()
manual_seed(0)
model = MLP(784, (64,), 10)
print("untrained:", round(evaluate(model, *data.validation.arrays)["loss"], 3), "  ln 10 =", round(math.log(10), 3))
print("certain and wrong:", round(-math.log(0.001 / 9), 3))


# %% [markdown]
# Remember the first number: a run whose loss at step 0 is far from $\ln 10$ has a fault, before it has learned
# anything.
#
# This is the whole training loop. [models/mlp/train.py](../scratch/models/mlp/train.py) has the same lines, with
# clipping and logging between them.


# %% tags=["machine-dependent"]
def train(model, optimizer, steps=300, schedule=None, seed=0, batch_size=64):
    """The loss of each step; stops early if it is no number any more."""
    batches = Batches(*data.train.arrays, batch_size=batch_size, seed=seed)
    losses = []
    with np.errstate(all="ignore"):  # learning rates that are too high are tried on purpose
        for step in range(steps):
            x, y = next(batches)
            loss = cross_entropy(model(Tensor(x)), y)  # forward
            optimizer.zero_grad()  # forget
            loss.backward()  # backward
            if schedule is not None:
                optimizer.lr = schedule(step)
            optimizer.step()  # step
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
    return losses


losses = train(model, Adam(model.parameters(), lr=2e-3))
accuracy = evaluate(model, *data.validation.arrays)["accuracy"]
print(f"300 steps: training loss {np.mean(losses[-20:]):.3f}, validation accuracy {accuracy:.1%}")
assert np.mean(losses[-20:]) < 0.4 and accuracy > 0.85

# %% [markdown]
# ## 4. The race that counts
#
# Four optimisers, ten learning rates each, 150 steps on the digits from the same first weights.
#
# **Predict 5.** Sketch the loss after 150 steps against the learning rate (logarithmic) for plain descent and for Adam.
# Where is the best learning rate of each: at 0.001, 0.1, 1? Whose range of good learning rates is wider?

# %% tags=["machine-dependent"]
rivals = {
    "plain": lambda p, lr: SGD(p, lr=lr),
    "momentum 0.9": lambda p, lr: SGD(p, lr=lr, momentum=0.9),
    "RMSprop": lambda p, lr: RMSprop(p, lr=lr),
    "Adam": lambda p, lr: Adam(p, lr=lr),
}
rates = np.geomspace(1e-4, 3, 10)
page, axes = figure(panel=(6.6, 3.8))
for k, (name, make) in enumerate(rivals.items()):
    ends = []
    for lr in rates:
        manual_seed(0)
        model = MLP(784, (64,), 10)
        losses = train(model, make(model.parameters(), float(lr)), steps=150)
        ends.append(np.mean(losses[-20:]) if math.isfinite(losses[-1]) else np.inf)
    best = int(np.argmin(ends))
    print(f"{name:13} best learning rate {rates[best]:.4f}, loss {ends[best]:.3f}")
    assert ends[best] < 0.5 and 0 < best < 9  # the best rate lies inside
    axes[0, 0].plot(rates, np.minimum(ends, 10), color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
axes[0, 0].axhline(math.log(10), color="black", linewidth=0.8, linestyle=":", label="knowing nothing: ln 10")
axes[0, 0].set_xscale("log")
log_scale(axes[0, 0])
label(axes[0, 0], "after 150 steps (above 10 drawn at 10)", "learning rate", "training loss, mean of 20 steps")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
page

# %% [markdown]
# Every curve has the same shape: too small and nothing happens, too large and it breaks, and in between a valley. The
# best learning rates lie thirtyfold apart. Compared at 0.01, plain descent has learned nearly nothing; compared at 0.3,
# Adam has. So "Adam is better than SGD" means something only if each got the learning rate that suits it: here Adam
# does win, but by a factor of two, not of fifteen. And the best rate often stands close to the cliff: if in doubt, take
# a third.
#
# ## 5. Schedules: large steps first, small steps last
#
# The gradient of a batch is a noisy opinion. Large steps are fast but tremble; small steps are calm but slow. A
# schedule has both: `schedule(step)` is the learning rate of that step.

# %%
schedules = {
    "constant": constant(1.0),
    "step": step_schedule(1.0, every=100, gamma=0.3),
    "cosine with warmup": cosine(1.0, 300, warmup=30),
    "one_cycle": one_cycle(1.0, 300),
    "inverse_sqrt": inverse_sqrt(1.0, warmup=30),
}
page, axes = figure(panel=(6.6, 3.2))
for k, (name, schedule) in enumerate(schedules.items()):
    axes[0, 0].plot([schedule(n) for n in range(300)], color=COLOURS[k], linestyle=DASHES[k], label=name)
label(axes[0, 0], "five schedules of 300 steps", "step", "share of the full learning rate")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
page

# %% [markdown]
# **Predict 6.** Two runs of 600 steps with Adam at 0.01, one at a constant rate, one along a cosine to 0. Sketch both
# training losses. Do they part at the beginning, half way, or near the end? Which one ends lower?

# %% tags=["machine-dependent"]
page, axes = figure(panel=(6.2, 3.4))
for k, (name, schedule) in enumerate({"constant": constant(0.01), "cosine": cosine(0.01, 600)}.items()):
    runs, scores = [], []
    for seed in range(3):
        manual_seed(seed)
        model = MLP(784, (64,), 10)
        runs.append(train(model, Adam(model.parameters()), 600, schedule, seed=seed, batch_size=32))
        scores.append(evaluate(model, *data.validation.arrays)["accuracy"])
    axes[0, 0].plot(smoothed(np.mean(runs, axis=0), 15), color=COLOURS[k], linestyle=DASHES[k], label=name)
    print(f"{name:9} loss of the last 50 steps {np.mean(np.array(runs)[:, -50:]):.4f}, "
          f"validation accuracy {np.mean(scores):.1%} (three seeds)")
    assert np.mean(scores) > 0.87
log_scale(axes[0, 0])
label(axes[0, 0], "training loss, mean of three seeds, smoothed", "step", "loss")
legend(axes[0, 0])
page

# %% [markdown]
# They are the same while the rates are nearly the same. Then the constant run keeps trembling, at a height that its
# step size dictates, and the cosine run sinks as its steps get small. A warmup does the opposite at the beginning:
# Adam's $\hat v$ rests on a handful of gradients there, and small steps bridge the time until it can be trusted.
#
# ## 6. Beginnings
#
# A linear layer with independent weights of variance $\sigma^2$ adds up $n$ products, so it multiplies the signal's
# variance by $n \sigma^2$; ReLU halves the signal's power. Through $L$ layers,
#
# $$\text{power} \times \left(\tfrac12 n \sigma^2\right)^L$$
#
# Only $\sigma = \sqrt{2/n}$ keeps it (He). Everything else fades or explodes like a power.
#
# **Predict 7.** Ten layers of 256 ReLU units; the input has root mean square 1. How large is the signal after the tenth
# layer for $\sigma = 0.01$? (What is $\sqrt{256/2} \cdot 0.01$, and that to the tenth?) For $\sigma = 0.3$?

# %%
beginnings = {
    "σ = 0.01": lambda shape: normal(shape, std=0.01),
    "σ = 0.3": lambda shape: normal(shape, std=0.3),
    "Xavier, √(1/n)": xavier_normal,
    "He, √(2/n)": he_normal,
}


def deep(init, width=256, depth=10, inputs=256, outputs=None):
    """Linear and ReLU, `depth` times, with weights from `init` and biases 0."""
    sizes = [inputs, *[width] * depth]
    parts = [part for n, m in zip(sizes, sizes[1:], strict=False) for part in (Linear(n, m), ReLU())]
    model = Sequential(*parts, *([Linear(width, outputs)] if outputs else []))
    for layer in model:
        if isinstance(layer, Linear):
            layer.weight.data[...] = init(layer.weight.shape)
            layer.bias.data[...] = 0
    return model


page, axes = figure(1, 2, panel=(4.4, 3.4))
kept = {}
for k, (name, init) in enumerate(beginnings.items()):
    manual_seed(0)
    model = deep(init)
    h = [Tensor(rng.standard_normal((200, 256)), requires_grad=True)]
    for layer in model:
        h.append(layer(h[-1]))
    signals = [h[0], *h[2::2]]  # the input, and what leaves each ReLU
    for each in signals:
        each.retain_grad()
    h[-1].backward(rng.standard_normal(h[-1].shape))
    kept[name] = [each.data for each in h[1::2]]  # what enters each ReLU
    for panel, values in zip(axes[0], ([s.data for s in signals], [s.grad for s in signals]), strict=True):
        sizes = [float(np.sqrt(np.mean(v * v))) for v in values]
        panel.plot(sizes, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], markersize=4, label=name)
    print(f"{name:15} signal after layer 10: {np.sqrt(np.mean(h[-1].data ** 2)):.3g}")
for panel, title in zip(axes[0], ("signal, forward", "gradient, backward (from right to left)"), strict=True):
    panel.set_yscale("log")
    label(panel, title, "layer", "root mean square")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
page

# %% [markdown]
# Vanished or exploded, both ways, and what has vanished cannot be learned from. Look inside the layers of the two that
# stay in range. Xavier was made for tanh and lacks the factor 2: ReLU halves the power at every layer.

# %%
chosen = {}
for name in ("Xavier, √(1/n)", "He, √(2/n)"):
    for n in (1, 5, 10):
        chosen[f"{name.split(',')[0]}, layer {n}"] = kept[name][n - 1]
histograms(chosen, limits=(-4, 4), columns=3, title="what enters the ReLUs", value_name="before the ReLU")

# %% [markdown]
# Does it matter for learning? The same ten layers on the digits, 200 steps of Adam:

# %% tags=["machine-dependent"]
for name, init in beginnings.items():
    manual_seed(0)
    model = deep(init, width=128, inputs=784, outputs=10)
    losses = train(model, Adam(model.parameters(), lr=1e-3), steps=200)
    print(f"{name:15} loss at step 0: {losses[0]:10.3f}   after 200 steps: {np.mean(losses[-20:]):8.3f}")
    assert (np.mean(losses[-20:]) < 0.5) == (name[0] != "σ")

# %% [markdown]
# Why not simply start at 0, or with all weights equal?
#
# **Predict 8.** A hidden layer of 64 units whose weights all start at the *same* small number, and an output layer that
# starts equal as well. After 100 steps of training, how many *different* hidden units are there?

# %% tags=["machine-dependent"]
manual_seed(0)
for name in ("drawn at random", "all equal"):
    model = MLP(784, (64,), 10)
    if name == "all equal":
        for p in model.parameters():
            p.data[...] = 0.01
    losses = train(model, Adam(model.parameters(), lr=2e-3), steps=100)
    weight = model.layers[0].weight.data  # (64, 784), a row for each unit
    others = np.count_nonzero(np.abs(weight - weight[0]).max(axis=1) > 0.05)  # rounding errors are smaller
    print(f"{name:16} loss {np.mean(losses[-20:]):.3f}, different hidden units: {1 + others}")
    assert others == (0 if name == "all equal" else 63)

# %% [markdown]
# Units that begin alike receive the same gradient and stay alike for ever: 64 units that are worth one. Chance is what
# gives each of them a job of its own.
#
# ## Where to go from here
#
# - Rebuild, from the [page of this week](../docs/weeks/week2.md): SGD with momentum and Adam as classes of your own,
#   and train with them.
# - Read [scratch/optim/adam.py](../scratch/optim/adam.py): how the library saves the hats' passes over memory.
# - `scratch train mlp` is all of this together: AdamW, warmup and cosine, clipping, dropout, shifted digits; about 97
#   per cent of the test digits.
