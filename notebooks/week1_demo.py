# %% [markdown]
# # Week 1: the tape, and a first network
#
# In an hour: how a program can know the derivative of everything it computes, what a layer, an activation and a loss
# look like in that program, how to prove a derivative right, and how a network learns a curve.
#
# You need Python, a little NumPy, and the chain rule.
#
# How to work with it: **clear all outputs first** (Jupyter: *Kernel*, *Restart and clear outputs*), then go from top to
# bottom.
#
# - **Predict** marks places where you stop and write down a number or a sketch *before* you run the next cell. A
#   prediction that turns out wrong is worth ten that you read.
# - **Fill in** marks a function that ends in `return ...`. The cell after it compares your values and gradients with
#   the library's. As long as a blank is open, the notebook still runs to its end.

# %%
import inspect

import check
import numpy as np

from scratch import Sequential, Tensor, gradcheck, manual_seed
from scratch.activations import ReLU, Sigmoid, relu, sigmoid
from scratch.data import sine
from scratch.gradcheck import GradcheckError
from scratch.layers import Linear
from scratch.layers.linear import linear
from scratch.losses import mse_loss
from scratch.tensor import record
from scratch.viz import draw_tape, figure, keep_gradients
from scratch.viz.style import COLOURS, DASHES, GREY, label, legend, log_scale

# %% [markdown]
# ## 1. What a derivative says
#
# Take $y = ab + a\,a$ at $a = 2$, $b = -3$, so $y = -2$. The derivative $\partial y / \partial a$ says how much $y$
# moves, per unit, when only $a$ is nudged.
#
# **Predict 1.** What are $\partial y / \partial a$ and $\partial y / \partial b$ here? Note that $a$ is used three
# times.

# %%
a, b = Tensor(2.0, requires_grad=True), Tensor(-3.0, requires_grad=True)
y = keep_gradients(a * b + a * a)
y.backward(retain_graph=True)  # retain_graph: only so that the tape can be drawn afterwards
print("dy/da =", a.grad, "  dy/db =", b.grad)


def f(a, b):
    return a * b + a * a


eps = 1e-6
print(f"nudging a: {(f(2 + eps, -3) - f(2 - eps, -3)) / (2 * eps):.6f}")
print(f"nudging b: {(f(2, -3 + eps) - f(2, -3 - eps)) / (2 * eps):.6f}")

# %% [markdown]
# Every use of $a$ contributes, and the contributions **add**: $b$ from $ab$, $a$ and once more $a$ from $a\,a$, so
# $-3 + 2 + 2 = 1$. (Whoever answers 4 let the second operation overwrite the first. That is the most frequent bug in
# home-made autograd programs.)
#
# How does `y` know? Each operation left a note of what went in. These notes are *the tape*. Read it from left to right
# for the values (second lines), from right to left for the gradients (third lines): the gradient of `y` with respect to
# itself is 1, `add` hands it on unchanged, `mul` multiplies it by the *other* factor.

# %%
draw_tape(y, names={"a": a, "b": b, "y": y})

# %% [markdown]
# ## 2. An operation is one function
#
# Here is multiplication as the library has it. It computes with NumPy, defines `backward` right below, and records the
# result together with its parents. `dy` is $\partial L/\partial y$: what arrives from the right in the picture.
# `backward` *returns* what goes to the parents, in their order, and never adds anything up itself. Adding is the
# engine's job ([scratch/tape.py](../scratch/tape.py)), so no operation can forget it.

# %%
print(inspect.getsource(Tensor.__mul__))
print(inspect.getsource(relu))

# %% [markdown]
# ReLU, $\max(x, 0)$, works on each element of an array. Its slope is 1 where $x > 0$ and 0 elsewhere, so `backward`
# lets `dy` pass or stops it.
#
# Now the other activation of this week, the sigmoid:
#
# $$y = \sigma(x) = \frac{1}{1 + e^{-x}}, \qquad
# \frac{dy}{dx} = \frac{e^{-x}}{(1 + e^{-x})^2} = \underbrace{\frac{1}{1 + e^{-x}}}_{y}\;
# \underbrace{\frac{e^{-x}}{1 + e^{-x}}}_{1 - y} = y\,(1 - y)$$
#
# The derivative needs only the *result*. So `backward` keeps `y` and never looks at `x` again.
#
# **Fill in 1.** Write the sigmoid as one operation, with `relu` above as the pattern. Three things are missing: the
# value, the gradient, the `record`.


# %%
def my_sigmoid(x):
    """y = 1 / (1 + exp(-x)), dy/dx = y (1 - y); x is a Tensor, x.data its array."""
    # y = ...
    # def backward(dy):
    #     return (...,)                     a tuple: one gradient for each parent
    # return record(y, (x,), backward)
    return ...


# %%
rng = np.random.default_rng(0)
check.operation(my_sigmoid, sigmoid, [[np.array([0.0, 1.0, -2.0])], [rng.standard_normal((3, 4))]])

# %% [markdown]
# Which activation lets gradients through? Chain several of them: the chain rule multiplies their slopes.
#
# **Predict 2.** Start at $x = 1$ and apply the sigmoid five times in a row. Roughly how large is the derivative of the
# last value with respect to $x$: 1, 0.2, 0.001? And with five ReLUs? (Where is $y(1-y)$ largest, and how large is it
# there?)

# %%
page, axes = figure(1, 2, panel=(4.2, 3.0))
x = Tensor(np.linspace(-5, 5, 401), requires_grad=True)
for k, activation in enumerate([relu, sigmoid]):
    x.grad = None
    y = activation(x)
    y.backward(np.ones_like(x.data))  # each y depends on its own x only, so this gives the slope everywhere at once
    style = {"color": COLOURS[k], "linestyle": DASHES[k], "label": activation.__name__}
    axes[0, 0].plot(x.data, y.data, **style)
    axes[0, 1].plot(x.data, x.grad, **style)
label(axes[0, 0], "the function", "x", "y")
axes[0, 0].set_ylim(-0.1, 2)
label(axes[0, 1], "its slope: what backward multiplies by", "x", "dy/dx")
legend(axes[0, 0])

for activation in (sigmoid, relu):
    start = Tensor(1.0, requires_grad=True)
    y = start
    for _ in range(5):
        y = activation(y)
    y.backward()
    print(f"five times {activation.__name__:8} derivative {start.grad:.6f}")
page

# %% [markdown]
# The sigmoid's slope is at most 1/4 (at $x = 0$), so five of them leave at most $4^{-5} \approx 0.001$. Ten layers
# leave a millionth: the first layers of a deep sigmoid network hardly learn. ReLU passes the gradient whole or not at
# all. That is why the sigmoid has left the hidden layers and lives on where a number between 0 and 1 is wanted.
#
# ## 3. The layer: a weighted sum
#
# A linear layer takes N examples as the rows of $x$, shape (N, in), and gives each of its outputs as a weighted sum of
# all inputs:
#
# $$y_{io} = \sum_j x_{ij} W_{oj} + b_o \qquad\text{or}\qquad y = x W^\top + b, \qquad
# W\ (\text{out}, \text{in}),\quad b\ (\text{out},)$$
#
# For the gradients ask of each number: *where is it used, and with which factor?*
#
# - $W_{oj}$ is used once for every example $i$, in $y_{io}$, with the factor $x_{ij}$:
#   $\ \partial L/\partial W_{oj} = \sum_i dy_{io}\, x_{ij}$
# - $b_o$ is used once for every example, with the factor 1: $\ \partial L/\partial b_o = \sum_i dy_{io}$
# - $x_{ij}$ is used once for every output, with the factor $W_{oj}$:
#   $\ \partial L/\partial x_{ij} = \sum_o dy_{io}\, W_{oj}$
#
# **Fill in 2.** Translate the three sums into matrix products. The shapes nearly force the answer: of all products of
# `dy` (N, out) and `x` (N, in), only one has the shape of `W`. The library's version is in
# [layers/linear.py](../scratch/layers/linear.py), but write yours first.


# %%
def my_linear(x, weight, bias):
    """y = x Wᵀ + b for x (N, in), weight (out, in), bias (out,), all Tensors."""
    # y = ...
    # def backward(dy):                     dy (N, out)
    #     return ..., ..., ...              of the shapes of x, weight and bias
    # return record(y, (x, weight, bias), backward)
    return ...


# %%
cases = [
    [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]), np.array([0.1, 0.2, 0.3])],
    [rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), rng.standard_normal(4)],
]
check.operation(my_linear, linear, cases)

# %% [markdown]
# ## 4. The loss: one number that says how wrong
#
# The mean squared error over all $n$ numbers of a prediction $x$ and a target $t$, and its derivative:
#
# $$L = \frac1n \sum_i (x_i - t_i)^2, \qquad \frac{\partial L}{\partial x_i} = \frac{2}{n} (x_i - t_i)$$
#
# Predictions far off pull in proportion to their error; a prediction that is right does not pull at all.
#
# **Predict 3.** A layer sees ten examples. Then the same ten examples are written down twice, so that there are twenty.
# What happens to $\partial L/\partial W$: does it double, halve, or stay? And what if the loss *summed* instead of
# averaging?

# %%
layer, x, t = Linear(3, 2), rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
layer.to(np.float64)
for reduction in ("mean", "sum"):
    for copies in (1, 2):
        layer.zero_grad()
        mse_loss(layer(Tensor(np.tile(x, (copies, 1)))), np.tile(t, (copies, 1)), reduction).backward()
        print(f"{reduction:4}  {10 * copies} examples:  dL/dW[0] = {layer.weight.grad[0].round(4)}")

# %% [markdown]
# With the mean, the gradient does not depend on how many examples there are, and neither does the learning rate that
# suits it. With the sum it grows with the batch.
#
# ## 5. Proof: is the derivative right?
#
# A wrong derivative rarely crashes. The network just learns badly, and one searches for days. So every operation in
# this library is checked against a nudge, element by element:
#
# $$\frac{\partial L}{\partial x_i} \approx \frac{L(x + \varepsilon e_i) - L(x - \varepsilon e_i)}{2 \varepsilon}$$
#
# How small should $\varepsilon$ be? The error of this formula shrinks like $\varepsilon^2$.
#
# **Predict 4.** Sketch the error of the nudge against $\varepsilon$, from $10^{-1}$ down to $10^{-12}$, both axes
# logarithmic. Does it fall all the way? Does it matter whether numbers have 32 or 64 bits?

# %%
eps = np.logspace(-12, -1, 45)
page, axes = figure(panel=(5.6, 3.2))
for k, dtype in enumerate([np.float32, np.float64]):
    at, error = dtype(0.7), []
    for step in eps.astype(dtype):
        nudged = (sigmoid(Tensor(at + step)).data - sigmoid(Tensor(at - step)).data) / (2 * step)
        exact = 1 / (1 + np.exp(-0.7))
        error.append(abs(float(nudged) - exact * (1 - exact)))
    axes[0, 0].plot(eps, np.maximum(error, 1e-12), color=COLOURS[k], linestyle=DASHES[k], label=dtype.__name__)
axes[0, 0].set_xscale("log")
axes[0, 0].set_yscale("log")
label(axes[0, 0], "error of the finite difference, sigmoid at 0.7", "ε", "error")
legend(axes[0, 0])
page

# %% [markdown]
# It falls like $\varepsilon^2$ from the right, then *rises* again: the two values of $L$ become so similar that their
# difference is made of rounding errors, which are then divided by a tiny number. With 64 bits there is a comfortable
# valley near $10^{-5}$; with 32 bits its floor lies some hundred thousand times higher, and away from it the check sees
# nothing but noise. So `gradcheck` insists on float64.
#
# Let it catch a fault. Here is a sigmoid whose author forgot a factor:


# %%
def wrong_sigmoid(x):
    y = 1 / (1 + np.exp(-x.data))

    def backward(dy):
        return (dy * y,)  # the factor (1 - y) is missing

    return record(y, (x,), backward)


print("sigmoid:", gradcheck(sigmoid, [np.array([0.3, -1.2])]))
try:
    gradcheck(wrong_sigmoid, [np.array([0.3, -1.2])])
except GradcheckError as error:
    print("wrong_sigmoid:", error)

# %% [markdown]
# ## 6. The first training
#
# Two hundred noisy points of $\sin 2\pi x$. A network of two layers shall learn the curve:
#
# $$h = \mathrm{relu}(x W_1^\top + b_1)\quad (N, 40), \qquad \hat y = h W_2^\top + b_2\quad (N, 1)$$
#
# Training repeats four lines: **forward** (compute the loss), **forget** the old gradients, **backward**, and a small
# **step** of every parameter against its gradient, $\theta \leftarrow \theta - \eta\, \partial L/\partial\theta$.
#
# **Predict 5.** Three networks: with ReLU, with the sigmoid, and with *nothing* between the two layers. The targets
# have variance 0.52, and the noise alone has 0.01. What will the third network draw, and what loss can it reach at
# best? Which of the first two learns faster?

# %% tags=["machine-dependent"]
data = sine(200, noise=0.1, seed=0)
x, t = Tensor(data.inputs), Tensor(data.targets)
where = np.linspace(-1, 1, 201, dtype=np.float32)[:, None]


def train(model, lr=0.1, steps=4000, keep=(0, 100, 1000, 4000)):
    """Plain gradient descent; returns the losses, and what the model draws after the steps in `keep`."""
    losses, drawn = [], {}
    for step in range(steps + 1):
        if step in keep:
            drawn[step] = model(Tensor(where)).data[:, 0]
        loss = mse_loss(model(x), t)  # forward
        model.zero_grad()  # forget
        loss.backward()  # backward
        for p in model.parameters():  # step
            p.data -= lr * p.grad
        losses.append(loss.item())
    return losses, drawn


results = {}
for name, between in {"ReLU": [ReLU()], "sigmoid": [Sigmoid()], "nothing": []}.items():
    manual_seed(0)  # the same first weights for all
    results[name] = train(Sequential(Linear(1, 40), *between, Linear(40, 1)))
    losses = results[name][0]
    print(f"{name:8} loss at step 0: {losses[0]:.3f}, at 100: {losses[100]:.3f}, at 1,000: {losses[1000]:.3f}, "
          f"at 4,000: {losses[4000]:.3f}")
assert results["ReLU"][0][-1] < 0.1 and min(results["sigmoid"][0][-1], results["nothing"][0][-1]) > 0.3

# %%
page, axes = figure(1, 3, panel=(3.3, 3.0), sharey=True)
for panel, (name, (losses, drawn)) in zip(axes[0], results.items(), strict=True):
    panel.plot(data.inputs, data.targets, ".", color=GREY, markersize=3, alpha=0.6, label="data")
    for k, (step, curve) in enumerate(drawn.items()):
        panel.plot(where, curve, color=COLOURS[k], linestyle=DASHES[k], linewidth=1.8, label=f"step {step:,}")
    label(panel, f"{name}: loss {losses[-1]:.3f}", "x", "y" if name == "ReLU" else "")
    panel.set_ylim(-1.6, 1.6)
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=5)
page

# %% [markdown]
# Without a bend between them, two weighted sums are one weighted sum: a straight line, whatever the number of layers.
# Its best loss is what a line leaves of the variance. The sigmoid network draws little more than that line after 4,000
# steps: with weights of ordinary size a sigmoid is nearly straight between -1 and 1, and its slope of at most 1/4 makes
# the gradients of the first layer small (section 2). It does bend in the end: after 40,000 steps its loss is 0.05.
#
# What are the hidden units of the ReLU network doing? Unit $j$ is silent on one side of the place where
# $w_j x + b_j = 0$, and a ramp on the other. The curve is a sum of ramps, so it can change its slope **only at those
# places**. Look for the bends:

# %%
manual_seed(0)
first, _, second = model = Sequential(Linear(1, 40), ReLU(), Linear(40, 1))
at_start = -first.bias.data / first.weight.data[:, 0]
train(model)
kinks = -first.bias.data / first.weight.data[:, 0]

page, axes = figure(panel=(6.4, 3.8))
axes[0, 0].plot(data.inputs, data.targets, ".", color=GREY, markersize=3, alpha=0.6, label="data")
axes[0, 0].plot(where, model(Tensor(where)).data, color=COLOURS[0], linewidth=2, label="the network")
kinks = kinks[np.abs(kinks) < 1]
axes[0, 0].plot(kinks, model(Tensor(kinks[:, None])).data, "v", color=COLOURS[1], label="where a unit begins")
before = at_start[np.abs(at_start) < 1]
axes[0, 0].plot(before, np.full_like(before, -1.5), "|", color=COLOURS[2], label="where it began before training")
label(axes[0, 0], "a sum of ramps bends where its units begin", "x", "y")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=2)
page

# %% [markdown]
# ## 7. The line that everybody forgets once
#
# `backward()` *adds* to `.grad`. It has to, because a parameter that is used twice must collect both contributions
# (section 1). So the old gradients must be forgotten before each step.
#
# **Predict 6.** Leave `zero_grad()` out, at a learning rate of 0.02. The step then follows the *sum of all gradients so
# far*. Will the loss fall more slowly, fall faster, or do something else?

# %% tags=["machine-dependent"]
page, axes = figure(panel=(5.8, 3.2))
for k, forget in enumerate([True, False]):
    manual_seed(0)
    model, losses = Sequential(Linear(1, 40), ReLU(), Linear(40, 1)), []
    for _ in range(500):
        loss = mse_loss(model(x), t)
        if forget:
            model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.02 * p.grad
        losses.append(loss.item())
    axes[0, 0].plot(losses, color=COLOURS[k], linestyle=DASHES[k], label="with zero_grad()" if forget else "without")
    low, high = min(losses[-100:]), max(losses[-100:])
    print(f"{'with' if forget else 'without':8} zero_grad: in the last 100 steps the loss is {low:.3f} to {high:.3f}")
    assert high < 1.2 * low if forget else high > 2 * low
log_scale(axes[0, 0])
label(axes[0, 0], "gradients that are never forgotten", "step", "loss")
legend(axes[0, 0])
page

# %% [markdown]
# The step that adds up all gradients is a ball that never loses speed: it is quickly lower than the careful walker, and
# rolls on through every valley and up the other side, for ever. So the bug does not announce itself: the loss falls, it
# only never settles. (To keep *some* of the speed is a good idea and has a name, momentum: next week.)
#
# ## Where to go from here
#
# - Rebuild, from the [page of this week](../docs/weeks/week1.md): the engine's walk, in forty lines.
# - Read [scratch/tape.py](../scratch/tape.py) once more: every line should now have a reason.
# - [Week 2](week2_optimizers.ipynb): better steps, better beginnings, and real digits.
