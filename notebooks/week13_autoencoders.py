# %% [markdown]
# # Week 13: autoencoders
#
# In an hour: an image squeezed into two numbers and made again; why a plain autoencoder can't be drawn from; the bound
# on log p(x) that the VAE raises, its divergence and its noise, both by hand; what the weight of the divergence does;
# a tighter bound; and codes that are whole numbers.
#
# You need weeks [1](../docs/weeks/week1.md), [2](../docs/weeks/week2.md) and [11](../docs/weeks/week11.md): the tape,
# layers, losses, Adam, convolutions. The plan of the week is on [its page](../docs/weeks/week13.md).
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
import math

import check
import numpy as np

from scratch import Tensor, manual_seed, viz
from scratch.data import Batches, load_digits
from scratch.models.autoencoder import VAE, VQVAE, Autoencoder, elbo, inside, vq
from scratch.models.autoencoder.elbo import importance_bound
from scratch.models.autoencoder.tasks import binarised, reconstructions
from scratch.optim import Adam
from scratch.tensor import record  # noqa: F401  what you fill in needs it

digits = load_digits(flat=False)
train, test = digits.train, digits.test
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Two numbers for an image
#
# The best *linear* squeeze into two numbers is the plane of the two largest principal components. An autoencoder has
# bends on both sides. Both are asked to give the test digits back from two numbers.


# %%
def steps(model, loss_of, count, lr=2e-3):
    """Train on batches of 128 digits; returns the loss of the last hundred steps."""
    optimizer, batches, last = Adam(model.parameters(), lr=lr), Batches(train.inputs, batch_size=128, seed=0), []
    for _ in range(count):
        (x,) = next(batches)
        loss = loss_of(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last.append(loss.item())
    return float(np.mean(last[-100:]))


def nats(model, x):
    return model.likelihood.nats(model(Tensor(x)), Tensor(x)) / len(x)


flat = train.inputs.reshape(len(train), -1)
mean = flat.mean(axis=0)
components = np.linalg.svd(flat - mean, full_matrices=False)[2][:2]
seen = test.inputs.reshape(len(test), -1)
linear_back = mean + (seen - mean) @ components.T @ components

# %% [markdown]
# **Predict 1.** The mean squared error of the linear squeeze is a bit above 0.05 a pixel; to say nothing but the mean
# image costs about 0.067. After 600 steps, is the autoencoder's error a tenth less, half of it, or a tenth of it?

# %% tags=["machine-dependent"]
manual_seed(0)
plain = Autoencoder(latent=2, hidden=(128,))
steps(plain, lambda x: nats(plain, x), 600)
back = reconstructions(plain, test.inputs)
print(f"the mean image     {((seen - mean) ** 2).mean():.4f}")
print(f"linear             {((seen - linear_back) ** 2).mean():.4f}")
print(f"with bends         {((test.inputs - back) ** 2).mean():.4f}")
assert ((test.inputs - back) ** 2).mean() < ((seen - linear_back) ** 2).mean() < ((seen - mean) ** 2).mean()
viz.image_grid(np.concatenate([test.inputs[:10], linear_back[:10].reshape(-1, 1, 28, 28), back[:10]]), columns=10,
               limits=(0, 1), title="image, linear, with bends")  # fmt: skip

# %% [markdown]
# ## 2. Where the codes lie
#
# Two numbers can be drawn. Each test digit stands at its code.

# %% tags=["machine-dependent"]
z = inside.codes_of(plain, test.inputs)
print("the codes reach from", z.min(axis=0).round(1), "to", z.max(axis=0).round(1))
assert z.shape == (len(test.inputs), 2) and np.ptp(z, axis=0).min() > 5
viz.class_scatter(z, test.targets, test.class_names, title="codes of a plain autoencoder")

# %% [markdown]
# **Predict 2.** We draw z from N(0, 1) in both numbers and decode. What do the ten images show: ten different digits,
# digits of few classes, or rubble?

# %%
viz.image_grid(inside.images_of(plain, rng.standard_normal((10, 2))), columns=10, limits=(0, 1),
               title="z from N(0, 1), plain autoencoder")  # fmt: skip

# %% [markdown]
# Nothing in the loss says where codes should lie. They lie far apart, and N(0, 1) knows only a corner of the plane.
#
# ## 3. A bound on log p(x)
#
# Let images come about so: $z \sim N(0, 1)$, then $x \sim p(x \mid z)$, which the decoder says. We want weights that
# make the images likely, but $p(x) = \int p(x \mid z)\, p(z)\, dz$ has no closed form. For *any* distribution
# $q(z \mid x)$
#
# $$\log p(x) \ \ge\ E_q[\log p(x \mid z)] - KL(q(z \mid x) \,\|\, p(z))$$
#
# (Jensen; the [page of the architecture](../scratch/models/autoencoder/README.md) has the three lines). The
# encoder gives $q = N(\mu, \sigma^2)$, as $\mu$ and $s = \ln \sigma^2$. For each number of z
#
# $$KL = \tfrac12 (\mu^2 + \sigma^2 - 1 - s)$$
#
# **Predict 3.** How many nats does it cost to say nothing ($\mu = 0, \sigma = 1$)? To know one number to a tenth
# ($\mu = 0, \sigma = 0.1$)? To know it to a tenth when it is 3?

# %%
for m, sigma in ((0, 1), (0, 0.1), (3, 0.1)):
    cost = 0.5 * (m * m + sigma * sigma - 1 - math.log(sigma * sigma))
    print(f"mean {m}, deviation {sigma}: {cost:.2f} nats, {cost / math.log(2):.1f} bits")

# %% [markdown]
# ln 10 = 2.3 nats is what it takes to tell ten places apart: the divergence is the price of what the code says.
#
# **Fill in 1.** The divergence as one operation, summed over the numbers of each image: (B, Z) and (B, Z) → (B,), with
# its derivatives $\partial KL / \partial \mu = \mu$ and $\partial KL / \partial s = \frac12 (\sigma^2 - 1)$. Here dy is
# (B,).


# %%
def my_kl(mean, s):
    """KL(N(μ, σ²) ‖ N(0, 1)) for Tensors μ and s = ln σ² of shape (B, Z) → (B,)"""
    # variance = np.exp(s.data)
    # def backward(dy):
    #     return ∂L/∂mean, ∂L/∂s
    # return record(y, (mean, s), backward)
    return ...


# %%
cases = [[np.random.default_rng(i).standard_normal((3, Z)) for i in (1, 2)] for Z in (1, 4)]
check.operation(my_kl, elbo.gaussian_kl, cases)

# %% [markdown]
# ## 4. A draw that has a derivative
#
# The first term is an expectation over draws from $q$, which depends on the encoder's weights. A draw has no
# derivative; but $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim N(0, 1)$ is a draw too, and in that form
# $\mu$ and $\sigma$ are plain inputs.
#
# **Fill in 2.** $z = \mu + e^{s/2} \varepsilon$ as an operation. What does $s$ get back from $dz$?


# %%
def my_draw(mean, s, eps):
    """z = μ + σ ε for Tensors μ and s = ln σ², and noise ε, a list of rows that needs no gradient"""
    # noise = np.asarray(eps)
    # def backward(dy):
    #     return ∂L/∂mean, ∂L/∂s
    # return record(z, (mean, s), backward)
    return ...


# %%
def library_draw(mean, s, eps):
    return elbo.reparameterise(mean, s, np.asarray(eps))


noises = [np.random.default_rng(5).standard_normal((3, Z)).tolist() for Z in (1, 4)]
check.operation(my_draw, library_draw, [[*case, noise] for case, noise in zip(cases, noises, strict=True)])

# %% [markdown]
# ## 5. A VAE of two numbers
#
# Pixels are made black or white at random, by their grey: then a Bernoulli decoder is a likelihood, and its nats can
# be compared.


# %% tags=["machine-dependent"]
def negative_elbo(model, x, beta=1.0):
    x = binarised(x, rng)
    out, mean, s = model(x, rng.standard_normal((len(x), *model.code)))
    return (model.likelihood.nats(out, Tensor(x)) + elbo.gaussian_kl(mean, s).sum() * beta) / len(x)


def vae(beta, count=800, latent=2):
    manual_seed(0)
    model = VAE(latent=latent, hidden=(128,))
    steps(model, lambda x: negative_elbo(model, x, beta), count)
    return model


model = vae(1.0)
z = inside.codes_of(model, test.inputs)
print("the codes' deviation:", z.std(axis=0).round(2), " nats in each number:",
      inside.kl_of_axes(model, test.inputs).round(2))  # fmt: skip
assert 0.5 < z.std(axis=0).min() and z.std(axis=0).max() < 2 and inside.kl_of_axes(model, test.inputs).min() > 1
viz.class_scatter(z, test.targets, test.class_names, title="codes of a VAE, their means")

# %%
viz.image_grid(inside.plane(model, 12), columns=12, limits=(0, 1), cell=0.5, title="images over the plane of z")

# %% [markdown]
# Every place decodes to a digit, or to something between two. Where two classes touch, a digit turns into another.
#
# **Predict 4.** The divergence weighed with β = 0, 1 and 10. For which is the reconstruction best? For which do draws
# from N(0, 1) look most like digits? And what do all images look like with β = 10?

# %% tags=["machine-dependent"]
models = {beta: model if beta == 1 else vae(beta) for beta in (0.0, 1.0, 10.0)}
rows, kls = [], []
for beta, each in models.items():
    x = binarised(test.inputs, np.random.default_rng(1))
    cost, kl = elbo.elbo_parts(each, x, np.random.default_rng(2).standard_normal((len(x), 2)))
    print(f"β = {beta:4}: −log p(x|z) {cost.mean():6.1f}   KL {kl.mean():8.1f}   sum {(cost + kl).mean():8.1f}")
    kls.append(kl.mean())
    rows.append(inside.images_of(each, np.random.default_rng(3).standard_normal((10, 2))))
assert kls[0] > 3 * kls[1] > 3 * kls[2] > 0
viz.image_grid(np.concatenate(rows), columns=10, limits=(0, 1), title="z from N(0, 1): β = 0, 1, 10")

# %% [markdown]
# Without the divergence it is a plain autoencoder again, and its ELBO is 40 nats worse: codes lie where N(0, 1) gives
# little probability. After so few steps its reconstruction is no better either. With β = 10 the code says so little
# that most images are one blur.
#
# ## 6. A tighter bound
#
# The mean of K weights $w = p(x \mid z)\, p(z) / q(z \mid x)$ also has the expectation $p(x)$, and spreads less, so
# that the logarithm loses less.
#
# **Predict 5.** By how much does the bound rise from K = 1 to K = 100: a tenth of a nat, a few nats, tens of nats?

# %% tags=["machine-dependent"]
x = binarised(test.inputs[:200], np.random.default_rng(1))
bounds = [importance_bound(model, x, K, np.random.default_rng(4)).mean() for K in (1, 10, 100)]
for K, bound in zip((1, 10, 100), bounds, strict=True):
    print(f"K = {K:3}: log p(x) ≥ {bound:.1f}")
assert -185 < bounds[0] < bounds[1] < bounds[2] < -150

# %% [markdown]
# The rest of what is lost is not the encoder's fault: two numbers are too few for a digit.
#
# ## 7. Codes that are whole numbers
#
# A VQ-VAE keeps a grid of 7×7 vectors and replaces each by the nearest row of a codebook.
#
# **Fill in 3.** The nearest row for each z, without a loop: $|z - e|^2 = |z|^2 - 2 z \cdot e + |e|^2$, and one of the
# three terms does not matter.


# %%
def my_nearest(z, codebook):
    """The row of the codebook nearest to each z.  Shapes: (N, D), (K, D) → (N,)"""
    return ...


# %%
check.function(my_nearest, vq.nearest, [[rng.standard_normal((n, 3)), rng.standard_normal((K, 3))]
                                        for n, K in ((5, 2), (40, 7))])  # fmt: skip

# %% [markdown]
# The nearest row is a staircase of z: its derivative is 0. The library hands the gradient of e to z as it is:

# %%
print(inspect.getsource(vq.straight_through))

# %% [markdown]
# **Predict 6.** 49 codes of 32 possible ones are 245 bits. The VAE above says how many bits of an image? Which of the
# two gives sharper images back?

# %% tags=["machine-dependent"]
manual_seed(0)
coded = VQVAE(codes=32, dim=8, width=16, blocks=1)


def vq_loss(x):
    out, _, commitment = coded(Tensor(x))
    return (coded.likelihood.nats(out, Tensor(x)) + commitment * 0.25) / len(x)


steps(coded, vq_loss, 300)
coded.eval()
_, codes, _ = coded(Tensor(test.inputs[:200]))
print(f"perplexity {vq.perplexity(codes, 32):.0f} of 32")
print(f"the VAE: {inside.kl_of_axes(model, test.inputs).sum() / math.log(2):.0f} bits an image")
assert 2 < vq.perplexity(codes, 32) <= 32
viz.image_grid(np.concatenate([test.inputs[:10], reconstructions(model, test.inputs[:10]),
                               reconstructions(coded, test.inputs[:10])]), columns=10, limits=(0, 1),
               title="image, VAE of two numbers, VQ-VAE of 49 codes")  # fmt: skip

# %% [markdown]
# **Predict 7.** Grids of codes drawn at random, each code as often as it occurs: what do they decode to?

# %%
drawn = rng.choice(codes.reshape(-1), size=(10, 7, 7))
viz.image_grid(coded.likelihood.picture(coded.decode(drawn)), columns=10, limits=(0, 1), title="codes drawn at random")

# %% [markdown]
# Codes are letters, and drawn at random they make no words. Which letters go together is for a language model: the GPT
# of week 16 writes them row by row (`scratch train autoencoder --preset vq`), and with a diffusion model in the GPT's
# place, on a grid of numbers, it is latent diffusion (`--model latent`).
