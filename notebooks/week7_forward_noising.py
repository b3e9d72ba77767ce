# %% [markdown]
# # Week 7: drowning data in noise, and what it takes to come back
#
# In an hour: why anybody would destroy data step by step, the thousand steps written as one, the one step back that is
# known exactly, what a network must be asked so that it can take that step for data that nobody has seen, and a small
# one that learns to draw a ring of eight clumps.
#
# You need weeks 1 and 2: the tape, the mean squared error, Adam; and from school the normal distribution. All data here
# are points in the plane, but for one digit. [Week 8](week8_schedules.ipynb) asks how fast to drown, weeks 9 and 10
# draw images.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import softmax
from scratch.data import gaussian_ring, load_digits, ring_centres
from scratch.evaluation import count_modes, energy_distance, floor
from scratch.losses import mse_loss
from scratch.models.diffusion import MLPDenoiser, NoiseSchedule
from scratch.models.diffusion.inside import noising, score_field
from scratch.models.diffusion.noise import from_betas, linear
from scratch.models.diffusion.process import diffuse, diffuse_one_step, posterior, x0_and_eps
from scratch.models.diffusion.sampling import ask, ddpm, spaced
from scratch.models.diffusion.tasks import from_pixels
from scratch.optim import Adam, AveragedModel
from scratch.schedules import cosine as falling
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure, image_grid, smoothed
from scratch.viz.style import COLOURS, DASHES, GREY, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. Why noise?
#
# We want a machine that takes random numbers, which are cheap, and turns them into data: digits, faces, points on a
# ring. Nobody can write this machine down. But everybody can write down its opposite: add noise to a digit until it is
# nothing else. Each step of that destruction is known exactly, for every digit that we have. So there are as many
# worked examples as one could wish for of the way from data to noise, and a network can study them and learn to go
# back, one small step at a time.
#
# For now take for granted that after $t$ of $T = 1000$ steps
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\;\varepsilon, \qquad \varepsilon \sim N(0, 1)$$
#
# with $\bar\alpha_t$ falling from 1 to almost 0. Below, a digit of 28×28 pixels, from $-1$ (paper) to 1 (ink), and
# points on a ring of eight clumps, scaled to variance 1, drown side by side in noise of the same size.
#
# **Predict 1.** You get a drowned digit and the 1,000 clean ones, and look for the one it was: how often is it the one
# that is nearest, at $t = 300$ ($\bar\alpha = 0.40$)? And how often does a drowned point lie nearest to its own one of
# the *eight* clumps? Which of the two drowns first, and why?

# %%
schedule = linear(1000)
times = (0, 50, 100, 200, 300, 400, 500, 700, 1000)
digits = load_digits(flat=False).test
images = noising(from_pixels(digits).inputs, times, schedule, np.random.default_rng(0))  # (N, times, 1, 28, 28)
image_grid(np.clip(images[3], -2, 2), [f"t = {t}" for t in times], columns=len(times), limits=(-2, 2), cell=1.05)

# %%
scale = np.float32(gaussian_ring(50_000).inputs.std())  # 1.42: what follows is in units of it
centres, sigma = ring_centres() / scale, 0.1 / scale  # the clumps, and the deviation within one
ring = gaussian_ring(2000, seed=1)
points = noising(ring.inputs / scale, times, schedule, np.random.default_rng(0))  # (N, times, 2)
for k, t in enumerate(times):
    right = []
    for x, candidates, truth in (
        (images[:, k].reshape(-1, 784), images[:, 0].reshape(-1, 784), np.arange(len(images))),
        (points[:, k], centres, ring.targets),
    ):
        candidates = np.sqrt(schedule.alpha_bar[t]) * candidates
        squared = (candidates**2).sum(axis=1) - 2 * x @ candidates.T  # |x − c|², without |x|²
        right.append((squared.argmin(axis=1) == truth).mean())
    a = schedule.alpha_bar[t]
    print(f"t = {t:4}, ᾱ = {a:.5f}: found of {len(images)} digits {right[0]:6.1%}, of 8 clumps {right[1]:6.1%}")

page, axes = figure(1, 5, panel=(2.2, 2.4))
for panel, k in zip(axes[0], (0, 1, 3, 4, 8), strict=True):
    for mode in range(8):
        mine = points[ring.targets == mode, k][:100]
        panel.plot(*mine.T, MARKERS[mode], color=COLOURS[mode], markersize=2)
    panel.set_xlim(-3, 3)
    panel.set_ylim(-3, 3)
    panel.set_aspect("equal")
    label(panel, f"t = {times[k]}")
page

# %% [markdown]
# The noise on each number is the same, but a digit is 784 numbers that belong together, and their noise averages out:
# at $t = 400$, when the eye has given up, 95 of 100 digits are still found among a thousand. Of the points one in four
# is found among eight, where chance finds one in eight: a point has its two numbers and no others. So **how long
# something survives in noise depends on how many numbers say the same**, and the coarse, which is in many of them,
# survives longer than the fine. Going back, the coarse must come first.
#
# ## 2. A thousand steps in one
#
# One step of the chain shrinks a little and adds a little noise:
#
# $$x_t = \sqrt{\alpha_t}\; x_{t-1} + \sqrt{\beta_t}\;\varepsilon_t, \qquad \alpha_t = 1 - \beta_t$$
#
# **Predict 2.** All $\beta_t = 0.1$, and the numbers $x_0$ have mean 3 and variance 4. What are mean and variance of
# $x_1$? ($\operatorname{var}(ax) = a^2 \operatorname{var} x$, and variances of independent numbers add.) Towards what
# do they go? And what happens to the variance if one forgets to shrink, $x_t = x_{t-1} + \sqrt{\beta}\,\varepsilon$?

# %%
rng = np.random.default_rng(0)
x = y = 3 + 2 * rng.standard_normal((100_000, 1))
even = from_betas(np.full(100, 0.1))
for t in range(1, 101):
    noise = rng.standard_normal(x.shape)
    x, y = diffuse_one_step(x, t, noise, even), y + np.sqrt(0.1) * noise
    if t in (1, 2, 10, 30, 100):
        print(f"after {t:3} steps: mean {x.mean():6.3f}, variance {x.var():.3f}; without shrinking {y.mean():.3f} and "
              f"{y.var():6.3f}")

# %% [markdown]
# $0.9 \cdot 4 + 0.1 = 3.7$, and so on towards $1$: if the variance is 1, then $\alpha \cdot 1 + \beta = 1$ again.
# Whatever the data were, the end is the same $N(0, 1)$, and *that* we can draw from. That is why each step shrinks.
#
# Now all at once. Put $x_{t-1}$ into $x_t$:
#
# $$x_t = \sqrt{\alpha_t \alpha_{t-1}}\; x_{t-2} + \sqrt{\alpha_t \beta_{t-1}}\; \varepsilon_{t-1}
# + \sqrt{\beta_t}\; \varepsilon_t$$
#
# The last two terms are independent and normal, so their sum is one normal number, with variance
# $\alpha_t \beta_{t-1} + \beta_t = \alpha_t (1 - \alpha_{t-1}) + 1 - \alpha_t = 1 - \alpha_t \alpha_{t-1}$. Go on like
# this down to $x_0$, and with $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ it is the formula of section 1. A
# thousand steps cost as much as one; a network can be shown any $t$ of any example at once.
#
# Is it so? 20,000 chains, all from $x_0 = 2$, one step after the other, beside the formula:

# %%
chains, kept = np.full((20_000, 1), 2.0), [np.full(6, 2.0)]
for t in range(1, 1001):
    chains = diffuse_one_step(chains, t, rng.standard_normal(chains.shape), schedule)
    kept.append(chains[:6, 0])
    if t in (1, 10, 100, 300, 1000):
        a = schedule.alpha_bar[t]
        print(f"t = {t:4}: mean {chains.mean():7.4f}, by the formula {2 * np.sqrt(a):7.4f}; "
              f"variance {chains.var():.5f}, by the formula {1 - a:.5f}")

page, axes = figure(1, 1, panel=(8.6, 3.3))
panel, t = axes[0, 0], np.arange(1001)
middle, spread = 2 * np.sqrt(schedule.alpha_bar), 2 * np.sqrt(1 - schedule.alpha_bar)
panel.fill_between(t, middle - spread, middle + spread, color="#D9E8F3", label="formula: mean ± 2 deviations")
panel.plot(t, np.array(kept), color=GREY, linewidth=0.6)
panel.plot(t, middle, color=COLOURS[0], label="formula: mean")
label(panel, "six chains, step by step, and where the formula has them", "t", "x")
legend(panel)
page

# %% [markdown]
# The chains fill the band. But note what the formula is *not*: it says where each $x_t$ is, not how $x_t$ and $x_{t-1}$
# hang together. Two $x_t$ that you draw with the formula, with fresh noise each, are no chain.
#
# ## 3. One step back, if one knew where it came from
#
# Somebody shows you $x_t$ and tells you $x_0$. Where was $x_{t-1}$? It is a question for Bayes:
#
# $$q(x_{t-1} \mid x_t, x_0) \;\propto\; \underbrace{q(x_t \mid x_{t-1})}_{\text{one step}}\;
# \underbrace{q(x_{t-1} \mid x_0)}_{\text{closed form}}
# \;\propto\; \exp\Big(-\frac{(x_t - \sqrt{\alpha_t}\, x_{t-1})^2}{2 \beta_t}
# - \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\, x_0)^2}{2 (1 - \bar\alpha_{t-1})}\Big)$$
#
# Both brackets are quadratic in $x_{t-1}$, so it is normal again. Two witnesses: the first says that $x_{t-1}$ is near
# $x_t / \sqrt{\alpha_t}$, with *precision* (one over the variance) $\alpha_t / \beta_t$; the second, near
# $\sqrt{\bar\alpha_{t-1}}\, x_0$ with precision $1 / (1 - \bar\alpha_{t-1})$. Precisions add, and the mean is that of
# the two, weighted with them.
#
# **Predict 3.** $\bar\alpha_1 = \tfrac12$, $\bar\alpha_2 = \tfrac14$, so $\alpha_2 = \beta_2 = \tfrac12$. Given
# $x_0 = 2$ and $x_2 = 1$: what are the two precisions, the variance of $x_1$, and its mean? ($\sqrt2 \approx 1.414$.)

# %%
def bell(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


halves = NoiseSchedule(np.array([1.0, 0.5, 0.25]))
x1 = diffuse_one_step(np.full((400_000, 1), 2.0), 1, rng.standard_normal((400_000, 1)), halves)
x2 = diffuse_one_step(x1, 2, rng.standard_normal(x1.shape), halves)
near = x1[np.abs(x2 - 1) < 0.05]  # of 400,000 chains, those that came by
mean, variance = (float(each[0, 0]) for each in posterior(np.array([[2.0]]), np.array([[1.0]]), 2, halves))
print(f"Bayes:                      mean {mean:.3f}, variance {variance:.3f}")
print(f"counted, {len(near):6,} chains:     mean {near.mean():.3f}, variance {near.var():.3f}")

line = np.linspace(-2, 4, 301)
page, axes = figure(1, 1, panel=(6.4, 3.0))
axes[0, 0].hist(x1[:, 0], bins=90, range=(-2, 4), density=True, color="#DDDDDD", label="x₁ of all chains")
axes[0, 0].hist(near, bins=60, range=(-2, 4), density=True, histtype="step", color=COLOURS[0], hatch="///",
                label="x₁ of those with x₂ = 1")  # fmt: skip
axes[0, 0].plot(line, bell(line, mean, variance), color=COLOURS[1], label="Bayes")
label(axes[0, 0], "does the count agree with Bayes?", "x₁", "density")
legend(axes[0, 0])
page

# %% [markdown]
# Precisions $\tfrac{1/2}{1/2} = 1$ and $\tfrac{1}{1/2} = 2$: the variance is $\tfrac13$. The mean is
# $(1 \cdot \sqrt2 + 2 \cdot \sqrt2) / 3$: both witnesses happen to say $\sqrt2$.
#
# **Fill in 1.** The same for any $t$, and a whole batch whose rows have different times. Multiply out, with
# $\alpha_t = \bar\alpha_t / \bar\alpha_{t-1}$, and simplify the sum of the precisions: with
# $\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$ it becomes a single fraction. (Why must you simplify?
# At $t = 1$ one of the precisions is infinite.)


# %%
def my_posterior(x0, x, t, alpha_bar):
    """(mean (B, d), variance (B, 1)) of q(x_{t−1} | x_t, x_0): x0 and x (B, d), t (B,) from 1, alpha_bar (T + 1,)."""
    # now, before = ...           ᾱ_t and ᾱ_{t−1} of each row, as columns (B, 1)
    # alpha, beta = ...
    # variance = ...
    # mean = ... * x0 + ... * x
    # return mean, variance
    return ...


# %%
def library_posterior(x0, x, t, alpha_bar):
    return posterior(x0, x, t, NoiseSchedule(alpha_bar))


def draw_case(seed, B, d, T):
    r = np.random.default_rng(seed)
    return [r.standard_normal((B, d)), r.standard_normal((B, d)), 1 + r.integers(0, T, B), linear(T).alpha_bar]


first_step = [np.array([[1.0, -2.0]]), np.array([[0.5, 0.5]]), np.array([1]), linear(50).alpha_bar]
check.function(my_posterior, library_posterior, [draw_case(0, 5, 2, 1000), draw_case(1, 40, 3, 40), first_step])

# %% [markdown]
# That is the step back for data we *have*. To draw new data we must do without $x_0$. Let the world have two numbers,
# $x_0 = 1$ or $-1$, equally often, and somebody shows $x_t = 0$, with $\bar\alpha_t = \tfrac12$. Then
#
# $$q(x_{t-1} \mid x_t) \;\propto\; q(x_t \mid x_{t-1}) \sum_{x_0 = \pm 1} \tfrac12\, q(x_{t-1} \mid x_0)$$
#
# **Predict 4.** Sketch this density, for a step so large that it is the first ($\alpha_t = 0.51$, $x_{t-1}$ is almost
# $x_0$), for one of $\alpha_t = 0.7$, and for a small one, $\alpha_t = 0.98$. In which cases would a normal
# distribution do?

# %%
page, axes = figure(1, 3, panel=(3.3, 2.8))
line = np.linspace(-2, 2, 2001)
for panel, alpha in zip(axes[0], (0.51, 0.7, 0.98), strict=True):
    before = 0.5 / alpha  # ᾱ_{t−1}
    density = sum(bell(line, sign * np.sqrt(before), 1 - before) for sign in (1, -1))
    density *= bell(0, np.sqrt(alpha) * line, 1 - alpha)
    density /= density.sum() * (line[1] - line[0])
    spread = (density * line**2).sum() * (line[1] - line[0])
    panel.fill_between(line, density, color="#D9E8F3", label="exact")
    panel.plot(line, bell(line, 0, spread), color=COLOURS[1], linestyle=DASHES[1], label="normal")
    off = np.abs(density - bell(line, 0, spread)).sum() * (line[1] - line[0]) / 2
    label(panel, f"α = {alpha}: {off:.0%} misplaced", "x before", "density" if alpha < 0.6 else "")
legend(axes[0, 2])
page

# %% [markdown]
# After one huge step back there are two answers, and their mean, 0, is none. After a small step there is one, and it is
# normal to within a percent: **this is why there are many small steps.** For a small step we know the shape and the
# variance; only the *mean* depends on the data, and that is what a network must find out. And the mean is easy:
# $\tilde\mu$ is linear in $x_0$, so put into it the mean of all $x_0$ that may be behind $x_t$, $\mathbb{E}[x_0 \mid
# x_t]$.
#
# ## 4. Three ways to ask
#
# A network that is shown many pairs and punished with the squared error ends up saying the mean of what may be the
# answer. So show it $x_t$ and $t$, and ask for $x_0$. Or ask for $\varepsilon$: one determines the other, as
# $x_t = \sqrt{\bar\alpha}\, x_0 + \sqrt{1 - \bar\alpha}\, \varepsilon$ and $x_t$ is known. Or for a mixture of both,
# $v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1 - \bar\alpha}\, x_0$. The answers can be exchanged; the *mistakes* are
# not the same.
#
# **Predict 5.** A network says $\hat\varepsilon$, wrong by 0.1. How wrong is the $\hat x_0$ that follows, at $t = 10$
# ($\bar\alpha = 0.998$), 300 (0.40), 1000 (0.00004)? And if it says $\hat x_0$, wrong by 0.1, how wrong is
# $\hat\varepsilon$? And for $v$?

# %%
x0, eps = np.array([[1.0]]), np.array([[0.5]])
for t in (10, 300, 1000):
    x, a = diffuse(x0, t, eps, schedule), schedule.alpha_bar[t]
    right = {"eps": eps, "x0": x0, "v": np.sqrt(a) * eps - np.sqrt(1 - a) * x0}
    for kind, truth in right.items():
        said_x0, said_eps = x0_and_eps(kind, truth + 0.1, x, t, schedule)
        errors = np.abs(said_x0 - x0).item(), np.abs(said_eps - eps).item()
        print(f"t = {t:4}, asked for {kind:3}, wrong by 0.1: x̂_0 is wrong by {errors[0]:8.4f}, ε̂ by {errors[1]:8.4f}")

# %% [markdown]
# Of $\varepsilon$ to $x_0$ one divides by $\sqrt{\bar\alpha}$, which is tiny at the end: there, a small error about the
# noise is a huge one about the data (sixteen for a tenth). The other way, one divides by $\sqrt{1 - \bar\alpha}$, tiny
# at the beginning. With $v$, no error ever grows: $(x_t, v)$ is $(x_0, \varepsilon)$ turned by an angle. That says only
# how errors are passed on, not how large they are; week 8 measures that. Until then we ask for $\varepsilon$, as the
# first papers did.
#
# ## 5. The best answer there is
#
# For our ring the best answer can be computed, so we know beforehand what the network should learn. At time $t$ the
# density of $x_t$ is again a mixture of eight Gaussians, with means $m_k = \sqrt{\bar\alpha_t}\, c_k$ and variance
# $s^2 = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t$:
#
# $$q(x) = \frac1K \sum_k \frac{1}{2\pi s^2} e^{-|x - m_k|^2 / 2 s^2}, \qquad
# \nabla \log q(x) = \sum_k p_k \frac{m_k - x}{s^2}, \qquad
# p_k = \frac{e^{-|x - m_k|^2 / 2 s^2}}{\sum_j e^{-|x - m_j|^2 / 2 s^2}}$$
#
# $p_k$ is how likely it is that $x$ came from clump $k$. The gradient of $\log q$, called the **score**, points to
# where data are denser. It is also what we ask the network for: in $\varepsilon = (x_t - \sqrt{\bar\alpha}\, x_0) /
# \sqrt{1 - \bar\alpha}$ you see that $-\varepsilon / \sqrt{1 - \bar\alpha}$ is the score of $q(x_t \mid x_0)$, and the
# mean of these over all $x_0$ behind $x_t$ is the score of $q(x_t)$ (the page of this week shows it):
#
# $$\mathbb{E}[\varepsilon \mid x_t] = -\sqrt{1 - \bar\alpha_t}\;\nabla \log q(x_t)$$
#
# **Fill in 2.** $\log q$ as an operation on the tape, with the gradients of $x$ and of the means (they have the same
# terms, with opposite signs, summed over different axes). $e^{-1000}$ is 0, so take the largest exponent out of the sum
# first.


# %%
def my_log_density(x, means, variance):
    """log q of Tensors x (B, 2), means (K, 2) and a number: the mixture of K Gaussians, all as likely → (B,)"""
    # off = x.data[:, None] - means.data              (B, K, 2)
    # powers = ...                                    (B, K), −|x − m|² / 2 s²
    # largest = powers.max(axis=1, keepdims=True)
    # value = ...                                     (B,)
    # p = ...                                         (B, K), rows sum to 1
    # def backward(dy):                               dy (B,)
    #     pulls = ...                                 (B, K, 2)
    #     return ..., ...                             of the shapes of x and means
    # return record(value, (x, means), backward)
    return ...


# %%
def log_density(x, means, variance):
    """The same of single operations, the largest exponent being a constant."""
    off = x.reshape(-1, 1, 2) - means.reshape(1, -1, 2)
    powers = (off * off).sum(axis=2) / (-2 * variance)
    largest = Tensor(powers.data.max(axis=1, keepdims=True))
    total = (powers - largest).exp().sum(axis=1) / len(means)
    return total.log() + largest.reshape(-1) - float(np.log(2 * np.pi * variance))


r = np.random.default_rng(0)
cases = [[r.standard_normal((B, 2)), r.standard_normal((K, 2)), s2] for B, K, s2 in ((4, 3, 0.5), (1, 8, 2.0))]
cases.append([np.array([[50.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]), 0.01])
check.operation(my_log_density, log_density, cases)

# %% [markdown]
# **Predict 6.** $x_t$ lies at the centre of the ring, exactly as far from all eight clumps. What is the best answer to
# "what is $x_0$"? Is there any data point there? And how far do you expect the arrows of the score to point to the
# *nearest* clump, at $t = 50$, 200 and 700?

# %%
def exact(x, t):
    """(E[x_0 | x_t], E[ε | x_t]) of the ring: the best answer in the mean square, as `ddpm` asks for it."""
    a = schedule.alpha_bar[t]
    means, variance = np.sqrt(a) * centres, a * sigma**2 + 1 - a
    off = means - x[:, None]
    p = softmax(Tensor((off * off).sum(axis=2) / (-2 * variance)), dim=1).data
    score = (p[:, :, None] * off).sum(axis=1) / variance
    return ((x + (1 - a) * score) / np.sqrt(a)).astype(x.dtype), (-np.sqrt(1 - a) * score).astype(x.dtype)


print("at the centre, t = 200: x̂_0 =", exact(np.zeros((1, 2)), 200)[0][0].round(6) + 0.0)


def draw_arrows(panel, denoise, t):
    """The score's direction at each place, all arrows of one length, over noised points."""
    panel.plot(*diffuse(ring.inputs[:600] / scale, t, noise, schedule).T, ".", color="#BBBBBB", markersize=2)
    places, score = score_field(denoise, t, schedule, reach=2.2, count=15)
    score = score / np.maximum(np.linalg.norm(score, axis=1, keepdims=True), 1e-9)
    panel.quiver(*places.T, *score.T, color=COLOURS[0], angles="xy", scale=17, width=0.006)
    panel.plot(*(np.sqrt(schedule.alpha_bar[t]) * centres).T, "x", color=COLOURS[1], markersize=5)
    panel.set_aspect("equal")
    panel.set_xlim(-2.4, 2.4)
    panel.set_ylim(-2.4, 2.4)


noise = r.standard_normal((600, 2)).astype(np.float32)
page, axes = figure(1, 3, panel=(3.5, 3.7))
for panel, t in zip(axes[0], (50, 200, 700), strict=True):
    draw_arrows(panel, exact, t)
    label(panel, f"score at t = {t}")
page

# %% [markdown]
# The best answer at the centre is the centre: the mean of eight places, none of which is the mean. It is a bad *guess*
# and the right *direction*: "somewhere out there, I can't say where". With little noise each place belongs to its
# nearest clump. With much, the clumps are one cloud, and all arrows point to its middle. A walk that follows the arrows
# from large $t$ to small first learns roughly where, then exactly where. Coarse before fine, as in section 1.
#
# ## 6. A network learns it
#
# [MLPDenoiser](../scratch/models/diffusion/model.py) reads two numbers and the time, as sines and cosines of many
# speeds, and says two numbers. Training is five lines: draw examples, a time and noise for each, make $x_t$ in one
# step, ask for $\varepsilon$, go down the squared error. Its last layer starts at 0, so that it begins by saying
# $\hat\varepsilon = 0$.
#
# **Predict 7.** What is the mean squared error in the first step? Does it go to 0? At which $t$ is $\varepsilon$
# easiest to guess, and why?

# %% tags=["machine-dependent"]
STEPS, BATCH = 4000, 256
data = gaussian_ring(50_000).inputs / scale
manual_seed(0)
rng = np.random.default_rng(0)
model = MLPDenoiser(features=2, hidden=64, layers=3)
average, optimizer, rate = AveragedModel(model, 0.995), Adam(model.parameters()), falling(3e-3, STEPS, warmup=100)
losses = []
for step in range(STEPS):
    x0 = data[rng.integers(0, len(data), BATCH)]
    t = rng.integers(1, schedule.T + 1, BATCH)  # each row has its own
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    loss = mse_loss(model(Tensor(diffuse(x0, t, eps, schedule)), t), Tensor(eps))
    optimizer.zero_grad()
    loss.backward()
    optimizer.lr = rate(step)
    optimizer.step()
    average.update_parameters(model)
    losses.append(loss.item())
learned = ask(average.module, schedule)  # a function of x and t, like `exact`

looked = np.unique(np.geomspace(1, 1000, 25).astype(int))
x0, errors = gaussian_ring(1000, seed=3).inputs / scale, {"network": [], "best possible": []}
for t in looked:
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    x = diffuse(x0, int(t), eps, schedule)
    for name, denoise in (("network", learned), ("best possible", exact)):
        errors[name].append(((denoise(x, int(t))[1] - eps) ** 2).mean())
best = []
for t in range(5, 1001, 10):
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    best.append(((exact(diffuse(x0, t, eps, schedule), t)[1] - eps) ** 2).mean())
print(f"error in the first step {losses[0]:.3f}, mean of the last 200 {np.mean(losses[-200:]):.4f}, "
      f"best possible {np.mean(best):.4f}")
assert 0.9 < losses[0] < 1.1 and np.mean(best) - 0.01 < np.mean(losses[-200:]) < np.mean(best) + 0.02

page, axes = figure(1, 2, panel=(4.4, 3.1))
axes[0, 0].plot(smoothed(losses, 25), color=COLOURS[0], label="network")
axes[0, 0].axhline(np.mean(best), color=COLOURS[1], linestyle=DASHES[1], label="best possible")
log_scale(axes[0, 0])
for k, (name, values) in enumerate(errors.items()):
    axes[0, 1].plot(looked, values, MARKERS[k], color=COLOURS[k], linestyle=DASHES[k], markersize=4, label=name)
axes[0, 1].set_xscale("log")
label(axes[0, 0], "does it go to 0?", "step", "mean squared error of ε̂")
label(axes[0, 1], "which t are hard?", "t")
legend(axes[0, 0])
legend(axes[0, 1])
page

# %% [markdown]
# It begins at 1, the variance of noise, and cannot go to 0, since part of $\varepsilon$ can't be known from $x_t$. Read
# the curve from the right. With a lot of noise, $\hat\varepsilon \approx x_t$ is nearly all of the truth. The hill:
# from which clump did it come? The valley: that is clear, and the noise is still larger than a clump, so most of it is
# seen. On the left the noise is smaller than a clump, and disappears in it. A loss of 0.19 is therefore no sign of a
# bad network: compare it with the best there is. This one comes within a percent.
#
# ## 7. One look at the way back
#
# [ddpm](../scratch/models/diffusion/sampling.py) starts with noise and takes the step of section 3 a thousand times,
# with the $\hat x_0$ that follows from what the network says: $x_{t-1} = \tilde\mu(\hat x_0, x_t) +
# \sqrt{\tilde\beta_t}\, z$.
#
# **Predict 8.** Of 1,000 points: what do the $x_t$ look like at $t = 500$, and what the $\hat x_0$? When does a point
# decide for its clump? And are the finished points as good as real ones?

# %% tags=["machine-dependent"]
shown, seen = (1000, 500, 300, 200, 100, 50), {}


def look(t, x, guess):
    if t in shown:
        seen[t] = x, guess


start = np.random.default_rng(1).standard_normal((1000, 2)).astype(np.float32)
def real(seed, n=1000):
    """Points of the ring, the clumps by chance, as a sampler has them."""
    rng = np.random.default_rng(seed)
    return centres[rng.integers(0, 8, n)] + sigma * rng.standard_normal((n, 2))


drawn = {"network": ddpm(learned, start, schedule, spaced(1000), np.random.default_rng(2), look=look),
         "best possible": ddpm(exact, start, schedule, spaced(1000), np.random.default_rng(2)),
         "real": real(7)}  # fmt: skip
held_out = real(5)
between = floor(energy_distance, lambda seed: real(100 + seed), draws=20)
for name, each in drawn.items():
    modes = count_modes(each, centres, sigma)
    print(f"{name:13}: points within 3 deviations of a clump {modes.inside:6.1%}, deviation of a clump "
          f"{np.nanmean(modes.deviations) / sigma:.2f} of the real one, clumps hold {modes.counts.min()} to "
          f"{modes.counts.max()}, energy distance {energy_distance(each, held_out):.5f}")
print(f"energy distance between two sets of real points: {between.mean():.5f}, largest of 20: {between.max():.5f}")
modes = count_modes(drawn["network"], centres, sigma)
assert modes.inside > 0.85 and modes.counts.min() > 50

page, axes = figure(2, 7, panel=(1.75, 1.95), sharex=True, sharey=True)
final = drawn["network"]
for column, t in enumerate((*shown, 0)):
    for row, each in enumerate(seen[t] if t else (final, final)):
        axes[row, column].plot(*each[:500].T, ".", color=COLOURS[row], markersize=1.5)
        axes[row, column].set_xlim(-2.6, 2.6)
        axes[row, column].set_ylim(-2.6, 2.6)
        axes[row, column].set_aspect("equal")
    label(axes[0, column], f"t = {t}", y="x_t" if not column else "")
    label(axes[1, column], "", y="x̂₀" if not column else "")
page

# %% [markdown]
# At $t = 1000$ the guesses lie all over the place, beyond the picture too, though the best answer is the centre: to say
# $x_0$, the network's small errors about $\varepsilon$ are multiplied by 160 (section 4). It does no harm here, as the
# step back takes only a ten-thousandth of this guess. At 500 they are where they should be, close to the centre, since
# they are means of all clumps; then on a disc, then on the ring, and between 200 and 100 each point decides. Half of
# the thousand steps went by before anything could be seen: that is a matter of the schedule, and of week 8. The last
# picture holds points that were in no data set.
#
# As good as real ones? The energy distance cannot tell the three sets apart: each is as far from other real points as
# real points are. But counting can. The best possible denoiser, with the same thousand steps, leaves as many points
# outside the clumps as real data do, so the sampler costs nothing. The network leaves five in a hundred: they lie
# between two clumps, where the score changes quickest.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week7.md): the derivations in full, and why guessing noise is learning the
#   score.
# - Rebuild, from that page: the sampler, tested with a denoiser that knows the answer.
# - [noise.py](../scratch/models/diffusion/noise.py) and [process.py](../scratch/models/diffusion/process.py): all of
#   the above in two hundred lines.
