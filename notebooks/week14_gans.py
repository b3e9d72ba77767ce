# %% [markdown]
# # Week 14: two networks that learn from each other
#
# In an hour: what the best discriminator knows; why the first loss for the generator fails; a game in the plane that
# collapses, measured, and one that does not; the slope of a network as a forward computation; a critic that measures
# distance; and digits drawn from noise.
#
# You need weeks 1 and 2: the tape, layers, losses, Adam. Transposed convolutions (week 11) make the digits.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect

import check
import numpy as np

from scratch import Tensor, manual_seed, viz
from scratch.activations import LeakyReLU
from scratch.data import Batches
from scratch.layers import Linear
from scratch.models.gan import MLPDiscriminator, input_gradient, inside, sample
from scratch.models.gan.losses import LOSSES, cross_entropy_of_both
from scratch.models.gan.penalty import between, clip_weights, gradient_penalty
from scratch.models.gan.pictures import draw_interpolation
from scratch.models.gan.tasks import load_task, to_pixels
from scratch.models.gan.train import PRESETS, Settings, build, discriminator_loss, generator_loss, noise
from scratch.module import Sequential
from scratch.optim import Adam
from scratch.tensor import record  # noqa: F401  what you fill in needs it
from scratch.viz.sequences import lines

# %% [markdown]
# ## 1. The best discriminator
#
# A discriminator gives each $x$ a logit $D(x)$; $\sigma(D)$ is its probability that $x$ is real. It minimises
#
# $$\mathbb E_{x \sim p}\left[-\ln \sigma(D(x))\right] +
# \mathbb E_{\hat x \sim q}\left[-\ln(1 - \sigma(D(\hat x)))\right]$$
#
# **Predict 1.** Real numbers are drawn from $N(-1, 1)$, fake ones from $N(1, 1)$. Which function of $x$ will the logit
# be, after training: a step, an S, a bump, a straight line? Where is it 0?

# %%
rng = np.random.default_rng(0)
manual_seed(0)
judge = MLPDiscriminator(1, (32, 32))
optimizer = Adam(judge.parameters(), lr=3e-3)
for _ in range(400):
    real, fake = (rng.normal(centre, 1, (256, 1)).astype(np.float32) for centre in (-1, 1))
    loss = cross_entropy_of_both(*judge.both(real, fake)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
x = np.linspace(-3, 3, 61, dtype=np.float32)
lines(x, {"D, trained": inside.critic_values(judge, x[:, None]), "ln p/q = −2x": -2 * x},
      title=f"loss {loss.item():.3f}; knowing nothing costs 2 ln 2 = {2 * np.log(2):.3f}", x_label="x",
      y_label="logit")  # fmt: skip

# %% [markdown]
# A straight line: the best logit is $\ln p(x)/q(x)$, here $-2x$. The discriminator has learned the *ratio* of two
# densities that it was never shown, from samples alone. Where few samples lie, it guesses.
#
# **Fill in 1.** The loss of each pair of logits, as one operation with its gradient. Take it from the logits directly:
# $-\ln \sigma(D) = \ln(1 + e^{-D})$, `np.logaddexp(0, -D)`.


# %%
def my_game(real, fake):
    """−ln σ(D(x)) − ln(1 − σ(D(x̂))) for Tensors of logits (B,) and (B,) → (B,)"""
    # value = ...
    # def backward(dy):                     dy (B,)
    #     return d_real, d_fake
    # return record(value, (real, fake), backward)
    return ...


# %%
rng = np.random.default_rng(1)
check.operation(my_game, cross_entropy_of_both, [[rng.standard_normal(5), 3 * rng.standard_normal(5)],
                                                 [np.array([40.0, -40.0]), np.array([40.0, -40.0])]])  # fmt: skip

# %% [markdown]
# ## 2. A loss that dies
#
# What the discriminator loses, the generator could win: minimise $\ln(1 - \sigma(D(\hat x)))$, *minimax*. Or it
# minimises $-\ln \sigma(D(\hat x))$, *nonsaturating*. Both want $D(\hat x)$ to grow.
#
# **Predict 2.** Early on every fake is seen through: $D(\hat x) = -10$. How long is the gradient of each loss with
# respect to $D$? And at 0, and at +3?

# %%
for value in (-10.0, 0.0, 3.0):
    slopes = {}
    for name in ("minimax", "nonsaturating"):
        d = Tensor([value], requires_grad=True)
        LOSSES[name].generator(d).sum().backward()
        slopes[name] = d.grad[0]
    print(f"D = {value:+5.1f}: " + ", ".join(f"{name} {slope:+.5f}" for name, slope in slopes.items()))

# %% [markdown]
# At −10 one has a slope of −0.00005, the other of −1: the same aim, but only one of them says where to go when
# everything is wrong.
#
# ## 3. A game in the plane
#
# Eight Gaussians on a ring are the data. Two perceptrons play; the whole step, as the library has it
# ([train.py](../scratch/models/gan/train.py), [losses.py](../scratch/models/gan/losses.py)):

# %%
print(inspect.getsource(discriminator_loss))
print(inspect.getsource(generator_loss))

# %% [markdown]
# `.detach()` is all that keeps the discriminator's step from teaching the generator to be seen through.
#
# **Predict 3.** The original game, one step each, learning rate 0.001. Of the eight modes, how many will hold at least
# 20 of 2,500 generated points after 150, 300, 450, 600 updates? Does the number only rise? And what does the
# discriminator's loss do meanwhile?

# %% tags=["machine-dependent"]
ring = load_task("gaussian_ring")


def play(settings, steps=600, look=150):
    """Both networks after so many updates, and what was seen every `look` of them; the loop of train.py, in short."""
    manual_seed(settings.seed)
    gan = build(settings, ring)
    betas = (settings.beta1, settings.beta2)
    d_optimizer = Adam(gan.discriminator.parameters(), settings.lr, betas)
    g_optimizer = Adam(gan.generator.parameters(), settings.lr, betas)
    batches = Batches(*ring.train.arrays, batch_size=settings.batch_size, seed=0)
    rng = np.random.default_rng(0)
    for step in range(1, steps + 1):
        x, _ = next(batches)
        d_loss, rows = discriminator_loss(gan, x, noise(len(x), settings), rng.random(len(x)), settings=settings)
        gan.zero_grad()
        (d_loss / float(rows)).backward()
        d_optimizer.step()
        g_loss, rows = generator_loss(gan, noise(len(x), settings), settings=settings)
        gan.zero_grad()
        (g_loss / float(rows)).backward()
        g_optimizer.step()
        if step % look == 0:
            modes = ring.modes(ring.draw(gan.generator, 2500, 0))
            print(f"update {step:>5}: {modes.found()} of 8 modes, {100 * modes.inside:4.1f} % of the points in one, "
                  f"discriminator's loss {d_loss.item() / rows:.2f}")  # fmt: skip
    return gan


def surface(gan, title):
    """What the discriminator says over the plane, real points and generated ones."""
    values = inside.probabilities(gan.discriminator, viz.critic_grid(ring.test.inputs, 60))
    fakes = ring.draw(gan.generator, 300, 0) / ring.scale
    return viz.critic_surface(values, ring.test.inputs, fakes, limits=(0, 1), title=title,
                              label="probability of being real, by the discriminator")  # fmt: skip


original = Settings(**PRESETS["ring"] | {"penalty": "none", "beta1": 0.5, "beta2": 0.999})
collapsed = play(original)
assert ring.modes(ring.draw(collapsed.generator, 2500, 0)).inside < 0.3
surface(collapsed, "the original game after 600 updates")

# %% [markdown]
# Never more than one mode, and not the same one for long. The generator puts all its points where the discriminator
# finds them most real, the discriminator learns that this place is suspect, and the heap moves on. Nothing in the loss
# asks for variety, and the loss shows nothing: it stays somewhat above 1.
#
# ## 4. The slope as a forward computation
#
# The surface above is steep in places where no data are. Holding its slope in bounds needs the gradient
# $\nabla_x D$ *inside* the loss, to be differentiated once more. The tape here goes once. But the gradient of a network
# of leaky ReLUs is a product that can be written down. One hidden layer, $h = W_1 x$, $D = W_2\, a(h)$:
#
# $$\nabla_x D = W_1^\top \left(s \odot W_2^\top\right), \qquad s = a'(h) \in \{1, 0.2\}$$
#
# and $s$ is constant but for jumps, so that only $W_1$ and $W_2$ are to be recorded.
#
# **Fill in 2.** The slope for every row, out of operations of the tape, so that its gradient with respect to the
# weights comes by itself. x is a list of rows, plain numbers.


# %%
def my_slope(x, W1, W2):
    """∇ₓ D of D(x) = W₂ a(W₁ x), a leaky ReLU of slope 0.2: x rows (B, n); Tensors W1 (H, n), W2 (1, H) → (B, n)"""
    # h = np.array(x) @ ...                 numbers, (B, H)
    # s = ...                               1 where h > 0, else 0.2
    # return ...                            Tensors: W2 · s, then a product with W1
    return ...


# %%
def library_slope(x, W1, W2):
    first, second = Linear(W1.shape[1], len(W1), bias=False), Linear(len(W1), 1, bias=False)
    vars(first)["weight"], vars(second)["weight"] = W1, W2
    return input_gradient(Sequential(first, LeakyReLU(0.2), second), np.array(x))


rng = np.random.default_rng(2)
cases = [[rng.standard_normal((B, n)).tolist(), rng.standard_normal((H, n)), rng.standard_normal((1, H))]
         for B, n, H in ((1, 2, 3), (4, 3, 5))]  # fmt: skip
check.operation(my_slope, library_slope, cases)

# %% [markdown]
# **Predict 4.** The loss is $(\|\nabla_x D\| - 1)^2$, of a network with biases. Which gradient does a bias get:
# positive, negative, or what?

# %%
critic = MLPDiscriminator(2, (8,))
gradient_penalty(critic, np.random.default_rng(3).standard_normal((5, 2)).astype(np.float32)).sum().backward()
for name, p in critic.named_parameters():
    print(f"{name:14}", "none" if p.grad is None else f"up to {np.abs(p.grad).max():.2f}")

# %% [markdown]
# A bias gets nothing ([penalty.py](../scratch/models/gan/penalty.py) says why): it moves only the places where the
# slope jumps, and there are none of them almost everywhere.
#
# ## 5. The cure
#
# R1 (Mescheder et al. 2018) adds $\tfrac{\gamma}{2} \|\nabla_x D(x)\|^2$ at real points. Where the fake points are the
# real ones, the best discriminator is flat, and R1 lets it rest there; without it the two players circle each other.
#
# **Predict 5.** The same networks, the same learning rate, with $\gamma = 0.1$: how many modes now, and what will the
# discriminator's loss tend to?

# %% tags=["machine-dependent"]
cured = play(Settings(**PRESETS["ring"]))
assert ring.modes(ring.draw(cured.generator, 2500, 0)).found() >= 6
surface(cured, "with a penalty on the slope, after 600 updates")

# %% [markdown]
# All eight from the second look on, and more of the points in them at each one. The loss goes to $2 \ln 2 = 1.386$:
# the surface is nearly flat at ½. A discriminator that knows nothing is the *end* of this game, not its failure.
#
# ## 6. A critic that measures
#
# The Wasserstein distance of two distributions is the most by which a 1-Lipschitz function can tell them apart:
#
# $$W(p, q) = \max_{\|D\|_L \le 1} \mathbb E\, D(x) - \mathbb E\, D(\hat x)$$
#
# Take two clouds of points, the second $\delta$ to the right of the first: all its mass has to go $\delta$ far, so
# $W = \delta$.
#
# **Predict 6.** A critic is trained with the gradient penalty, another with its weights clipped at 0.1. Which of them
# says $\delta$? What will the other say: more, less, something proportional?


# %%
def measured(delta, how, steps=150):
    """E D(x) − E D(x̂) of a critic trained on two clouds that lie delta apart."""
    rng = np.random.default_rng(0)
    manual_seed(0)
    critic = MLPDiscriminator(2, (64, 64))
    optimizer = Adam(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    for _ in range(steps):
        x, fake = rng.normal(0, 0.3, (2, 256, 2)).astype(np.float32)
        x[:, 0] += delta
        real_value, fake_value = critic.both(x, fake)
        loss = (fake_value - real_value).mean()
        if how == "penalty":
            loss = loss + 10 * gradient_penalty(critic, between(x, fake, rng.random(256))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if how == "clipping":
            clip_weights(critic, 0.1)
    return float((real_value.data - fake_value.data).mean())


deltas = np.array([0.5, 1.0, 2.0, 4.0])
found = {how: np.array([measured(delta, how) for delta in deltas]) for how in ("penalty", "clipping")}
lines(deltas, {"gradient penalty": found["penalty"], "clipped at 0.1": found["clipping"], "the distance": deltas},
      title="what two critics say of the distance", x_label="distance of the clouds",
      y_label="E D(x) − E D(x̂)")  # fmt: skip

# %% [markdown]
# The penalty gives nearly $\delta$; a little more where $\delta$ is large, for it only pulls: a slope of $s$ wins
# $s\,\delta$ and costs $10\,(s - 1)^2$, which is best at $s = 1 + \delta/20$, so that 4 would read as 4.8. Clipping
# gives a number that grows with $\delta$ too, but in units that depend on the bound and on the layers, and not quite
# in proportion.
#
# ## 7. Digits
#
# The weights that ship are of a DCGAN: the same game, with convolutions, and both networks are told the class.
#
# **Predict 7.** The generator is given the same noise ten times, with ten classes. Will the ten digits have anything in
# common, though nobody has ever told it to?

# %%
generator, digits, settings = sample.load_weights(sample.SHIPPED)
z = np.random.default_rng(3).standard_normal((5, generator.noise)).astype(np.float32)
images = generator(Tensor(z.repeat(10, axis=0)), np.tile(np.arange(10), 5)).data
viz.image_grid(to_pixels(images), columns=10, limits=(0, 1), title="a row is one noise, a column one class", cell=0.6)

# %% [markdown]
# The hand. The first row stands upright, the third one leans to the right, the fourth is written with a broad pen. The
# noise holds all that the class does not say, and one set of weights turns slant and stroke into images for all ten
# classes, so it has learned what they share. Some are no digits: a 2 in pieces, a 9 with a tail too many.
#
# Now the class stays and the noise changes, along an arc from one to another.
#
# **Predict 8.** Half way: two faint digits over each other, or one that is neither?

# %%
draw_interpolation(generator, digits)

# %% [markdown]
# Strokes bend, shift and grow; nowhere do two digits lie over each other. The discriminator has never seen such a
# thing among the data, so the generator cannot get away with it. (The mean of two images, which a squared error would
# ask for, is just that.)
#
# On to the [page of the week](../docs/weeks/week14.md): the derivation, the rebuild, the experiment.
