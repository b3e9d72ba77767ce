# %% [markdown]
# # Week 9: training the denoiser
#
# In an hour: what a convolution is, for those who have not met it; the parts of a U-Net and why each of them is there;
# how the bound on the likelihood becomes "guess the noise"; a small U-Net that learns to guess it, in less than a
# minute; where its errors lie, what averaging its weights is good for; and digits that are drowned in noise up to a
# chosen level and brought back.
#
# You need [week 2](week2_optimizers.ipynb) and weeks 7 and 8: the closed form of $q(x_t \mid x_0)$, the posterior
# $q(x_{t-1} \mid x_t, x_0)$, schedules, and the three things a network may be asked for. Here it is asked for the
# noise.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect

import check
import numpy as np

from scratch import Tensor, manual_seed, no_grad
from scratch.data import Batches, load_digits
from scratch.evaluation import judge
from scratch.layers import batch_norm, conv2d, group_norm, interpolate
from scratch.losses import mse_loss
from scratch.models.diffusion import UNet
from scratch.models.diffusion.inside import reconstruct
from scratch.models.diffusion.model import PixelAttention, ResidualBlock
from scratch.models.diffusion.noise import linear
from scratch.models.diffusion.process import diffuse, posterior, x0_and_eps
from scratch.models.diffusion.sampling import ask, ddim, spaced
from scratch.models.diffusion.tasks import from_pixels, to_pixels
from scratch.module import observe
from scratch.optim import AdamW, AveragedModel, clip_grad_norm_
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure, image_grid, smoothed
from scratch.viz.style import COLOURS, DASHES, GREY, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. A quarter of an hour on convolution
#
# (If you come from [week 11](week11_cnn.ipynb), go on to section 2.)
#
# A network for images could treat 784 pixels as 784 unrelated numbers, as week 2's perceptron did. It would have to
# learn in every corner anew what a stroke is. A *convolution* has one small set of weights, the *kernel*, and asks the
# same question everywhere:
#
# $$y_r = \sum_{i=0}^{k-1} W_i\, x_{r+i}, \qquad x\ (n,),\quad W\ (k,),\quad y\ (n - k + 1,)$$
#
# **Predict 1.** $x = (0, 0, 1, 2, 3, 3, 3)$ and $W = (1, -2, 1)$. What is $y$, and what does this kernel look for?

# %%
x, W = np.array([0.0, 0, 1, 2, 3, 3, 3]), np.array([1.0, -2, 1])
print("y =", np.array([W @ x[r : r + 3] for r in range(5)]))

# %% [markdown]
# It answers where a slope begins (1) and ends (−1), and is silent on the flat and on the even slope, wherever they are.
# In an image the kernel is a little square, 3×3 here, and there are several *channels*, numbers that each pixel has:
#
# $$y_{n,o,r,s} = \sum_{c,i,j} W_{o,c,i,j}\; x_{n,c,r+i,s+j}, \qquad
# x\ (N, C, H, W),\quad W\ (O, C, 3, 3),\quad y\ (N, O, H, W)$$
#
# One ring of zeros around the image (`padding=1`) keeps its size. O kernels make O new channels, each a map of one
# feature, and the next convolution reads all of them. Nobody writes the kernels down: they are weights, and learned.
#
# Two more operations change the size. A *stride* of 2 takes every second window in both directions, and halves the
# image. Repeating each pixel 2×2 doubles it again. Here a kernel of nine ninths, the mean, does the halving, twice;
# then the image is doubled twice.

# %%
digits = load_digits(flat=False)
digit = digits.train.inputs[12:13]
mean, edges = np.full((1, 1, 3, 3), 1 / 9, np.float32), np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
half = conv2d(digit, mean, padding=1, stride=2)
quarter = conv2d(half, mean, padding=1, stride=2)
back = interpolate(quarter, scale_factor=4)
stages = {"x": digit, "edges": conv2d(digit, edges[None, None], padding=1).data, "halved": half.data,
          "twice": quarter.data, "and back": back.data}  # fmt: skip
page, axes = figure(1, 5, panel=(1.9, 2.2))
for panel, (name, image) in zip(axes[0], stages.items(), strict=True):
    panel.imshow(image[0, 0], cmap="RdBu_r" if name == "edges" else "gray")
    panel.set_axis_off()
    label(panel, f"{name} {image.shape[-2:]}")
page

# %% [markdown]
# The second picture shows left and right edges, with opposite signs. The last one shows the price of halving: 7×7
# pixels still know that there is a digit and roughly which, but its strokes do not come back. Why halve, then? Because
# of how far one sees.
#
# **Predict 2.** One 3×3 convolution sees 3 pixels across. How many must one put on top of each other, until a pixel of
# the result sees all 28? And how many if after each two of them the image is halved?

# %%
for name, halve in {"one size": False, "halved after two": True}.items():
    sees, step, count = 1, 1, 0
    while sees < 28:
        sees, count = sees + 2 * step, count + 1
        if halve and count % 2 == 0:
            step *= 2
    print(f"{name:17} {count} convolutions see {sees} pixels across")

# %% [markdown]
# A step between neighbours of a halved image is two pixels wide, then four: the view grows much faster, and each
# convolution costs a quarter. To say what is noise in a pixel, a network needs both: the fine strokes around it, and
# what the whole image is. The U-Net goes down for the second and keeps copies for the first.
#
# ## 2. The parts of a U-Net
#
# ```
#  x_t (1, 28, 28) ─ Conv ─┬─ R ────────────────── copy ─────────────────► join ─ R ─ norm, SiLU, Conv ─► ε̂ (1, 28, 28)
#                          ▼ Conv, stride 2                                 ▲ ×2, Conv
#                          ├─ R ────────────────── copy ─────────────────► join ─ R
#                          ▼                                                ▲
#                          └─ RA ── copy ──► middle: RA R ──► join ─ RA ────┘        R   residual block, told the time
#                                                                                    A   attention over all pixels
# ```
#
# From [model.py](../scratch/models/diffusion/model.py), the block:

# %%
print(inspect.getsource(ResidualBlock.forward))

# %% [markdown]
# - **The sum** with `skip(x)`: the block only adds a correction. Its last convolution begins at 0, so that at first
#   every block passes on what it got.
# - **The time.** One network serves all noise levels, so it must be told which one it sees. t becomes sines and cosines
#   of many speeds (week 3), two linear layers make an embedding e of them, and each block adds its own linear picture
#   of e to *all pixels alike*: one number a channel.
# - **SiLU**, $x\, \sigma(x)$: a ReLU with a round corner.
# - **GroupNorm**: the channels are put in groups, and each group of each image is brought to mean 0 and variance 1:
#
# $$\hat x = (x - \mu) / \sigma,\qquad \sigma = \sqrt{\operatorname{var} + \epsilon},\qquad
# \frac{\partial L}{\partial x} = (g - \operatorname{mean} g - \hat x \operatorname{mean}(g\, \hat x)) / \sigma,\quad
# g = \partial L/\partial \hat x$$
#
# with means over a group's channels and all its pixels. (Weight and bias of each channel come after; leave them out.)
#
# **Fill in 1.** GroupNorm with its gradient. Hint: as (N, groups, −1) each group is a row.


# %%
def my_group_norm(x, groups, eps=1e-5):
    """(x − μ) / σ of each group of channels, for a Tensor x (N, C, H, W), C a multiple of groups → as x"""
    # rows = x.data.reshape(len(x.data), groups, -1)
    # normed = ...
    # def backward(dy):                     dy (N, C, H, W)
    #     g = dy.reshape(rows.shape)
    #     return (...,)                     of the shape of x
    # return record(normed.reshape(x.shape), (x,), backward)
    return ...


# %%
rng = np.random.default_rng(0)
cases = [
    [np.array([[[[1.0, 3.0]], [[5.0, 7.0]]]]), 1],
    [rng.standard_normal((2, 6, 3, 2)), 3],
    [rng.standard_normal((1, 4, 2, 2)), 4],
]
check.operation(my_group_norm, group_norm, cases)

# %% [markdown]
# **Predict 3.** Batch norm (week 11) takes mean and variance over all images of a batch. Two batches differ in their
# second image only: once it is a clean digit, once pure noise. Does the answer for the *first* image change, with batch
# norm and with GroupNorm? Why does that matter here?

# %%
image = from_pixels(digits.train).inputs[:1]
channels = np.concatenate([image, image[:, :, ::-1]], axis=1)  # two channels
others = [channels, rng.standard_normal(channels.shape).astype(np.float32)]
norms = {"batch norm": lambda x: batch_norm(x, training=True), "GroupNorm": lambda x: group_norm(x, 2)}
for name, norm in norms.items():
    first = [norm(np.concatenate([channels, other])).data[0] for other in others]
    print(f"{name:10} the first image's numbers move by up to {np.abs(first[0] - first[1]).max():.3f}")

# %% [markdown]
# In a batch each image has a time of its own, so batch norm would mix noise levels: what the network sees of one image
# would depend on how noisy the others happen to be. In sampling, all have the same time, and the statistics would be
# others again.
#
# **Attention** stands at the lowest resolution only. Every pixel is a token there. Its cost grows with the square of
# their number.
#
# **Predict 4.** Three widths, 8, 16 and 24 channels, on 28×28 pixels. What shapes do the blocks have, on the way down
# and on the way up? How many tokens does attention see, and how many would it see at the top?

# %%
WIDTHS = (8, 16, 24)
manual_seed(0)
model = UNet(1, WIDTHS, blocks=1)
names = {id(module): name for name, module in model.named_modules()}
told = {ResidualBlock: "told the time", PixelAttention: "every pixel asks all pixels"}


def show(module, inputs, output):
    name = names.get(id(module), "")
    if isinstance(module, tuple(told)) or name.split(".")[0] in ("into", "shrink", "grow", "out"):
        print(f"{name:22} {inputs[0].shape[1:]!s:13} → {output.shape[1:]!s:13} {told.get(type(module), '')}")


x = rng.standard_normal((1, 1, 28, 28)).astype(np.float32)
with no_grad(), observe(show):
    said = model(x, np.array([500])).data
print(f"{model.count_parameters():,} parameters; it says numbers from {said.min():g} to {said.max():g}")

# %% [markdown]
# 49 tokens below, so 49² scores; at the top it would be 784², 256 times as many. On the way up each block takes twice
# its channels: what comes from below and the copy. And the network says 0 to everything, since its last convolution
# begins at 0. Remember that for the first loss.
#
# ## 3. From the bound to the loss
#
# What should the network minimise? The likelihood of an image is out of reach, but there is a bound (derived on the
# [page](../docs/weeks/week9.md)):
#
# $$-\log p(x_0) \le L_T + \sum_{t=2}^T \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\ \|\ p(x_{t-1} \mid x_t)\big) + L_0$$
#
# The first of each pair is week 7's posterior, $N(\tilde\mu(x_0, x_t),\ \tilde\beta_t)$: where $x_t$ came from, if one
# *knows* $x_0$. The sampler that we train does not know it. It guesses $\hat x_0$ and takes the same formula:
# $N(\tilde\mu(\hat x_0, x_t),\ \tilde\beta_t)$. Two Gaussians of the same variance, so
#
# $$\mathrm{KL} = \frac{|\tilde\mu(x_0, x_t) - \tilde\mu(\hat x_0, x_t)|^2}{2 \tilde\beta_t}$$
#
# Now put in what $\tilde\mu$ is, and $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\; \hat\epsilon) / \sqrt{\bar\alpha_t}$.
# $x_t$ falls out, and a number times $|\epsilon - \hat\epsilon|^2$ remains:
#
# $$\mathrm{KL} = \lambda_t\, |\epsilon - \hat\epsilon|^2$$
#
# **Fill in 2.** This KL from the two noises, in nats for each row. What is $\lambda_t$? (Of $\alpha_t$, $\beta_t$ and
# $\bar\alpha_{t-1}$ only. `schedule.alpha`, `.beta` and `.alpha_bar` are indexed by t.)


# %%
def my_kl(eps, said, t, schedule):
    """λ_t |ε − ε̂|² for eps, said (B, d) and a whole number t from 2 → (B,)"""
    return ...


# %%
def library_kl(eps, said, t, schedule):
    """By the definition: both posteriors' means, from some x_0."""
    x0 = np.random.default_rng(7).standard_normal(eps.shape)
    x = diffuse(x0, t, eps, schedule)
    guess, _ = x0_and_eps("eps", said, x, t, schedule)
    (mean, variance), (guessed, _) = posterior(x0, x, t, schedule), posterior(guess, x, t, schedule)
    return ((mean - guessed) ** 2 / (2 * variance)).sum(axis=1)


schedule = linear()  # T = 1,000
cases = [[*np.random.default_rng(t).standard_normal((2, 3, 5)), t, schedule] for t in (2, 30, 1000)]
check.function(my_kl, library_kl, cases)

# %% [markdown]
# The *simple* loss of Ho and others (2020) drops $\lambda_t$: draw t evenly, and learn $|\epsilon - \hat\epsilon|^2$
# with weight 1. That is no longer the bound. What did the weight say?
#
# **Predict 5.** A network that says 0 to everything has the same $|\epsilon - \hat\epsilon|^2$ at every t. Which share
# of the whole sum of KLs then comes from the first ten steps of the 1,000, t = 2 … 11? (About 1 % of the steps.)

# %%
times = np.arange(2, schedule.T + 1)
weight = np.array([library_kl(np.ones((1, 1)), np.zeros((1, 1)), int(t), schedule)[0] for t in times])
page, axes = figure(panel=(6.4, 3.2))
axes[0, 0].plot(times, weight, color=COLOURS[0], label="λ, the bound's weight")
axes[0, 0].axhline(weight.mean(), color=COLOURS[1], linestyle=DASHES[1], label="the simple loss: the same for all")
log_scale(axes[0, 0])
axes[0, 0].set_xscale("log")
label(axes[0, 0], "what an error of the noise costs", "t", "weight")
legend(axes[0, 0])
share = weight / weight.sum()
print(f"of all the weight, t = 2 … 11 have {share[:10].sum():.0%}, t = 501 … 1,000 have {share[499:].sum():.0%}")
page

# %% [markdown]
# The bound counts every bit, and the finest grain of an image holds most of them: whether a pixel is 200 or 201. It
# spends its weight there. Dropping $\lambda_t$ moves the network's effort to larger t, where it is decided *what* the
# image shows. One loses a little likelihood and gains images that look right.
#
# ## 4. Training
#
# Algorithm 1 of the paper, line by line. Nothing in it is new but lines 3 and 4. Two digits only, 0 and 3, since we
# have a minute.


# %%
def only(data, wanted=(0, 3)):
    """Images of some digits, −1 … 1, and their classes."""
    rows = np.isin(data.targets, wanted)
    return from_pixels(data).inputs[rows], data.targets[rows]


def noisy(x0, rng):
    """(x_t, t, ε): for each image a time and a noise of its own."""
    t = rng.integers(1, schedule.T + 1, len(x0))
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    return diffuse(x0, t, eps, schedule), t, eps


train_set, validation = only(digits.train), only(digits.validation)
held_out = noisy(validation[0], np.random.default_rng(1))  # always the same times and noises


def error(model):
    with no_grad():
        return mse_loss(model(*held_out[:2]), held_out[2]).item()


def train(model, average, steps=400, lr=2e-3):
    """Losses of all steps, and (step, error of the model, error of the average) now and then."""
    rng, batches = np.random.default_rng(0), Batches(*train_set, batch_size=16, seed=0)
    optimizer, losses, errors = AdamW(model.parameters(), weight_decay=0.0), [], []
    for step in range(steps):  # 1: repeat
        x0, _ = next(batches)  # 2:     x_0 from the data
        x, t, eps = noisy(x0, rng)  # 3, 4: t uniform on 1 … T, ε ~ N(0, I)
        loss = mse_loss(model(Tensor(x), t), eps)  # 5:     a step down the gradient of |ε − ε̂(x_t, t)|²
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = lr * min(1.0, (step + 1) / 50)  # warm-up, then constant
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        if step % 30 == 29:
            errors.append((step + 1, error(model), error(average.module)))
    return losses, np.array(errors)  # 6: until converged


# %% [markdown]
# **Predict 6.** What is the loss of the first step, before anything is learned? And guess: does knowing nothing but the
# *mean and variance of each pixel* get one far? (At t = 500 the signal is $\sqrt{\bar\alpha_t} = 0.28$ of $x_t$, the
# noise 0.96.)

# %% tags=["machine-dependent"]
average = AveragedModel(model, decay=0.99)
losses, errors = train(model, average)

x0, count = train_set[0], len(train_set[0])
pixel_mean, pixel_variance = x0.mean(axis=0), x0.var(axis=0)


def from_pixels_alone(x, t):
    """The best guess of ε, if all pixels were independent Gaussians: E[ε | x_t] of each by itself."""
    a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1).astype(np.float32)
    return np.sqrt(1 - a) * (x - np.sqrt(a) * pixel_mean) / (a * pixel_variance + 1 - a)


baseline = float(((from_pixels_alone(*held_out[:2]) - held_out[2]) ** 2).mean())
print(f"{count} images. Loss of the first step {losses[0]:.3f}, of the last fifty {np.mean(losses[-50:]):.4f}")
print(f"held-out error {errors[-1, 1]:.4f}; knowing each pixel's mean and variance: {baseline:.4f}")
assert 0.9 < losses[0] < 1.1 and errors[-1, 1] < 0.08 < baseline
page, axes = figure(panel=(6.4, 3.2))
axes[0, 0].plot(smoothed(losses, 8), color=COLOURS[0], label="training, smoothed")
axes[0, 0].axhline(1, color=GREY, linestyle=":", label="saying 0: the variance of the noise")
axes[0, 0].axhline(baseline, color=COLOURS[1], linestyle=DASHES[1], label="each pixel by itself")
log_scale(axes[0, 0])
label(axes[0, 0], "the simple loss", "step", "mean squared error of ε")
legend(axes[0, 0])
page

# %% [markdown]
# 1, the variance of what was to be guessed. A guess from each pixel alone already removes nine tenths: at most times
# $x_t$ *is* mostly noise, so that it is easy to say what the noise was. What a network is for lies below the dashed
# line: to know from its neighbours what a pixel is likely to be.
#
# ## 5. Where the errors lie
#
# **Predict 7.** At which t is the noise hardest to guess: t = 1, in the middle, or t = 1,000? And at which t is it
# hardest to guess $x_0$? (It is the same guess, since $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\,\hat\epsilon) /
# \sqrt{\bar\alpha_t}$.)

# %% tags=["machine-dependent"]
levels = np.unique(np.geomspace(1, schedule.T, 15).astype(int))


def by_time(denoise, images=validation[0], seed=2):
    """The mean squared error of ε at each level."""
    found = []
    for t in levels:
        eps = np.random.default_rng([seed, t]).standard_normal(images.shape).astype(np.float32)
        times = np.full(len(images), t)
        found.append(((denoise(diffuse(images, times, eps, schedule), times) - eps) ** 2).mean())
    return np.array(found)


def network(x, t):
    with no_grad():
        return average.module(x, t).data


of_network, of_pixels = by_time(network), by_time(from_pixels_alone)
snr = schedule.snr[levels]
page, axes = figure(1, 2, panel=(4.3, 3.4))
for k, (name, values) in enumerate({"each pixel by itself": of_pixels, "the U-Net": of_network}.items()):
    style = {"color": COLOURS[1 - k], "linestyle": DASHES[1 - k], "marker": MARKERS[k], "label": name}
    axes[0, 0].plot(levels, values, **style)
    axes[0, 1].plot(levels, values / snr, **style)
for panel, what in zip(axes[0], ("ε", "x₀"), strict=True):
    panel.set_xscale("log")
    log_scale(panel)
    label(panel, f"error of {what}", "t", "mean squared error" if what == "ε" else "")
legend(axes[0, 0])
for t, e, s in list(zip(levels, of_network, snr, strict=True))[::2]:
    print(f"t = {t:4}: error of ε {e:.4f}, of x₀ {e / s:.4f}")
everywhere = np.interp(np.log(times), np.log(levels), of_network)
parts = {"the simple loss": everywhere, "the bound": weight * everywhere}
for name, part in parts.items():
    print(f"{name}: {part[:10].sum() / part.sum():.0%} of it lies at t = 2 … 11")
assert len(of_network) == len(levels) and of_network[0] > 0.4 and of_network[-1] < 0.1
page

# %% [markdown]
# Little noise is hard to see: at t = 1 its deviation is 0.01 beside strokes from −1 to 1, and the guess is hardly
# better than saying 0. Much noise is easy to see, but hides the image. The two errors are one, in two units:
# $|x_0 - \hat x_0|^2 = |\epsilon - \hat\epsilon|^2 / \mathrm{snr}_t$. (And the two lines before the picture say what
# Predict 5 could not yet know: once the network is trained, the bound hears of little but the finest grain.)
#
# Look at the right end, too. From t = 400 on our network is *worse* than each pixel by itself. It has seen 400 batches,
# and its rate is still high. In ε that is next to nothing, 0.006 at t = 1,000, and a loss that is a mean over all t
# does not feel it. In x₀ it is an error of more than 100. Section 7 shows what that costs.
#
# What would the *perfect* answer be? The mean squared error is least at the mean, $\hat x_0 = E[x_0 \mid x_t]$. If the
# data are exactly the training images $x_i$, Bayes' rule gives it without any training:
#
# $$E[x_0 \mid x_t] = \sum_i p_i\, x_i, \qquad p = \operatorname{softmax}_i
# \left( -\frac{|x_t - \sqrt{\bar\alpha_t}\, x_i|^2}{2 (1 - \bar\alpha_t)} \right)$$
#
# **Predict 8.** No network can have a lower training error than this one. How does it do on *held-out* digits, beside
# our small U-Net, at little and at much noise?

# %%
memory = x0.reshape(count, -1).astype(np.float64)


def remembered(x, t):
    """ε̂ of the best possible answer for the training images."""
    a, rows = schedule.alpha_bar[t[0]], x.reshape(len(x), -1).astype(np.float64)  # here all times are equal
    squares = (rows**2).sum(1)[:, None] - 2 * np.sqrt(a) * rows @ memory.T + a * (memory**2).sum(1)
    scores = -(squares - squares.min(axis=1, keepdims=True)) / (2 * (1 - a))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return ((rows - np.sqrt(a) * p @ memory) / np.sqrt(1 - a)).reshape(x.shape)


some = x0[:: count // 100][:100]
page, axes = figure(1, 2, panel=(4.3, 3.4), sharey=True)
for panel, title, images in zip(axes[0], ("training digits", "held-out digits"), (some, validation[0]), strict=True):
    for k, (name, denoise) in enumerate({"the U-Net": network, "the perfect answer": remembered}.items()):
        values = np.maximum(by_time(denoise, images), 1e-5)
        panel.plot(levels, values, color=COLOURS[2 * k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
    panel.set_xscale("log")
    log_scale(panel)
    panel.set_ylim(1e-5, 1e3)
    label(panel, title, "t", "mean squared error of ε" if panel is axes[0, 0] else "")
legend(axes[0, 1])
page

# %% [markdown]
# On digits it knows it makes no error at all below t = 250: it recognises them. On digits it does not know it is lost:
# it answers with the nearest training image, however far. A sampler with the perfect answer would return training
# images and nothing else. All that is new in what a diffusion model draws comes from its network *not* reaching the
# minimum of its loss: few weights, shared by all places and times, that can afford only what many images have in
# common.
#
# ## 6. The average of the weights
#
# The loss is noisy: one batch has small t, the next large ones. So the weights never come to rest. A second copy
# follows them slowly, $\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$ with $d = 0.99$, an average over about
# the last 100 steps ([averaging.py](../scratch/optim/averaging.py)). It needs no gradient, and one samples with it.
#
# **Predict 9.** The learning rate is constant. Is the average better than the weights themselves at step 30? At step
# 390? By how much?

# %% tags=["machine-dependent"]
page, axes = figure(panel=(6.4, 3.2))
for k, name in enumerate(["the weights", "their average"]):
    style = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "label": name}
    axes[0, 0].plot(errors[:, 0], errors[:, 1 + k], **style)
log_scale(axes[0, 0])
label(axes[0, 0], "two copies of one network", "step", "held-out error")
legend(axes[0, 0])
for step, last, averaged in errors[[0, 4, -2, -1]]:
    print(f"step {step:3.0f}: weights {last:.4f}, average {averaged:.4f}: {averaged / last - 1:+.0%}")
assert errors[0, 2] > errors[0, 1] and errors[-1, 2] < 1.05 * errors[-1, 1]
page

# %% [markdown]
# At first the average lags behind; then it is ahead by a few per cent, at each look another few, since it is the
# weights themselves that jump. (On the page's experiment it is worth nothing. Guess why, before you read on there.)
#
# ## 7. Drowned and brought back
#
# Take a held-out digit, add the noise of a level t, and let the network take it away again, in steps from t down to 0
# (`reconstruct`; how such steps are made is week 10). What comes back is what $x_t$ still says of the digit; the rest
# is invented.
#
# **Predict 10.** Up to which t does the *same* digit come back, stroke by stroke? Up to which t at least a digit of the
# same kind?

# %% tags=["machine-dependent"]
denoise = ask(average.module, schedule, limit=1.0)
chosen = [50, 150, 250, 350, 450, 550, 700, 1000]
shown = [int(np.flatnonzero(validation[1] == d)[1]) for d in (0, 3)]
originals = validation[0][:30]
columns, same, distance = [np.concatenate([originals[i, 0] for i in shown for _ in range(2)])], [], []
for t in chosen:
    noised, restored = reconstruct(denoise, originals, t, schedule, np.random.default_rng(3), steps=25)
    same.append(judge.agreement(to_pixels(restored), validation[1][:30]))
    distance.append(((restored - originals) ** 2).mean())
    columns.append(np.concatenate([image[i, 0] for i in shown for image in (noised, restored)]))
page = image_grid(np.stack(columns), ["original", *(f"t = {t}" for t in chosen)], columns=len(columns), limits=(-1, 1),
                  title="noised up to t, and below it what comes back")  # fmt: skip
for t, share, far in zip(chosen, same, distance, strict=True):
    kept = np.sqrt(schedule.alpha_bar[t])
    print(f"t = {t:4} (signal {kept:.3f}): read as the same digit {share:4.0%}, mean squared distance {far:.3f}")
apart = ((originals[:-1] - originals[1:]) ** 2).mean()
print(f"two different held-out digits are {apart:.3f} apart")
assert same[0] > 0.8 > 0.6 > same[-1] and distance[0] < 0.02 < 0.3 < distance[-1]
page

# %% [markdown]
# First the grain is invented, then how a stroke is bent, then which digit it is: above t = 450 fewer and fewer come
# back as what they were. So the levels of noise have different jobs, which is what the simple loss is about. From t =
# 700 on the pictures fall apart, and that is not the noise's doing but our network's, as section 5 has shown.
#
# From t = 1,000 nothing of the original is left, and what comes back is a sample: the network draws. With what you know
# now, what do you expect?

# %% tags=["machine-dependent"]
noise = np.random.default_rng(4).standard_normal((16, 1, 28, 28)).astype(np.float32)
drawn = to_pixels(ddim(denoise, noise, schedule, spaced(schedule.T, 25)))
seen = judge.labels(drawn)
zeros, threes = np.sum(seen == 0), np.sum(seen == 3)
print(f"of 16, the judge reads {zeros} as 0, {threes} as 3 and {16 - zeros - threes} as another digit")
assert drawn.shape == (16, 784) or drawn.shape == (16, 1, 28, 28)
image_grid(drawn, columns=8, limits=(0, 1), title="out of nothing but noise")

# %% [markdown]
# Strokes, and blots where the first steps went astray: it is there, at the largest t, that all is decided, and there an
# error counts most and is felt least. Nothing is wrong with the recipe; it wants more steps, and a rate that falls to 0
# in the end. The library's own run has 6,000 of them, 433,000 parameters and all ten digits
# ([train.py](../scratch/models/diffusion/train.py)). What it draws, and how the steps back are made, is the subject of
# [week 10](week10_sampling.ipynb).
#
# ## What to take with you
#
# - A U-Net looks far by halving and keeps what is fine in copies. Each block is told the time.
# - The bound is a weighted sum of errors of the noise; the simple loss drops the weights, and with them the interest in
#   the finest grain.
# - Little noise is hard to guess, much noise hides the image: the same error in two units. A low loss does not make
#   good samples, if what is left of it lies where all is decided.
# - The perfect answer to the loss is a memory. What is new comes from a network that cannot remember.
#
# On to the [page of the week](../docs/weeks/week9.md): the derivation, the rebuild, the experiment.
