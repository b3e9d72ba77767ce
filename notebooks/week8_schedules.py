# %% [markdown]
# # Week 8: how fast to drown
#
# In an hour: four schedules and the one curve in which they differ, what goes wrong when a schedule destroys too early
# or never finishes, how many of a thousand steps a sampler needs, and why "guess the noise", "guess the data" and
# "guess v" are one loss with three weights. All of it measured in the plane, where the best possible answer is known.
#
# You need [week 7](week7_forward_noising.ipynb): the closed form $x_t = \sqrt{\bar\alpha_t}\, x_0 +
# \sqrt{1 - \bar\alpha_t}\, \varepsilon$, the posterior, and the best answer $\mathbb{E}[x_0 \mid x_t]$ of a mixture of
# Gaussians.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import softmax
from scratch.data import gaussian_ring, ring_centres
from scratch.evaluation import energy_distance, floor
from scratch.losses import mse_loss
from scratch.models.diffusion import MLPDenoiser
from scratch.models.diffusion.noise import cosine, from_log_snr, linear, sigmoid
from scratch.models.diffusion.process import diffuse, target
from scratch.models.diffusion.sampling import ask, ddim, ddpm, spaced
from scratch.optim import Adam, AveragedModel
from scratch.schedules import cosine as falling
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure
from scratch.viz.style import COLOURS, DASHES, GREY, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. Four schedules, one curve
#
# A schedule is a sequence $\bar\alpha_0 = 1 > \bar\alpha_1 > \dots > \bar\alpha_T > 0$. Four ways to write one down:
#
# - **linear** (Ho et al. 2020): $\beta_t$ rises along a line, from 0.0001 to 0.02.
# - **cosine** (Nichol and Dhariwal 2021): $\bar\alpha_t$ itself follows $\cos^2$, from 1 to 0.
# - **sigmoid** (Jabri et al. 2022): $\bar\alpha_t$ follows a falling logistic curve, stretched to reach from 1 to 0.
# - **in signal to noise** (Kingma et al. 2021): $\log \mathrm{snr}_t$ is given, and
#   $\bar\alpha_t = 1 / (1 + e^{-\log \mathrm{snr}_t})$.
#
# The *signal-to-noise ratio* is the power of what is left of the data over the power of the noise:
#
# $$\mathrm{snr}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$
#
# **Predict 1.** T = 1,000. For the linear schedule: what is $\bar\alpha$ half way, at $t = 500$? (The mean of the first
# 500 $\beta$ is about 0.005, and $1 - \beta \approx e^{-\beta}$.) And for the cosine? At which $t$ are signal and noise
# equally strong? Which of the two spends more steps where hardly anything is left, say below snr = 1 %?

# %%
T = 1000
schedules = {"linear": linear(T), "cosine": cosine(T), "sigmoid": sigmoid(T),
             "even in log snr": from_log_snr(np.linspace(9, -9, T))}  # fmt: skip
for name, s in schedules.items():
    equal = np.abs(s.alpha_bar - 0.5).argmin()
    print(f"{name:15}: ᾱ at t = 500 {s.alpha_bar[500]:.3f}, at the end {s.alpha_bar[-1]:.1e}; as much noise as signal "
          f"at t = {equal}; steps below snr = 1 %: {(s.snr < 0.01).sum()}, above 100: {(s.snr[1:] > 100).sum()}")

page, axes = figure(1, 2, panel=(4.5, 3.3))
for k, (name, s) in enumerate(schedules.items()):
    axes[0, 0].plot(s.alpha_bar, color=COLOURS[k], linestyle=DASHES[k], label=name)
    axes[0, 1].plot(np.arange(1, T + 1), s.snr[1:], color=COLOURS[k], linestyle=DASHES[k])
axes[0, 1].set_yscale("log")
axes[0, 1].set_ylim(1e-5, 1e5)
for bound in (0.01, 100):
    axes[0, 1].axhline(bound, color=GREY, linewidth=1)
label(axes[0, 0], "how much signal is left?", "t", "ᾱ")
label(axes[0, 1], "signal to noise (lines: 1 % and 100)", "t", "snr")
legend(axes[0, 0])
page

# %% [markdown]
# The linear schedule has 8 % left half way, and spends a third of its steps where the noise is a hundred times as
# strong as the signal, or more. Cosine and sigmoid fall through the middle evenly, and are nearly the same but for
# their ends. A schedule even in log snr spends as many steps on each power of ten: here 244 each on what is as good as
# clean and as good as noise.
#
# **Fill in 1.** The cosine schedule. Two things to care for. The curve's $\bar\alpha_T$ is 0, and the last
# $\beta_T = 1$: a step that leaves nothing could not be undone (what in the posterior would divide by zero?). So each
# $\beta_t = 1 - f(t)/f(t-1)$ is limited to 0.999, and $\bar\alpha$ is multiplied together from these.


# %%
def my_cosine(T, s=0.008):
    """ᾱ (T + 1,) with ᾱ_0 = 1, from f(t) = cos²((t/T + s) / (1 + s) · π/2) and β_t = min(1 − f(t)/f(t − 1), 0.999)."""
    # f = ...                  (T + 1,)
    # beta = ...               (T,), of t = 1 … T
    # return ...               np.cumprod multiplies up
    return ...


# %%
def library_cosine(T, s=0.008):
    return cosine(T, s).alpha_bar


check.function(my_cosine, library_cosine, [[4], [1000], [50, 0.02]])

# %% [markdown]
# ## 2. A schedule is a clock
#
# Divide by $\sqrt{\bar\alpha_t}$, and
#
# $$u = \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \frac{\varepsilon}{\sqrt{\mathrm{snr}_t}}$$
#
# In these units nothing but the snr is left: every schedule walks through the same family of noisy data, from clean to
# nothing, and only at different speeds. So two things about a schedule can matter: **where it ends**, and **how long it
# stays where**.
#
# To see it, the best possible denoiser for the ring of week 7 as a function of $\bar\alpha$ alone, and the sampler
# DDIM. Of week 10 you need only this: it has no dice, and goes from one time to any earlier one by *taking apart and
# putting together again*: $\hat x_0$ and $\hat\varepsilon$ from $x_t$, then $x_s = \sqrt{\bar\alpha_s}\, \hat x_0 +
# \sqrt{1 - \bar\alpha_s}\, \hat\varepsilon$.
#
# **Predict 2.** The same noise goes through DDIM with 25 steps, evenly spaced in the linear schedule's $t$. Then
# through the *cosine* schedule, at those of its times (of 100,000) that have the same snr. How far do the 2,000 points
# end from each other? And with 25 evenly spaced times of the cosine schedule?

# %%
data = gaussian_ring(50_000, noise=0.2).inputs
scale = data.std()  # all in units of it
data, centres, sigma = data / scale, ring_centres() / float(scale), 0.2 / float(scale)  # sigma: within a clump


def exact(schedule, share=1 / 8):
    """The best denoiser of the ring, (x, t) → (E[x_0 | x_t], E[ε | x_t]); `share` is how often each clump comes."""

    def denoise(x, t):
        a = schedule.alpha_bar[t]
        off = np.sqrt(a) * centres - x[:, None]  # (B, K, 2)
        variance = a * sigma**2 + 1 - a
        p = softmax(Tensor((off * off).sum(axis=2) / (-2 * variance) + np.log(share)), dim=1).data
        score = (p[:, :, None] * off).sum(axis=1) / variance
        return ((x + (1 - a) * score) / np.sqrt(a)).astype(x.dtype), (-np.sqrt(1 - a) * score).astype(x.dtype)

    return denoise


noise = np.random.default_rng(0).standard_normal((2000, 2))
reference, times = linear(T), spaced(T, 25)
by_linear = ddim(exact(reference), noise, reference, times)
fine = cosine(100_000)
same = np.abs(np.log(fine.snr[1:, None]) - np.log(reference.snr[times[1:]])).argmin(axis=0) + 1
by_cosine = ddim(exact(fine), noise, fine, np.concatenate([[0], same]))
evenly = ddim(exact(fine), noise, fine, spaced(100_000, 25))
for name, each in (("the same snr", by_cosine), ("evenly spaced", evenly)):
    apart = np.linalg.norm(each - by_linear, axis=1)
    print(f"linear and cosine, {name:13}: points end {np.median(apart):.5f} apart in the median, "
          f"{np.quantile(apart, 0.99):.4f} at most for 99 %")

# %% [markdown]
# With the same signal-to-noise ratios it is the same walk, step by step. The name of the schedule is nothing, the list
# of snr is all. (Training is different in one respect: $t$ is drawn evenly, so the schedule also says how often the
# network practises at each snr. Section 6.)
#
# ## 3. Where it ends
#
# The sampler begins with $N(0, 1)$. It is right only if $q(x_T)$ is $N(0, 1)$: $\bar\alpha_T \approx 0$.
#
# Let the eight clumps come unequally often, the right-hand ones more, in the ratio $1 + 0.9 \cos\varphi$: 77 % of the
# points have $x > 0$. The denoiser is the best possible, and takes all steps of DDPM: if the shares come out
# wrong, it is the schedule's end and nothing else.
#
# **Predict 3.** Linear schedules whose last $\beta$ is 0.02 ($\bar\alpha_T = 0.00004$), 0.01 (0.006), 0.005 (0.08),
# 0.002 (0.35), 0.001 (0.58). What share of the drawn points has $x > 0$? Too many or too few? Which $\bar\alpha_T$
# would you accept?

# %%
angle = 2 * np.pi * np.arange(8) / 8
share = (1 + 0.9 * np.cos(angle)) / 8
right = share @ np.where(np.isclose(np.cos(angle), 0), 0.5, np.cos(angle) > 0)
ends = {}
start = np.random.default_rng(1).standard_normal((4000, 2)).astype(np.float32)
for last in (0.02, 0.01, 0.005, 0.002, 0.001):
    s = linear(200, first=1e-4, last=last)
    drawn = ddpm(exact(s, share), start, s, spaced(200), np.random.default_rng(2))
    ends[s.alpha_bar[-1]] = drawn
    gap = np.sqrt(s.alpha_bar[-1]) * (share @ centres)[0]
    print(f"ᾱ_T = {s.alpha_bar[-1]:.5f}: the mean of q(x_T) is ({gap:.3f}, 0), drawn with x > 0: "
          f"{(drawn[:, 0] > 0).mean():.1%} (right: {right:.1%})")

page, axes = figure(1, 2, panel=(4.4, 3.1), width_ratios=[1.5, 1])
for k, (a, drawn) in enumerate(list(ends.items())[::2]):
    clump = ((drawn[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    axes[0, 0].plot(np.bincount(clump, minlength=8) / 4000, MARKERS[k], color=COLOURS[k], linestyle=DASHES[k],
                    label=f"ᾱ_T = {a:.2g}")  # fmt: skip
axes[0, 0].plot(share, "_", color="black", markersize=22, label="right")
axes[0, 0].set_ylim(0, None)
a, drawn = list(ends.items())[-1]
axes[0, 1].plot(*drawn[:1000].T, ".", color=COLOURS[2], markersize=2)
axes[0, 1].set_aspect("equal")
label(axes[0, 0], "how often is each clump drawn?", "clump (0 is on the right)", "share of 4,000 points")
label(axes[0, 1], f"ᾱ_T = {a:.2g}: looks right")
legend(axes[0, 0])
page

# %% [markdown]
# Nothing in the picture looks wrong: every clump is there, and as wide as it should be. But the *shares* are: at the
# start the real $x_T$ still lean to the right, the sampler's don't, and no later step can know. With $\bar\alpha_T =
# 0.08$ that is too little to be seen here, with 0.35 a good part of the lean is lost. What survives longest is the
# coarsest (week 7), in images the mean brightness. There a much smaller $\bar\alpha_T$ can be too large: Lin et al.
# (2024) found that a model in wide use, with $\bar\alpha_T = 0.0047$, could draw neither very dark nor very bright
# pictures.
#
# So let it end near 0, and early, to be on the safe side?
#
# ## 4. How long it stays where, and how many steps it takes
#
# A thousand steps are what the network is *trained* for. A sampler may visit only some of them, `spaced(1000, 20)`:
# what is between two visited times is one step of another schedule, with $\alpha = \bar\alpha_t / \bar\alpha_s$.
#
# Four schedules: the three, and one that destroys **too early**, linear with $\beta$ up to 0.2. The denoiser is still
# the best possible. Quality is the *energy distance* to real points, over what it is between two sets of real points: 1
# is "as real as real", 100 can be seen at once.
#
# **Predict 4.** With how many steps does DDIM (no dice) get below 10, for each schedule? Does DDPM (dice at each step)
# need more or fewer? And which of the schedules is the worst at 20 steps, and why?

# %%
early = linear(T, last=0.2)
compared = {"linear": linear(T), "cosine": cosine(T), "sigmoid": sigmoid(T), "too early": early}
counts = (3, 5, 10, 20, 50, 200)
N, start = 1000, start[:1000]


def draw(seed):
    """N points of the ring, the clumps by chance, as a sampler has them."""
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 8, N)] + sigma * rng.standard_normal((N, 2))).astype(np.float32)


real = draw(0)
between = floor(energy_distance, lambda seed: draw(100 + seed), draws=20)


def quality(points):
    """The energy distance to real points, in units of that between two sets of real points."""
    return energy_distance(points, real) / between.mean()


figures = {}
for name, s in compared.items():
    figures[name, "DDIM"] = [quality(ddim(exact(s), start, s, spaced(T, n))) for n in counts]
    figures[name, "DDPM"] = [quality(ddpm(exact(s), start, s, spaced(T, n), np.random.default_rng(3))) for n in counts]
    for sampler in ("DDIM", "DDPM"):
        told = "  ".join(f"{n}: {value:.3g}" for n, value in zip(counts, figures[name, sampler], strict=True))
        print(f"{name:9} {sampler}  {told}")
print(f"two sets of real points: 1 in the mean, {between.max() / between.mean():.2f} at most of 20")

page, axes = figure(1, 2, panel=(4.5, 3.4), sharey=True)
for panel, sampler in zip(axes[0], ("DDIM", "DDPM"), strict=True):
    for k, name in enumerate(compared):
        panel.plot(counts, figures[name, sampler], MARKERS[k], color=COLOURS[k], linestyle=DASHES[k], label=name)
    panel.axhline(1, color=GREY, linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xticks(counts, counts)
    panel.minorticks_off()
    label(panel, f"{sampler}: how many steps?", "steps", "energy distance, ÷ real" if sampler == "DDIM" else "")
log_scale(axes[0, 0])
legend(axes[0, 1])
page

# %% [markdown]
# (The distance between two sets of real points is 1 in the mean and up to 4 by chance: below that, nobody can tell.
# That the last values of DDIM lie below 1 is luck of this one start, which it keeps; DDPM throws dice, and its values
# dance.)
#
# What counts is how many of the visited times lie where something happens. With 5 steps the cosine is over six times
# as good as the linear schedule, which spends a third of them on noise. The one that destroys too early has nothing
# left at $t = 215$; of 20 evenly spaced steps, 16 go through pure noise. That is a waste, not a fault: with 50 steps it
# arrives too, since here the denoiser is perfect at every snr. The dice of DDPM cost a step or two, no more.
#
# Where a schedule *should* linger depends on the data. Our clumps are decided and sharpened at snr between 1 and 100.
# In images the coarse is decided far lower; the larger the image, the more pixels say the same, and the more noise it
# takes to hide it (week 7's digit). Schedules for large images are therefore shifted towards noise.
#
# ## 5. Three losses are one
#
# The network may be asked for $\varepsilon$, $x_0$ or $v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1 - \bar\alpha}\,
# x_0$. Whatever it says, an $\hat x_0$ follows. Put that in:
#
# $$|\varepsilon - \hat\varepsilon|^2 = \mathrm{snr}\; |x_0 - \hat x_0|^2, \qquad
# |v - \hat v|^2 = (1 + \mathrm{snr})\; |x_0 - \hat x_0|^2$$
#
# So the three squared errors are the *same* error with different **weights**. The ε-loss hardly cares about errors
# where there is little signal (snr below 1), and a lot where there is much; the $x_0$-loss cares about all times alike;
# the v-loss is both: never below the one, nor below the other.
#
# **Predict 5.** $\bar\alpha = 0.8$, so the snr is 4. Of a point in the plane, $\hat x_0$ is off by $(0.3, 0.4)$. What
# are the three squared errors? And at $\bar\alpha = 0.2$?

# %%
for a in (0.8, 0.2):
    x0, eps, off = np.array([1.0, 2.0]), np.array([-1.0, 0.5]), np.array([0.3, 0.4])
    x = np.sqrt(a) * x0 + np.sqrt(1 - a) * eps
    guess = x0 + off
    eps_hat = (x - np.sqrt(a) * guess) / np.sqrt(1 - a)
    v, v_hat = (np.sqrt(a) * e - np.sqrt(1 - a) * g for e, g in ((eps, x0), (eps_hat, guess)))
    squares = {"x_0": off @ off, "ε": (eps - eps_hat) @ (eps - eps_hat), "v": (v - v_hat) @ (v - v_hat)}
    print(f"snr = {a / (1 - a):5.2f}: " + ", ".join(f"|{name}|² off by {value:.4f}" for name, value in squares.items()))

# %% [markdown]
# $0.25$, $4 \cdot 0.25 = 1$, $5 \cdot 0.25 = 1.25$; then $0.25$, $0.0625$, $0.3125$.
#
# **Fill in 2.** A network says $\hat\varepsilon$, and is to be punished for the error of the $\hat x_0$ that follows:
# $L = \operatorname{mean} (\hat x_0 - x_0)^2$ over all numbers of the batch. As an operation on the tape, with
# gradients for $\hat\varepsilon$, $x_t$ and $x_0$. Look at the gradient for $\hat\varepsilon$: it must be that of the
# ε-loss, divided by the snr of each row.


# %%
def my_data_loss(eps_hat, x, x0, alpha_bar):
    """mean of (x̂_0 − x_0)², x̂_0 = (x − √(1 − ᾱ) ε̂) / √ᾱ: Tensors (B, d), and alpha_bar a list of B numbers → ()"""
    # a = np.array(alpha_bar)[:, None]
    # off = ...                                   x̂_0 − x_0, (B, d)
    # def backward(dy):                           dy ()
    #     g = ...                                 ∂L/∂x̂_0, (B, d)
    #     return ..., ..., ...                    for eps_hat, x, x0
    # return record(..., (eps_hat, x, x0), backward)
    return ...


# %%
def data_loss(eps_hat, x, x0, alpha_bar):
    """The same of the library's operations."""
    a = np.array(alpha_bar)[:, None]
    return mse_loss((x - np.sqrt(1 - a) * eps_hat) / np.sqrt(a), x0)


r = np.random.default_rng(0)
cases = [[*(r.standard_normal((len(a), d)) for _ in range(3)), a] for a, d in (([0.8, 0.2], 2), ([0.5, 0.01, 0.99], 3))]
check.operation(my_data_loss, data_loss, cases)

# %% [markdown]
# If they are one loss, does it matter what one asks for? The weights say where the network may be careless. Three small
# networks on the cosine schedule are asked for $\varepsilon$, $x_0$ and $v$, with plain squared errors, and a fourth
# for $\varepsilon$ on the linear one. They are compared in one currency: how far is $\hat x_0$ from the *best possible*
# answer $\mathbb{E}[x_0 \mid x_t]$? (From $x_0$ itself it would be mostly what nobody can know.)
#
# **Predict 6.** Which of the three is the best at snr = 0.001, nearly pure noise? Which at snr = 1000, nearly clean?
# And what does DDIM do with $\varepsilon$ on the cosine schedule, whose $\bar\alpha_T$ is $2 \cdot 10^{-9}$: into what
# does the very first step turn an error of 0.01 in $\hat\varepsilon$?

# %% tags=["machine-dependent"]
STEPS, BATCH = 1000, 256


def train(schedule, kind, seed=0):
    """A denoiser of points, trained to say `kind`; what it says is turned into (x̂_0, ε̂) by `ask`."""
    manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = MLPDenoiser(features=2, hidden=64, layers=2)
    average, optimizer, rate = AveragedModel(model, 0.99), Adam(model.parameters()), falling(4e-3, STEPS, warmup=100)
    for step in range(STEPS):
        x0 = data[rng.integers(0, len(data), BATCH)]
        t = rng.integers(1, schedule.T + 1, BATCH)
        eps = rng.standard_normal(x0.shape).astype(np.float32)
        said = model(Tensor(diffuse(x0, t, eps, schedule)), t)
        loss = mse_loss(said, Tensor(target(kind, x0, eps, t, schedule)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = rate(step)
        optimizer.step()
        average.update_parameters(model)
    return ask(average.module, schedule, kind)


tried = (5, 10, 20, 50, 200)


def report(name, denoise, schedule):
    """DDIM with some numbers of steps, then DDPM with 200, as one line; → the figures of DDIM"""
    by_ddim = [quality(ddim(denoise, start, schedule, spaced(T, n))) for n in tried]
    by_ddpm = quality(ddpm(denoise, start, schedule, spaced(T, 200), np.random.default_rng(3)))
    told = "  ".join(f"{n}: {value:<7.3g}" for n, value in zip(tried, by_ddim, strict=True))
    print(f"{name:14} DDIM  {told} DDPM  200: {by_ddpm:.3g}")
    return by_ddim


s = compared["cosine"]
asked = {kind: train(s, kind) for kind in ("eps", "x0", "v")}
for kind, denoise in asked.items():
    report(f"cosine, {kind}", denoise, s)
report("linear, eps", train(compared["linear"], "eps"), compared["linear"])

wanted = np.geomspace(3000, 0.0003, 15)
looked = np.unique(np.abs(np.log(s.snr[1:, None]) - np.log(wanted)).argmin(axis=0) + 1)
excess = {kind: [] for kind in asked}
rng = np.random.default_rng(4)
for t in looked:
    x = diffuse(real, int(t), rng.standard_normal(real.shape).astype(np.float32), s)
    best = exact(s)(x, int(t))[0]
    for kind, denoise in asked.items():
        excess[kind].append(((denoise(x, int(t))[0] - best) ** 2).mean())
page, axes = figure(1, 1, panel=(7.0, 3.6))
for k, (kind, values) in enumerate(excess.items()):
    name = {"eps": "asked for ε", "x0": "asked for x₀", "v": "asked for v"}[kind]
    axes[0, 0].plot(s.snr[looked], values, MARKERS[k], color=COLOURS[k], linestyle=DASHES[k], label=name)
axes[0, 0].set_xscale("log")
axes[0, 0].set_yscale("log")
axes[0, 0].invert_xaxis()
label(axes[0, 0], "who is off where?", "snr (from clean to noise)", "mean (x̂₀ − best)²")
legend(axes[0, 0])
assert excess["v"][-1] < 0.1 < excess["eps"][-1] and excess["v"][0] < excess["x0"][0]
page

# %% [markdown]
# At the noisy end, whoever was asked for $\varepsilon$ is off by 1, the size of the data, and that is with a small
# error in $\hat\varepsilon$: its weight there was snr = 0.0003, so it *may* be careless about $x_0$. At the clean end,
# whoever was asked for $x_0$ must copy two numbers from the input to the output, with an error of 0.05, when a better
# answer is the input itself: its weight there was 1, not 1,000. Whoever was asked for $v$ is about as good as the
# better of the two everywhere.
#
# And DDIM: the first step from $\bar\alpha_T = 2 \cdot 10^{-9}$ divides by $\sqrt{\bar\alpha_T} = 0.00005$, so an error
# of 0.01 becomes one of 200 in $\hat x_0$, and a large step takes a good part of it over: with few steps hundreds of
# times as far from the data as with $v$. The same network does well in DDPM with 200 steps, and on the linear schedule,
# which stops at $\bar\alpha_T = 0.00004$. So **a schedule that ends properly must not be asked for $\varepsilon$ at its
# end**: ask for $v$ (or, of pixels, clip $\hat x_0$ to what pixels can be; `ask` has a `limit` for that).
#
# ## 6. Four schedules with a network
#
# The network learns at times drawn evenly, so a schedule has a second effect: how often each snr is practised. The same
# network, the same number of steps, asked for $v$, on the four schedules of section 4.
#
# **Predict 7.** Order them by what DDIM makes of them with 5 steps, and with 200. What do you expect for the one that
# destroys too early, now that its network has practised on pure noise four times out of five?

# %% tags=["machine-dependent"]
by_network = {"cosine": report("cosine, v", asked["v"], compared["cosine"])}
for name in ("linear", "sigmoid", "too early"):
    by_network[name] = report(f"{name}, v", train(compared[name], "v"), compared[name])

page, axes = figure(1, 1, panel=(7.0, 3.6))
for k, name in enumerate(compared):
    axes[0, 0].plot(tried, by_network[name], MARKERS[k], color=COLOURS[k], linestyle="-", label=name)
    best = [value for n, value in zip(counts, figures[name, "DDIM"], strict=True) if n in tried]
    axes[0, 0].plot(tried, best, MARKERS[k], color=COLOURS[k], linestyle=DASHES[2], alpha=0.5)
axes[0, 0].axhline(1, color=GREY, linewidth=0.8)
axes[0, 0].set_xscale("log")
axes[0, 0].set_xticks(tried, tried)
axes[0, 0].minorticks_off()
log_scale(axes[0, 0])
label(axes[0, 0], "solid: with the network; dotted: best possible", "steps of DDIM", "energy distance, ÷ real")
axes[0, 0].set_ylim(None, 1000)
legend(axes[0, 0])
assert max(by_network[name][-1] for name in compared) < 10 and by_network["too early"][0] > 10 * by_network["cosine"][0]
page

# %% [markdown]
# Dotted lines are the sampler's part: what even a perfect denoiser loses with so few steps. The rest is the network's.
# With 5 steps nearly all loss is the sampler's. With 200 there is none of it left, and what remains is what each
# schedule has let the network practise: on the linear one a third of the practice was on noise, on the one that
# destroys too early four fifths, and no number of steps makes up for that. The waste of steps can be repaired after
# training, by visiting other times; the waste of practice cannot.
#
# How sure is this? It is one data set and one seed. At the right end, each of the four alone would still pass as real
# points, which differ by up to 4. But the start is the same for all, and so is what the perfect denoiser makes of it:
# what separates the solid lines is the networks. How far another seed of the training moves them, try: `train(...,
# seed=1)`.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week8.md): the weights derived, with that of the likelihood bound.
# - Rebuild, from that page: respacing and DDIM, tested against the library.
# - [sampling.py](../scratch/models/diffusion/sampling.py): `karras_times` spaces the visited times by noise level;
#   weeks   9 and 10 do all this with images.
