# %% [markdown]
# # Week 10: sampling
#
# In an hour: the way back from noise to data as the numbered steps of three papers; what happens on the way; how many
# steps it takes, and why some rules need fewer; guidance, which asks for a class and pays with variety; filling in what
# is missing and walking between two noises; and at the end a straighter path, flow matching.
#
# You need [week 9](week9_training_the_denoiser.ipynb): a network that guesses the noise. It is trained here already:
# the U-Net with 433,000 parameters that comes with the library, which knows the ten digits and was told in one of ten
# cases no class at all.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
from pathlib import Path
from types import SimpleNamespace

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.data import Batches, ring_centres, two_moons
from scratch.evaluation import energy_distance, judge
from scratch.losses import mse_loss
from scratch.models.diffusion import MLPDenoiser, flow, sample
from scratch.models.diffusion.inside import path
from scratch.models.diffusion.noise import SCHEDULES
from scratch.models.diffusion.process import diffuse, posterior, x0_and_eps
from scratch.models.diffusion.sampling import ask, ddim, ddpm, heun, inpaint, karras_times, slerp, spaced
from scratch.models.diffusion.tasks import to_pixels
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.viz import figure, image_grid
from scratch.viz.style import COLOURS, DASHES, GREY, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. One question
#
# A sampler never looks at the data. It asks one question, again and again: *what is behind the noise of $x_t$?* The
# answer is a pair $(\hat x_0, \hat\epsilon)$ with $x_t = \sqrt{\bar\alpha_t}\, \hat x_0 + \sqrt{1 - \bar\alpha_t}\,
# \hat\epsilon$; either one gives the other. Everything else is arithmetic
# ([sampling.py](../scratch/models/diffusion/sampling.py)).
#
# So one can test a sampler without any network: give it an *oracle* that always answers with the same digit.
#
# **Predict 1.** Begin with pure noise, answer every question with the same $x_0$. How far from that digit do the three
# samplers end, with 1,000 steps, with 10 and with one? (DDPM adds fresh noise in every step but the last.)

# %%
model, task, settings = sample.load_weights(Path(sample.__file__).with_name("weights.safetensors"))
schedule = SCHEDULES[settings.schedule](settings.T)
T = schedule.T
digit = task.test.inputs[:1]


def oracle(x, t):
    """Whatever it is asked: this digit."""
    return x0_and_eps("x0", np.broadcast_to(digit, x.shape), x, t, schedule)


noise = np.random.default_rng(0).standard_normal(digit.shape).astype(np.float32)
for steps in (T, 10, 1):
    times, rng = spaced(T, steps), np.random.default_rng(1)
    ends = {"DDPM": ddpm(oracle, noise, schedule, times, rng), "DDIM": ddim(oracle, noise, schedule, times),
            "Heun": heun(oracle, noise, schedule, times)}  # fmt: skip
    far = ", ".join(f"{name} {np.abs(end - digit).max():.6f}" for name, end in ends.items())
    print(f"{steps:5} steps, largest error of a pixel: {far}")

# %% [markdown]
# All of them end on it, whatever the steps. If a sample is bad, the answers were wrong, or they changed between two
# questions more than the rule thinks. Those two errors we now take apart.
#
# ## 2. DDPM: a step back, and a little noise
#
# Week 7's posterior says where $x_t$ came from, if one knows $x_0$. DDPM puts the guess in its place and draws from it.
# In the paper (Ho et al. 2020, algorithm 2):
#
# ```
# 1: x_T ~ N(0, I)
# 2: for t = T … 1:
# 3:     z ~ N(0, I) if t > 1, else z = 0
# 4:     x_{t−1} = 1/√α_t (x_t − β_t/√(1 − ᾱ_t) ε̂) + σ_t z                 σ_t² = β̃_t = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t
# ```
#
# **Fill in 1.** Lines 3 and 4. `schedule.alpha`, `.beta` and `.alpha_bar` are indexed by t. (What is $\sigma_1$?)


# %%
def my_ddpm_step(x, eps, z, t, schedule):
    """x_{t−1} from x_t, ε̂ and fresh noise z, all (B, d), and a whole number t from 1 → (B, d)"""
    return ...


# %%
def library_ddpm_step(x, eps, z, t, schedule):
    """By way of x̂_0 and the posterior."""
    x0, _ = x0_and_eps("eps", eps, x, t, schedule)
    mean, variance = posterior(x0, x, t, schedule)
    return mean + np.sqrt(variance) * z


linear = SCHEDULES["linear"](1000)
cases = [[*np.random.default_rng(t).standard_normal((3, 2, 4)), t, linear] for t in (1, 2, 400, 1000)]
check.function(my_ddpm_step, library_ddpm_step, cases)

# %% [markdown]
# To see steps, take points in the plane: eight small heaps on a ring. Their density is a mixture of Gaussians, and
# noise keeps it one: $x_t$ of heap k is $N(\sqrt{\bar\alpha}\, c_k,\ \bar\alpha s^2 + 1 - \bar\alpha)$. So the best
# answer $E[x_0 \mid x_t]$ is a formula, and no network stands between us and the sampler:

# %%
scale = np.sqrt(2.01)  # makes the points' variance 1
centres, spread = ring_centres() / scale, 0.1 / scale


def best(x, t):
    """(E[x_0 | x_t], ε̂): the mean of each heap given x_t, weighed by how likely it is."""
    a = schedule.alpha_bar[t]
    variance = a * spread**2 + 1 - a
    offsets = x[:, None] - np.sqrt(a) * centres  # (B, 8, 2)
    scores = -(offsets**2).sum(axis=2) / (2 * variance)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    x0 = (p[..., None] * (centres + np.sqrt(a) * spread**2 / variance * offsets)).sum(axis=1)
    return x0_and_eps("x0", x0, x, t, schedule)


def points(n, seed):
    """Real ones."""
    rng = np.random.default_rng(seed)
    return centres[rng.integers(0, 8, n)] + spread * rng.standard_normal((n, 2))


def ring_paths(sampler, start, **options):
    """All x_t on the way: (steps + 1, n, 2)"""
    seen = []
    end = sampler(best, start, schedule, spaced(T), look=lambda t, x, x0: seen.append(x), **options)
    return np.stack([*seen, end])


# %% [markdown]
# **Predict 2.** Three points begin at the same place. Where do they end by DDPM? And by DDIM, which draws no noise?

# %%
start = np.repeat(np.array([[0.9, -0.4], [-0.5, 0.6]]), 3, axis=0)
walks = {"DDPM": ring_paths(ddpm, start, rng=np.random.default_rng(2)), "DDIM": ring_paths(ddim, start)}
page, axes = figure(1, 2, panel=(3.8, 3.6), sharex=True, sharey=True)
for panel, (name, walk) in zip(axes[0], walks.items(), strict=True):
    panel.scatter(*points(600, 0).T, s=4, color="#CCCCCC")
    for i in range(6):
        k = i // 3
        panel.plot(*walk[::10, i].T, color=COLOURS[k], linestyle=DASHES[k], linewidth=0.8)
        panel.plot(*walk[-1, i], color=COLOURS[k], marker=MARKERS[k], markersize=6)
    panel.plot(*start[[0, 3]].T, "*", color="black", markersize=10)
    panel.set_aspect("equal")
    label(panel, name)
page

# %% [markdown]
# The star is where they begin. In DDPM the noise of the way decides; in DDIM the beginning does: one noise, one sample.
# That makes noises *names* of samples, which section 7 uses.
#
# ## 3. DDIM: the same network, other steps
#
# Training only ever used $q(x_t \mid x_0)$, never the chain. So any family of steps that has these same marginals may
# be reversed with the same network (Song et al. 2021). Guess both parts, and put them together again at the earlier
# time s < t, which need not be t − 1:
#
# $$x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\, \hat\epsilon + \sigma z, \qquad
# \sigma = \eta \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}}$$
#
# The noise has variance $1 - \bar\alpha_s$ in all, of which $\sigma^2$ is fresh. $\eta = 0$ draws none; $\eta = 1$ over
# all times is DDPM (the [page](../docs/weeks/week10.md) shows why).
#
# **Fill in 2.** One step of DDIM, from x and $\hat\epsilon$.


# %%
def my_ddim_step(x, eps, z, s, t, eta, schedule):
    """x_s from x_t, ε̂ and fresh noise z, all (B, d), and whole numbers s < t → (B, d)"""
    return ...


# %%
def library_ddim_step(x, eps, z, s, t, eta, schedule):
    """The library's sampler, given two times, these answers and this noise."""
    given = SimpleNamespace(standard_normal=lambda shape: z)
    return ddim(lambda x, t: x0_and_eps("eps", eps, x, t, schedule), x, schedule, np.array([s, t]), given, eta)


cases = [
    [*np.random.default_rng(t).standard_normal((3, 2, 4)), s, t, eta, linear]
    for s, t, eta in [(399, 400, 0.0), (399, 400, 1.0), (100, 700, 0.5), (0, 30, 1.0)]
]
check.function(my_ddim_step, library_ddim_step, cases)

# %% [markdown]
# Now the number of steps. With the exact answers all that is wrong is the rule's. The measure is the energy distance
# between 2,000 samples and 2,000 real points; the floor is what two real sets have between them.
#
# Third comes **Heun's rule** (Karras et al. 2022). With $u = x_t / \sqrt{\bar\alpha_t} = x_0 + \sigma\epsilon$ and
# $\sigma = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$, DDIM without noise reads $u_s = u_t + (\sigma_s - \sigma_t)\,
# \hat\epsilon$: Euler's step along $du/d\sigma = \hat\epsilon$. Heun asks once more at the end of the step and goes
# along the mean of both answers, so its steps cost two questions.
#
# **Predict 3.** Which of the three is best with 10 questions, which with 50? And DDPM's or DDIM's heaps with 50 steps:
# are they too wide, right, or too narrow? (Their last step goes from t = 20 straight to $\hat x_0$, the *mean* of what
# $x_{20}$ may have come from.)

# %%
real, n = points(2000, 10), 2000
floor = np.mean([energy_distance(points(n, 20 + i), points(n, 40 + i)) for i in range(5)])
beginning = np.random.default_rng(3).standard_normal((n, 2))


def width(samples):
    """The heaps' own standard deviation, in units of the real one."""
    nearest = np.linalg.norm(samples[:, None] - centres, axis=2).argmin(axis=1)
    return (samples - centres[nearest]).std() / spread


samplers = {
    "DDPM": lambda times: ddpm(best, beginning, schedule, times, np.random.default_rng(4)),
    "DDIM, η = 0": lambda times: ddim(best, beginning, schedule, times),
    "Heun": lambda times: heun(best, beginning, schedule, times),
}
page, axes = figure(1, 2, panel=(4.4, 3.4))
for k, (name, draw) in enumerate(samplers.items()):
    asked, distances, widths = [], [], []
    for steps in (5, 10, 20, 50, 100, 200):
        times = karras_times(schedule, (steps + 2) // 2) if name == "Heun" else spaced(T, steps)
        asked.append(2 * len(times) - 3 if name == "Heun" else steps)
        drawn = draw(times)
        distances.append(energy_distance(drawn, real))
        widths.append(width(drawn))
    print(f"{name}:")
    for q, distance, wide in zip(asked, distances, widths, strict=True):
        print(f"  {q:3} questions: energy distance {distance:.4f}, width of a heap {wide:.2f} of the real one")
    style = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "label": name}
    axes[0, 0].plot(asked, distances, **style)
    axes[0, 1].plot(asked, widths, **style)
axes[0, 0].axhline(floor, color=GREY, linestyle=":", label="two real sets")
axes[0, 1].axhline(1, color=GREY, linestyle=":")
for panel in axes[0]:
    panel.set_xscale("log")
    log_scale(panel)
print(f"two real sets: energy distance {floor:.4f}")
label(axes[0, 0], "energy distance to real points", "questions to the denoiser", "")
label(axes[0, 1], "width of a heap, ÷ the real one", "questions to the denoiser", "")
legend(axes[0, 0])
page

# %% [markdown]
# With ten questions nobody is done, and Heun is far off: its first steps come down from $\sigma = 157$, and there a
# slope at the end of a long step is a bad guide. With 50, Heun alone is right. The other two make heaps too narrow, and
# mend that slowly. The last step is to blame: it ends on a mean, and means vary less than what they are means of, by
# $1 / \sqrt{1 + \sigma_{20}^2 / s^2} = 0.68$ if $s$ is a heap's width. Heun's last step does the same, but
# `karras_times` puts its times so close to the data that nothing is left to be seen there.
#
# The energy distance sees none of that: heaps of two thirds of their width are still the right heaps at the right
# places. A measure sees what it is made for.
#
# ## 4. Digits on the way
#
# Now the network. Four noises, four classes, 50 steps of DDIM; above $x_t$, below the network's $\hat x_0$ at the same
# moment.
#
# **Predict 4.** What does $\hat x_0$ show at t = 1,000, where $x_t$ is nothing but noise? And when is it decided how
# the digit will look?

# %%
labels = np.array([2, 3, 5, 8])
noise = np.random.default_rng(5).standard_normal((4, 1, 28, 28)).astype(np.float32)
times, states, guesses = path(ask(model, schedule, settings.predict, labels, limit=1.0), noise, schedule, 50, show=9)
columns = [np.concatenate(np.stack([states[:, k, 0], guesses[:, k, 0]], axis=1).reshape(8, 28, 28)) for k in range(10)]
image_grid(np.stack(columns), [f"t = {t}" for t in times], columns=10, limits=(-1, 1), title="x_t, and below it x̂₀")

# %% [markdown]
# The best answer at first is the mean of all digits of the class: nothing else is known. The network shows it behind
# a snow of its own making: $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \hat\epsilon) / \sqrt{\bar\alpha_t}$ divides by
# 0.006 at t = 1,000, and with it every small error of $\hat\epsilon$. Then the mean is taken over fewer and fewer
# digits, those that still agree with $x_t$, until it is one. The large decisions come first, the grain last, in the
# reverse order of week 9's reconstructions. Long before x_t looks like anything, the digit is settled.
#
# **Predict 5.** The same noise with 1, 2, 5, 10, 20 and 50 steps of DDIM: from how many steps on can one read the
# digits? Does a sample with 10 steps look like the one with 50, or like another digit?

# %% tags=["machine-dependent"]
asked = np.arange(20) % 10
noise = np.random.default_rng(6).standard_normal((20, 1, 28, 28)).astype(np.float32)
plain = ask(model, schedule, settings.predict, asked, limit=1.0)
by_steps = {steps: ddim(plain, noise, schedule, spaced(T, steps)) for steps in (1, 2, 5, 10, 20, 50)}
for steps, drawn in by_steps.items():
    off = np.sqrt(((drawn - by_steps[50]) ** 2).mean())
    right = judge.agreement(to_pixels(drawn), asked)
    print(f"{steps:2} steps: read as asked {right:4.0%}; {off:.2f} from the image of 50 steps")
    assert steps < 10 or (right > 0.7 and off < 0.2)
image_grid(np.concatenate([drawn[:10] for drawn in by_steps.values()]), columns=10, limits=(-1, 1),
           title="1, 2, 5, 10, 20 and 50 steps from the same noise")  # fmt: skip

# %% [markdown]
# One step is one guess behind the snow of ÷ 0.006; two show the class's mean; from five or ten on, the digits stand and
# only their grain still changes. More steps do not make another digit of it: the noise had decided, and 10 steps follow
# nearly the same path as 50. What is wrong with a digit here is the network's doing, not the sampler's.
#
# ## 5. Guidance
#
# The network was told no class in one of ten cases, so it can answer both *what is behind this noise, if it is a 7?*
# and *what is behind it?* The difference of the two points to what makes a 7 a 7. Go further along it (Ho and Salimans
# 2022):
#
# $$\hat\epsilon = (1 + w)\, \hat\epsilon(x_t, c) - w\, \hat\epsilon(x_t, \text{none})$$
#
# It is as if one drew from $p(x \mid c)\; p(c \mid x)^w$, up to a factor: where the class is plain to see, w times
# over.
#
# **Predict 6.** w = 0, 1, 3 and 8: how many of the digits does the judge read as asked? And what happens to the variety
# within a class?

# %% tags=["machine-dependent"]
asked = np.repeat([2, 4, 7, 9], 6)
noise = np.random.default_rng(7).standard_normal((24, 1, 28, 28)).astype(np.float32)
strengths, rows = (0, 0.5, 1, 3, 8), []
for w in strengths:
    drawn = to_pixels(ddim(ask(model, schedule, settings.predict, asked, w, limit=1.0), noise, schedule, spaced(T, 10)))
    groups = drawn.reshape(4, 6, 784)
    apart = np.mean([((g[:, None] - g) ** 2).mean() * 6 / 5 for g in groups])
    print(f"w = {w:3}: read as asked {judge.agreement(drawn, asked):4.0%}; two of a class are {apart:.3f} apart")
    assert judge.agreement(drawn, asked) > (0.85 if w >= 1 else 0.6)
    rows.append(drawn[[0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20]])
train_images = to_pixels(task.train.inputs[np.isin(task.train.targets, [2, 4, 7, 9])]).reshape(-1, 784)
train_labels = task.train.targets[np.isin(task.train.targets, [2, 4, 7, 9])]
apart = np.mean([2 * train_images[train_labels == d].var(axis=0, ddof=1).mean() for d in (2, 4, 7, 9)])
print(f"real digits: two of a class are {apart:.3f} apart")
image_grid(np.concatenate(rows), columns=12, limits=(0, 1), title="w = 0, 0.5, 1, 3 and 8, the same noises")

# %% [markdown]
# Without guidance some digits stand between two classes: the network's guess is a mean, and between a 4 and a 9 there
# are many. Guidance removes those, and at w = 1 nearly all are read as asked. The price is variety: two of a class come
# nearer to each other, and at w = 8 the strokes are fat and every 4 tends to be *the* 4. Which w is right depends on
# what one wants: a digit that is surely a 4, or one like those that people write. (What guidance draws from is derived
# on the [page](../docs/weeks/week10.md), and so is why that is not exactly true.)
#
# ## 6. Filling in
#
# A model of images also knows what fits to half an image. At every step, the known half is put back, noised as far as
# the rest is (`inpaint`), so the unknown half is denoised in the company of the right one. Nothing is trained for it.
#
# **Predict 7.** The upper halves of six test digits are known, and no class is told. Will the whole be the same digit?
# And if we insist, on the upper half of a 9, on a 7, a 4 or a 3?

# %% tags=["machine-dependent"]
chosen = [int(np.flatnonzero(task.test.targets == d)[0]) for d in (0, 2, 3, 5, 7, 9)]
known = task.test.inputs[chosen]
mask = np.zeros((1, 1, 28, 28), np.float32)
mask[:, :, :14] = 1
times = spaced(T, 50)
none = ask(model, schedule, settings.predict, np.full(6, model.no_class), limit=1.0)
shown = [known, np.where(mask == 1, known, 0)]
for again in (1, 4):
    shown.append(inpaint(none, known, mask, schedule, times, np.random.default_rng(8), again))
    jump = np.abs(shown[-1][:, :, 14] - shown[-1][:, :, 13]).mean()
    print(f"each step {again} times: the two rows at the seam differ by {jump:.3f}; in the originals by "
          f"{np.abs(known[:, :, 14] - known[:, :, 13]).mean():.3f}")  # fmt: skip
nine, insist = np.repeat(known[5:], 4, axis=0), np.array([9, 7, 4, 3])
wanted = inpaint(ask(model, schedule, settings.predict, insist, 3.0, limit=1.0), nine, mask, schedule, times,
                 np.random.default_rng(9))  # fmt: skip
print("insisting on 9, 7, 4, 3, the judge reads", judge.labels(to_pixels(wanted)))
assert judge.agreement(to_pixels(wanted), insist) >= 0.5
shown.append(np.concatenate([nine[:1], np.where(mask == 1, nine[:1], 0), wanted]))
title = "original, what is known, filled in\n(each step once, four times); last row: a 9, as 9, 7, 4, 3"
image_grid(np.concatenate(shown), columns=6, limits=(-1, 1), title=title)

# %% [markdown]
# Half a digit can be the half of many, so the whole need not be what it was. What matters is whether it fits. With each
# step done once the parts often do not agree: the new half was denoised before it could see where the known one was
# going. Going back and forth (each step four times: a step down, then noised up again) gives them time. And insisting
# works, too: known pixels and guidance are two conditions on one sample.
#
# ## 7. Between two noises
#
# DDIM makes each noise the name of one digit. What lies between two names? The straight way is $(1 - s)\, a + s\, b$.
# The other way goes along the sphere (`slerp`).
#
# **Predict 8.** a and b have 784 normal numbers each, so a length of about 28. How long is the point halfway on the
# straight line? What will the network make of noise that is not as strong as its t says?

# %%
a, b = np.random.default_rng(24).standard_normal((2, 1, 28, 28)).astype(np.float32)
shares = np.linspace(0, 1, 9)
straight = [((1 - s) * a + s * b).astype(np.float32) for s in shares]
ways = {"straight": straight, "sphere": [slerp(a, b, s) for s in shares]}
mean_four = to_pixels(task.train.inputs[task.train.targets == 4]).mean(axis=0)
fours = ask(model, schedule, settings.predict, np.full(len(shares), 4), limit=1.0)
rows = []
for name, noises in ways.items():
    drawn = to_pixels(ddim(fours, np.stack(noises), schedule, spaced(T, 25)))
    rows.append(drawn)
    lengths = [float(np.linalg.norm(z)) for z in noises]
    print(f"{name:8} lengths      ", *(f"{v:5.1f}" for v in lengths))
    print(f"{'':8} from the mean", *(f"{v:5.3f}" for v in ((drawn - mean_four) ** 2).mean(axis=(1, 2, 3))))
image_grid(np.concatenate(rows), columns=9, limits=(0, 1), title="from one 4 to another: straight; along the sphere")

# %% [markdown]
# The straight line's middle has a length of about 20, as no noise of 784 numbers ever has: $x_T$ is fainter than its t
# says. The answer is a plain, average 4, and all of the middle looks alike: the images there are nearest to the mean of
# all fours. Along the sphere every noise on the way is as good as its ends, and so is every digit.
#
# ## 8. A last look: flow matching
#
# DDIM follows a curve from noise to data. Why not make the curve straight? *Rectified flow*
# ([flow.py](../scratch/models/diffusion/flow.py)) takes t from 0 to 1 and
#
# $$x_t = (1 - t)\, x_0 + t\, \epsilon, \qquad \text{the network says } \frac{dx_t}{dt} = \epsilon - x_0, \qquad
# x \leftarrow x - h\, v(x, t)$$
#
# The same network, the same loop and the same loss, another batch. Two small perceptrons learn two moons, one each way.

# %%
moons = two_moons(20_000, seed=0).inputs
moons = (moons - moons.mean(axis=0)) / moons.std()


def diffusion_batch(x0, rng):
    t = rng.integers(1, T + 1, len(x0))
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    return diffuse(x0, t, eps, schedule), t, eps


def flow_batch(x0, rng):
    t = rng.random(len(x0), np.float32)[:, None]
    eps = rng.standard_normal(x0.shape).astype(np.float32)
    return (1 - t) * x0 + t * eps, flow.CLOCK * t[:, 0], eps - x0


def learn(batch, steps=800):
    manual_seed(0)
    small, rng, rate = MLPDenoiser(2, 64, 3), np.random.default_rng(0), cosine(3e-3, steps, warmup=50)
    batches, optimizer = Batches(moons, moons, batch_size=256, seed=0), Adam(small.parameters())
    for step in range(steps):
        x, t, said = batch(next(batches)[0], rng)
        loss = mse_loss(small(Tensor(x), t), said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = rate(step)
        optimizer.step()
    return small


of_diffusion, of_flow = learn(diffusion_batch), learn(flow_batch)

# %% [markdown]
# **Predict 9.** With 1, 2, 4, 8 and 32 steps: which of the two is nearer to the real moons? Straight lines are what the
# network was *trained* on: are the paths of its samples straight? And does one noise become the same point both ways?

# %% tags=["machine-dependent"]
start = np.random.default_rng(11).standard_normal((2000, 2)).astype(np.float32)
held_out = two_moons(2000, seed=1).inputs
held_out = (held_out - held_out.mean(axis=0)) / held_out.std()
by_eps, by_velocity = ask(of_diffusion, schedule), flow.velocity(of_flow)
for steps in (1, 2, 4, 8, 32):
    ends = ddim(by_eps, start, schedule, spaced(T, steps)), flow.euler(by_velocity, start, steps)
    print(f"{steps:2} steps: energy distance DDIM {energy_distance(ends[0], held_out):.4f}, "
          f"flow by Euler's rule {energy_distance(ends[1], held_out):.4f}")  # fmt: skip

few, walks = start[:40], {"DDIM": [], "flow": [start[:40]]}
walks["DDIM"].append(ddim(by_eps, few, schedule, spaced(T, 50), look=lambda t, x, x0: walks["DDIM"].append(x)))
for i in range(50, 0, -1):
    walks["flow"].append(walks["flow"][-1] - np.float32(0.02) * by_velocity(walks["flow"][-1], 0.02 * i))
ends = walks["DDIM"][-1], walks["flow"][-1]
apart = [np.median(np.linalg.norm(ends[0] - other, axis=1)) for other in (ends[1], np.roll(ends[1], 1, axis=0))]
print(f"from the same noise both ways end {apart[0]:.2f} apart, from different noises {apart[1]:.2f}")
page, axes = figure(1, 2, panel=(3.9, 3.4), sharex=True, sharey=True)
for k, (panel, (name, walk)) in enumerate(zip(axes[0], walks.items(), strict=True)):
    walk = np.stack(walk)
    way = np.linalg.norm(np.diff(walk, axis=0), axis=2).sum(axis=0)
    panel.plot(*walk.transpose(2, 0, 1), color=COLOURS[k], linestyle=DASHES[k], linewidth=0.8)
    panel.scatter(*walk[0].T, s=12, color=GREY, marker="o")
    panel.scatter(*walk[-1].T, s=14, color=COLOURS[k], marker=MARKERS[k + 1])
    panel.set_aspect("equal")
    label(panel, f"{name}: from noise (grey) to data")
    longer = np.median(way / np.linalg.norm(walk[-1] - walk[0], axis=1))
    print(f"{name}: a path is {longer:.2f} times as long as the straight line between its ends")
assert apart[0] < 0.5 * apart[1] and energy_distance(ddim(by_eps, start, schedule, spaced(T, 32)), held_out) < 0.05
page

# %% [markdown]
# From two steps on the flow is nearer, at equal cost. Yet its paths are anything but straight! Each *pair* of noise and
# data was joined by a straight line, but at a place where many such lines cross the network can only answer with their
# mean: at first all go towards the middle of the data, and later apart. And both ways lead from one noise to nearly the
# same point: divide $x_t$ by its signal, and both are $x_0 + \sigma \epsilon$ and follow the same equation
# $du/d\sigma = \hat\epsilon$. What differs is how the steps are spread over the noise levels, and in which
# coordinates a step is straight. That is what "flow matching" changes, and it is worth a factor in steps.
#
# ## What to take with you
#
# - Every sampler asks for $\hat x_0$ and goes part of the way. With right answers all of them end right.
# - DDPM draws fresh noise, DDIM none; the same network serves both, since only $q(x_t \mid x_0)$ was ever trained.
# - Fewer steps are an error of the rule, and better rules need fewer. Guidance buys plainness with variety.
# - Flow matching is another path with the same loss.
#
# On to the [page of the week](../docs/weeks/week10.md): the derivation, the rebuild, the experiment.
