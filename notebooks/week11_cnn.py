# %% [markdown]
# # Week 11: the same small question everywhere
#
# In an hour: what a convolution is, from one window to a fast program; its gradients; pooling; a network of them that
# reads digits; what is to be seen inside; and what it is worth to tell a network that neighbours belong together.
#
# You need weeks 1 and 2: the tape, layers, losses, Adam.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
import time

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import softmax
from scratch.data import Batches, Dataset, load_digits
from scratch.layers import conv1d, conv2d, interpolate, max_pool2d
from scratch.layers.convolution import fast, im2col, plain
from scratch.layers.convolution.winograd import matrices
from scratch.losses import cross_entropy
from scratch.models.cnn import LeNet5, inside
from scratch.models.cnn.adversarial import adversarial_accuracy, fgsm
from scratch.models.cnn.receptive_field import effective_receptive_field, in_order, theoretical_receptive_field
from scratch.models.mlp import MLP
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.tensor import record  # noqa: F401  what you fill in needs it
from scratch.training import evaluate, predict
from scratch.viz import adversarial_pairs, feature_map_rows, figure, first_layer_weights, heat_maps, receptive_fields
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend, picture_axes

# %% [markdown]
# ## 1. One window
#
# Take a few weights, the *kernel*. Lay them on the first numbers of a row, multiply what lies on top of each other, add
# up: that is one output. Move by one, and again, **with the same weights**:
#
# $$y_r = \sum_{i=0}^{k-1} W_i\, x_{r+i}, \qquad x\ (n,),\quad W\ (k,),\quad y\ (n - k + 1,)$$
#
# **Predict 1.** $x = (0, 0, 1, 1, 1, 0)$ and $W = (-1, 1)$. What is $y$, and what does this kernel look for?

# %%
x = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
W = np.array([-1.0, 1.0])
print("y =", np.array([W @ x[r : r + 2] for r in range(5)]))

# %% [markdown]
# It looks for steps: 1 where the row rises, -1 where it falls, 0 where nothing happens. One set of weights has found
# all of them, and would have found them anywhere.
#
# An image has two directions, several channels come in, and several go out:
#
# $$y_{n,o,r,s} = \sum_{c,i,j} W_{o,c,i,j}\; x_{n,c,r+i,s+j}, \qquad
# x\ (N, C, H, W),\quad W\ (O, C, k, k),\quad y\ (N, O, H', W')$$
#
# This is the definition as loops, from [plain.py](../scratch/layers/convolution/plain.py). `terms` yields every
# $(a, b, c)$ for which $W_b\, x_c$ is a part of $y_a$. A *padding* puts zeros around the image so that the output is as
# large as the input; a *stride* of 2 takes every other window.

# %%
print(inspect.getsource(plain.terms))
print(inspect.getsource(plain.convolve))

# %%
data = load_digits(flat=False)
digit = data.train.inputs[12:13]
kernels = {
    "left to right": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "top to bottom": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "mean of nine": [[1 / 9] * 3] * 3,
}
page, axes = figure(1, 4, panel=(2.2, 2.5))
axes[0, 0].imshow(digit[0, 0], cmap="gray")
for panel, kernel in zip(axes[0, 1:], kernels.values(), strict=True):
    y = conv2d(digit, np.array(kernel, np.float32)[None, None], padding=1).data[0, 0]
    panel.imshow(y, cmap="RdBu_r", vmin=-np.abs(y).max(), vmax=np.abs(y).max())
for panel, name in zip(axes[0], ["x", *kernels], strict=True):
    picture_axes(panel)
    label(panel, name)
page

# %% [markdown]
# Red is positive, blue negative: the first kernel answers to the left and right edges of strokes with opposite signs,
# the second to upper and lower ones. Nobody will write such kernels down from now on. They are weights, and are
# learned.
#
# ## 2. The gradients
#
# Ask of each number, as in week 1: *where is it used, and with which factor?* In one dimension, $dy$ standing for
# $\partial L/\partial y$:
#
# - $W_i$ is used once for every output $r$, with the factor $x_{r+i}$:
#   $\ \partial L/\partial W_i = \sum_r dy_r\, x_{r+i}$
# - $x_p$ is used by every output $r$ with $r + i = p$ for some $i$, with the factor $W_i$:
#   $\ \partial L/\partial x_p = \sum_i W_i\, dy_{p-i}$, where $dy$ reads as 0 outside.
#
# In the second sum the index of $dy$ falls while that of $W$ rises. Write the kernel backwards, $W'_i = W_{k-1-i}$, and
# both rise:
#
# $$\frac{\partial L}{\partial x_p} = \sum_i W'_i\; dy_{p + i - (k-1)}$$
#
# That is **again a convolution**: of $dy$, padded by $k - 1$ zeros on both sides, with the flipped kernel (the *full*
# convolution). By hand, with $x = (2, 1, 0, 3)$, $W = (1, -2)$ and $dy = (1, 0, -1)$:
#
# ```
# y  = (2·1 − 1·2, 1·1 − 0·2, 0·1 − 3·2) = (0, 1, −6)
# dW = (1·2 + 0·1 − 1·0, 1·1 + 0·0 − 1·3) = (2, −2)
#
# dy with k − 1 = 1 zero on both sides   0  1  0 −1  0
# flipped kernel (−2, 1) on it          −2  1                 dx[0] = −2·0 + 1·1 =  1
#                                          −2  1              dx[1] = −2·1 + 1·0 = −2
#                                             −2  1           dx[2] = −2·0 − 1·1 = −1
#                                                −2  1        dx[3] =  2·1 + 1·0 =  2
# ```
#
# **Fill in 1.** The convolution in one dimension with both gradients. A loop over the $k$ weights is enough: for each
# of them a slice of $x$ takes part.


# %%
def my_conv1d(x, weight):
    """y[r] = Σᵢ weight[i] x[r + i] for Tensors x (n,) and weight (k,) → (n − k + 1,)"""
    # y = ...                               sum over i of weight.data[i] * x.data[i : i + n - k + 1]
    # def backward(dy):                     dy (n − k + 1,)
    #     return ..., ...                   of the shapes of x and weight
    # return record(y, (x, weight), backward)
    return ...


# %%
def library_conv1d(x, weight):
    return conv1d(x.reshape(1, 1, -1), weight.reshape(1, 1, -1)).reshape(-1)


rng = np.random.default_rng(0)
cases = [
    [np.array([2.0, 1.0, 0.0, 3.0]), np.array([1.0, -2.0])],
    [rng.standard_normal(9), rng.standard_normal(4)],
    [rng.standard_normal(3), rng.standard_normal(3)],
]
check.operation(my_conv1d, library_conv1d, cases)

# %% [markdown]
# **Predict 2.** Let $W = (1, 2, 3)$ and $dy = 1$ everywhere. $x$ has eight numbers. Do all of them get the same
# gradient? If not, which ones differ, and what do they get?

# %%
x = Tensor(np.array([2.0, 1.0, 0.0, 3.0]), requires_grad=True)
library_conv1d(x, np.array([1.0, -2.0])).backward(np.array([1.0, 0.0, -1.0]))
print("by hand, above:", x.grad)

x = Tensor(np.zeros(8), requires_grad=True)
library_conv1d(x, np.array([1.0, 2.0, 3.0])).backward(np.ones(6))
print("Predict 2:     ", x.grad)
padded = np.concatenate([np.zeros(2), np.ones(6), np.zeros(2)])
print("flipped kernel:", np.array([np.array([3.0, 2.0, 1.0]) @ padded[p : p + 3] for p in range(8)]))

# %% [markdown]
# Numbers near the border lie in fewer windows. They count less forward and get less gradient back: 1, then 1 + 2, then
# the whole 1 + 2 + 3. In images it is the same, which is one reason for padding.
#
# ## 3. Fast
#
# **im2col** ([im2col.py](../scratch/layers/convolution/im2col.py)) copies every window into a column. Then all windows
# times all kernels is *one matrix product*, which libraries have polished for fifty years:
#
# ```
# x = (a b c d e), k = 3               a b c
#                        (w₀ w₁ w₂) ·  b c d     =  (y₀ y₁ y₂)
#                                      c d e
# ```
#
# The price: every number is copied $k$ times, for images $k^2$ times.
#
# **Predict 3.** Two images (2, 4, 16, 16), eight kernels (8, 4, 3, 3). How many multiplications is that? And how many
# times faster than the loops will the matrix product be: 10, 100, 1,000?

# %% tags=["machine-dependent"]
settings = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)  # stride, padding, dilation, groups


def timed(module, x, W, repeats):
    """(seconds of the fastest of so many convolutions, the result)"""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        y = module.convolve(x, W, *settings)
        times.append(time.perf_counter() - began)
    return min(times), y


x, W = rng.standard_normal((2, 4, 16, 16)), rng.standard_normal((8, 4, 3, 3))
loops, expected = timed(plain, x, W, 1)
matrix, y = timed(im2col, x, W, 20)
print(f"multiplications: 2 · 8 · 16 · 16 outputs of 4 · 3 · 3 each: {2 * 8 * 16 * 16 * 36:,}")
print(f"loops {1e3 * loops:.0f} ms, im2col {1e3 * matrix:.3f} ms: {loops / matrix:,.0f} times as fast")
print("the same to ten digits:", np.allclose(y, expected, rtol=1e-10))
assert np.allclose(y, expected, rtol=1e-10)

# The size of a layer in a real network: 231 million multiplications.
x, W = rng.standard_normal((64, 16, 28, 28), np.float32), rng.standard_normal((32, 16, 3, 3), np.float32)
for module in (im2col, fast):
    taken, _ = timed(module, x, W, 5)
    name, speed = module.__name__.split(".")[-1], 64 * 784 * 32 * 144 / taken / 1e9
    print(f"{name:7} {1e3 * taken:6.1f} ms, {speed:5.1f} billion a second")

# %% [markdown]
# Most of that factor is Python's: a loop that handles one number at a time spends its time on everything but
# multiplying. The second pair is the interesting one. What does the library's *fast* do that im2col does not?
#
# **Windows where they lie** ([windows.py](../scratch/layers/convolution/windows.py)). Must one copy at all? In the
# memory of a row the windows are already there, each $k$ numbers long, but they overlap, and no matrix product takes a
# matrix with overlapping rows. However, every $k$-th window begins where another ends! So the windows 0, 3, 6 are a
# matrix *without a copy*, as are 1, 4, 7, and 2, 5, 8. Three products of a third of the size make all outputs:

# %%
row, kernel = np.arange(11.0), np.array([1.0, -2.0, 3.0])
y = np.empty(9)
for phase in range(3):
    matrix = row[phase : phase + 9].reshape(3, 3)
    y[phase::3] = matrix @ kernel
    print(f"phase {phase}: rows {[list(map(int, r)) for r in matrix]}, a view: {np.shares_memory(matrix, row)}")
print("the same as the definition:", np.array_equal(y, np.correlate(row, kernel)))

# %% [markdown]
# An image has columns too. So windows.py copies $k$ times (the $k$ pixels above each other, side by side), instead of
# $k^2$ times, and then reads along.
#
# **Fewer multiplications** ([winograd.py](../scratch/layers/convolution/winograd.py)). Two neighbouring outputs of
# three weights take six products. Four suffice. Take $d = (1, 3, 2, 5)$ and $g = (2, 4, 6)$:
#
# ```
# m₁ = (d₀ − d₂) · g₀                     = −1 ·  2 = −2
# m₂ = (d₁ + d₂) · (g₀ + g₁ + g₂) / 2     =  5 ·  6 = 30
# m₃ = (d₂ − d₁) · (g₀ − g₁ + g₂) / 2     = −1 ·  2 = −2
# m₄ = (d₃ − d₁) · g₂                     =  2 ·  6 = 12
#
# y₀ = m₁ + m₂ + m₃ = 26                  = 2·1 + 4·3 + 6·2
# y₁ = m₂ − m₃ + m₄ = 44                  = 2·3 + 4·2 + 6·5
# ```
#
# The sums of weights are made once for a whole batch, the sums of inputs once for all kernels; what is multiplied is
# $m$. Why it works: two polynomials are multiplied by multiplying their *values* at enough points, here
# $0, 1, -1, \infty$. As matrices, $y = A^\top [(G g) \odot (B d)]$. The library makes four outputs out of six products
# instead of twelve.

# %%
A, B, G = matrices(2, 3)
d, g = np.array([1.0, 3.0, 2.0, 5.0]), np.array([2.0, 4.0, 6.0])
print("m =", (G @ g) * (B @ d), "  y =", A.T @ ((G @ g) * (B @ d)))

# %% [markdown]
# ## 4. Pooling
#
# After a convolution comes ReLU, and then often a *pooling*: of each 2×2 pixels only the largest value goes on. The
# image is halved, so the next kernel sees twice as far, and a pattern that moves by one pixel mostly gives the same
# answer. Backward, only the winner had any influence, so it gets the whole gradient, the others nothing. Where several
# are equally large, the first in reading order gets it.
#
# **Fill in 2.** Max pooling of 2×2. Hint: bring the four numbers of each window together as a last axis of length 4;
# `argmax` finds the first of the largest. `np.put_along_axis` puts numbers at such places.


# %%
def my_max_pool(x):
    """The largest of each 2×2 of a Tensor x (N, C, H, W), H and W even → (N, C, H/2, W/2)"""
    # N, C, H, W = x.shape
    # windows = x.data.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
    # y = ...
    # def backward(dy):                     the way back: zeros shaped like windows, dy at the winners, axes as before
    #     return (...,)
    # return record(y, (x,), backward)
    return ...


# %%
def library_max_pool(x):
    return max_pool2d(x, 2)


cases = [
    [np.array([[[[1.0, 2.0, 0.0, 0.0], [4.0, 3.0, 0.0, -1.0]]]])],  # the second window has three winners
    [np.random.default_rng(1).standard_normal((2, 3, 4, 6))],
]
check.operation(my_max_pool, library_max_pool, cases)

# %% [markdown]
# ## 5. A network that reads digits
#
# LeNet-5 (LeCun and others, 1998; as it is used today):
#
# ```
# x (N, 1, 28, 28) ─ Conv 5×5 ─ ReLU ─ pool ─► (N, 6, 14, 14) ─ Conv 5×5 ─ ReLU ─ pool ─► (N, 16, 5, 5)
#                  ─ flatten ─► (N, 400) ─ Linear ─ ReLU ─► (N, 120) ─ Linear ─ ReLU ─► (N, 84) ─ Linear ─► (N, 10)
# ```
#
# **Predict 4.** How many parameters have the two convolutions together, and how many the first linear layer? Which part
# does most of the multiplications?

# %%
manual_seed(0)
lenet = LeNet5()
for name, parameter in lenet.named_parameters():
    print(f"{name:22} {parameter.shape!s:16} {parameter.size:6,}")
first, second = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25
print(f"multiplications: convolutions {first:,} and {second:,}, linear layers {400 * 120 + 120 * 84 + 84 * 10:,}")

# %% [markdown]
# The convolutions: 4 % of the parameters, 86 % of the work. They learn from every place of every image what their few
# weights should be. Training is week 2's loop, with nothing new in it:


# %% tags=["machine-dependent"]
def train(model, data, steps=300, lr=3e-3):
    """Adam along a cosine with warmup; the loss of each step."""
    batches, schedule = Batches(*data.arrays, batch_size=64, seed=0), cosine(lr, steps, warmup=30)
    optimizer, losses = Adam(model.parameters()), []
    for step in range(steps):
        x, y = next(batches)
        loss = cross_entropy(model(Tensor(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def flat(part):
    """The same images as rows of 784 numbers."""
    return Dataset(part.name, part.inputs.reshape(len(part.inputs), -1), part.targets, part.class_names)


losses = train(lenet, data.train)
manual_seed(0)
mlp = MLP(784, (64,), 10)
train(mlp, flat(data.train))
print(f"LeNet-5: loss {losses[0]:.3f} at step 0, {np.mean(losses[-20:]):.3f} at the end")
print(f"accuracy on the 500 validation digits: LeNet-5 {evaluate(lenet, *data.validation.arrays)['accuracy']:.1%}, "
      f"the perceptron of week 2 {evaluate(mlp, *flat(data.validation).arrays)['accuracy']:.1%}")
assert np.mean(losses[-20:]) < 0.3 and evaluate(lenet, *data.validation.arrays)["accuracy"] > 0.9

# %% [markdown]
# ## 6. What is inside
#
# The six kernels of the first layer, and what the network makes of one digit, stage by stage (convolutions are shown
# before their ReLU):

# %%
first_layer_weights(inside.filters(lenet), title="what the first layer looks for")

# %%
x = data.validation.inputs[np.argmax(data.validation.targets == 5)]
feature_map_rows(inside.feature_maps(lenet, x[None]), image=x, count=6, title="a five on its way")

# %% [markdown]
# After 300 steps the kernels still look much like the chance they began with; the maps are easier to read. The first
# ones are the stroke, thick or thin, and its edges; behind the second convolution it gets hard to put into words. So
# ask about the answer instead. Three questions to the same network ([inside.py](../scratch/models/cnn/inside.py)):
#
# - **occlusion**: hide a patch. How far does the probability of "five" fall?
# - **saliency**: which pixel would change the logit most, if it changed a little? One backward pass to the image.
# - **Grad-CAM**: the last convolution's maps, each weighted by its mean gradient. Where did they speak for "five"?

# %%
drops = inside.occlusion(lenet, x, 5, size=6, stride=2)
cam = inside.grad_cam(lenet, x, 5, "convolutions.1")
heats = {
    "hidden 6×6": inside.per_pixel(drops, (28, 28), 6, 2),
    "saliency": inside.saliency(lenet, x, 5),
    "Grad-CAM": interpolate(Tensor(cam[None, None]), size=(28, 28), mode="bilinear").data[0, 0],
}
heat_maps(x, heats, title="where is the five?")

# %% [markdown]
# They answer three different questions, and need not agree. Only the first one changes the image and looks at what
# happens. Note where Grad-CAM points: beside the stroke. The empty place that makes a five of it, and not a six or an
# eight, is evidence as well.
#
# **Predict 5.** How large is the part of the image that one unit of the *second convolution* sees? (5×5 of the pooled
# map; each of those pixels stands for 2×2 units of the first convolution; each of these sees 5×5.) And do all of these
# pixels count alike?

# %%
for name, field in zip(("Conv 5×5", "pool", "Conv 5×5", "pool"),
                       theoretical_receptive_field(in_order(lenet, (1, 28, 28))), strict=True):  # fmt: skip
    print(f"{name:9} sees {field.size[0]:2} × {field.size[1]:2} pixels, its neighbour the same {field.jump[0]} further")
manual_seed(0)
effective = effective_receptive_field(lenet, (1, 28, 28), "convolutions.1")
receptive_fields(effective, (14, 14), title="a unit of the second convolution")

# %% [markdown]
# The left picture is measured: a gradient is sent back from one unit, and one looks where it arrives. Nothing arrives
# outside of the 14×14, and inside of it the middle counts most, since many paths lead there and few to the edge.
#
# The same backward pass can be turned against the network. Move *every* pixel by $\varepsilon$ in the direction that
# raises the loss, $x' = x + \varepsilon\, \mathrm{sign}(\partial L/\partial x)$.
#
# **Predict 6.** Pixels go from 0 to 1. Each is moved by 0.1, which one sees as a grey veil. How many of the 500 digits
# will still be read right? And how many if each pixel moves by 0.1 in a *random* direction?

# %% tags=["machine-dependent"]
images, targets = data.validation.arrays
epsilons = np.array([0, 0.02, 0.05, 0.1, 0.15, 0.2])
against = adversarial_accuracy(lenet, images, targets, list(epsilons), (0, 1))
signs = np.random.default_rng(0).choice([-1, 1], images.shape).astype(np.float32)
noise = []
for epsilon in epsilons.astype(np.float32):
    noise.append(evaluate(lenet, np.clip(images + epsilon * signs, 0, 1), targets)["accuracy"])
for epsilon, a, b in zip(epsilons, against, noise, strict=True):
    print(f"ε = {epsilon:.2f}: against the network {a:6.1%}, at random {b:6.1%}")
assert against[0] == noise[0] and against[-1] < 0.4 and noise[-1] > 0.9
page, axes = figure(panel=(5.8, 3.2))
for k, (name, shares) in enumerate({"against the network": against, "at random": noise}.items()):
    axes[0, 0].plot(epsilons, shares, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
axes[0, 0].set_ylim(0, 1.02)
label(axes[0, 0], "digits still read right", "change of each pixel, ε", "share of 500")
legend(axes[0, 0])
page

# %%
moved = fgsm(lenet, images, targets, 0.1, (0, 1))
before, after = (softmax(predict(lenet, each), dim=1).data for each in (images, moved))
chosen = np.flatnonzero((before.argmax(1) == targets) & (before.max(1) > 0.95) & (after.argmax(1) != targets))[:2]
answers = [[f"{p[i].argmax()} with {p[i].max():.0%}" for i in chosen] for p in (before, after)]
adversarial_pairs(images[chosen], moved[chosen], *answers, title="the same digit, to you")

# %% [markdown]
# A random change of the same size does nothing. The aimed one pushes with all pixels in the one direction that hurts,
# and a network that is nearly linear adds all of it up.
#
# ## 7. What the prior is worth
#
# A convolution is told two things beforehand: neighbours belong together, and a pattern means the same wherever it is.
# Take both away: put the pixels of *all* images into one and the same random order. No information is lost, any program
# could put them back.
#
# **Predict 7.** What happens to the accuracy of the perceptron, and what to that of LeNet-5?

# %% tags=["machine-dependent"]
order = np.random.default_rng(0).permutation(784)


def shuffled(part):
    """The pixels in another order, the same for all images."""
    inputs = part.inputs.reshape(-1, 784)[:, order].reshape(-1, 1, 28, 28)
    return Dataset(part.name, inputs, part.targets, part.class_names)


page, axes = figure(1, 2, panel=(2.0, 2.2))
for panel, each, name in zip(axes[0], (data.train, shuffled(data.train)), ("a digit", "shuffled"), strict=True):
    panel.imshow(each.inputs[12, 0], cmap="gray")
    picture_axes(panel)
    label(panel, name)

scores = {"perceptron": [evaluate(mlp, *flat(data.validation).arrays)["accuracy"]],
          "LeNet-5": [evaluate(lenet, *data.validation.arrays)["accuracy"]]}  # fmt: skip
manual_seed(0)
again = MLP(784, (64,), 10)
train(again, flat(shuffled(data.train)))
scores["perceptron"].append(evaluate(again, *flat(shuffled(data.validation)).arrays)["accuracy"])
manual_seed(0)
again = LeNet5()
train(again, shuffled(data.train))
scores["LeNet-5"].append(evaluate(again, *shuffled(data.validation).arrays)["accuracy"])
for name, (ordered, mixed) in scores.items():
    print(f"{name:11} pixels in order {ordered:.1%}, shuffled {mixed:.1%}")
assert abs(np.subtract(*scores["perceptron"])) < 0.05 < 0.06 < np.subtract(*scores["LeNet-5"])
page

# %% [markdown]
# To the perceptron all orders are alike: every unit sees every pixel anyway (what differs is chance: other products of
# first weights and pixels). LeNet-5 was better *because* of the order, and without it is worse than the perceptron: it
# looks for patterns among neighbours that have nothing to do with each other. A prior is a bet. This one is right for
# images, sound and everything else where near means related.
#
# And does it know a digit wherever it is? A *convolution* does: move its input and its output moves along. The linear
# layers behind it do not.
#
# **Predict 8.** All digits are moved to the right by 1, 2, 3, 4 pixels; in training none was. Sketch the accuracy of
# both networks.

# %% tags=["machine-dependent"]
page, axes = figure(panel=(5.8, 3.2))
accuracies = {"LeNet-5": [], "perceptron": []}
for shift in range(5):
    moved = np.zeros_like(images)
    moved[..., shift:] = images[..., : 28 - shift]
    accuracies["LeNet-5"].append(evaluate(lenet, moved, targets)["accuracy"])
    accuracies["perceptron"].append(evaluate(mlp, moved.reshape(500, -1), targets)["accuracy"])
for k, (name, shares) in enumerate(accuracies.items()):
    axes[0, 0].plot(range(5), shares, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
    print(f"{name:11}", "  ".join(f"{share:6.1%}" for share in shares))
    assert shares[4] < shares[2] < shares[0]
axes[0, 0].set_xticks(range(5))
label(axes[0, 0], "digits moved to the right", "pixels", "validation accuracy")
legend(axes[0, 0])
page

# %% [markdown]
# Pooling and shared weights make it far more patient than the perceptron, not indifferent. That is why training on
# randomly moved images (`shift` in [train.py](../scratch/models/cnn/train.py)) helps even a convolutional network.
#
# ## Where to go from here
#
# - [Week 11b](week11b_resnet_unet.ipynb): what happens when one stacks twenty of these layers, and a network that
#   labels every pixel.
# - Rebuild, from the [page of this week](../docs/weeks/week11.md): a convolution of images, with its gradients.
# - `scratch train cnn` trains a larger LeNet on moved digits; its run folder has the pictures of section 6.
