# %% [markdown]
# # Week 4: many looks at once
#
# In an hour: why one attention is not enough and what several side by side cost, the layer that is built around them,
# positions inside the product, the price of long texts and how to pay less memory, and two layers whose heads work
# together.
#
# You need [week 3](week3_attention.ipynb): $P = \mathrm{softmax}(QK^\top / \sqrt d)$, $Y = PV$, masks.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import math
import string
import time
import tracemalloc

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import relu
from scratch.layers import (
    Embedding,
    LayerNorm,
    Linear,
    MultiheadAttention,
    TransformerEncoderLayer,
    alibi_bias,
    alibi_slopes,
    attention_weights,
    linear,
    packed_attention,
    rotary,
    scaled_dot_product_attention,
    sinusoidal_table,
)
from scratch.losses import cross_entropy
from scratch.module import Module
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.tensor import no_grad, record  # noqa: F401  what you fill in needs record
from scratch.viz import figure
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend

# %% [markdown]
# ## 1. One softmax, one mean
#
# Ten random digits. Output $t$ shall name *two* of them, in order: the one before and the one after (at the ends, the
# row closes to a ring). One layer of attention with positions, then a linear layer with 2 · 10 scores.
#
# One head gives one mean of the values. To have both digits in it, it can put half of its weight on each.
#
# **Predict 1.** How often will a model with one head name the left neighbour right, how often the right one, how often
# both? Then the same number of parameters, but two attentions of half the width side by side: two *heads*.


# %%
class Neighbours(Module):
    """Digits (B, 10) → scores (B, 10, 2, 10) of the digits to the left and to the right."""

    def __init__(self, heads, C=32):
        self.digit, self.table = Embedding(10, C), sinusoidal_table(10, C)
        self.attention = MultiheadAttention(C, heads, batch_first=True)
        self.out = Linear(C, 20)

    def forward(self, x):
        h = self.digit(x) + self.table
        y, _ = self.attention(h, h, h, need_weights=False)
        return self.out(y).reshape(*x.shape, 2, 10)

    def weights(self, x):
        h = self.digit(x) + self.table
        return self.attention(h, h, h, average_attn_weights=False)[1].data  # (B, nh, T, T)


def draw_digits(rng, B):
    x = rng.integers(0, 10, (B, 10))
    return x, np.stack([np.roll(x, 1, axis=1), np.roll(x, -1, axis=1)], axis=-1)


def train(model, draw, steps, lr=1e-2, seed=0):
    """Adam along a cosine with warmup; the loss of each step. Targets of −100 do not count."""
    rng, optimizer, schedule = np.random.default_rng(seed), Adam(model.parameters()), cosine(lr, steps, warmup=30)
    losses = []
    for step in range(steps):
        x, targets = draw(rng, 64)
        scores = model(x)
        loss = cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


x, targets = draw_digits(np.random.default_rng(1), 1000)
shown = {}
for heads in (1, 2):
    manual_seed(0)
    model = Neighbours(heads)
    losses = train(model, draw_digits, 400)
    right = model(x).data.argmax(axis=-1) == targets
    shown[heads] = model.weights(x[:100]).mean(axis=0)
    shares = zip(("left", "right"), right.mean((0, 1)), strict=True)
    left_right = ", ".join(f"{name} {share:.1%}" for name, share in shares)
    print(f"{heads} heads, {model.count_parameters():,} parameters: {left_right}, both {right.all(-1).mean():.1%}; "
          f"loss at the end {np.mean(losses[-20:]):.3f}")


def show_weights(panel, P, title, y="", ticks=None):
    panel.imshow(P, cmap="Blues", vmin=0, vmax=1)
    panel.grid(False)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(range(0, len(P), 3) if ticks is None else range(len(P)), ticks)
    label(panel, title, "", y)


page, axes = figure(1, 3, panel=(2.9, 3.1))
show_weights(axes[0, 0], shown[1][0], "one head", "output")
show_weights(axes[0, 1], shown[2][0], "two heads: the first")
show_weights(axes[0, 2], shown[2][1], "and the second")
for panel in axes[0]:
    panel.set_xlabel("input")
page

# %% [markdown]
# The two shares of the one head add up to about 110 %: it names one neighbour and is right about the other where the
# two
# digits happen to be equal, once in ten. From $½ v_a + ½ v_b$ nobody can tell who stood left. Two heads make *two*
# means,
# side by side in the vector, and the parameters are the same. That is the whole idea of multi-head attention:
#
# $$\mathrm{head}_h = \mathrm{attention}(x W_{Q,h}^\top,\; x W_{K,h}^\top,\; x W_{V,h}^\top), \qquad
# y = [\mathrm{head}_1 \dots \mathrm{head}_{nh}]\, W_O^\top$$
#
# ## 2. Heads are a reshape
#
# $nh$ heads of size $hd = C / nh$. Nobody multiplies by $3\, nh$ small matrices: stack all of them into one,
# `in_proj_weight` $(3C, C)$: $W_Q$ over $W_K$ over $W_V$, and in each of these the heads one above the other. One
# product,
# and the rest is how one *looks* at the result:
#
# ```
# x                         (B, T, C)
# x W_inᵀ + b_in            (B, T, 3C)          columns: q of head 0, q of head 1, …, k of head 0, …, v of head 0, …
# cut in three              (B, T, C)           three times
# reshape                   (B, T, nh, hd)      head h owns the columns h·hd … (h + 1)·hd
# exchange the middle axes  (B, nh, T, hd)      B · nh attentions, none of which knows of another
# attention                 (B, nh, T, hd)
# exchange them back        (B, T, nh, hd)
# reshape: merged           (B, T, C)
# y W_Oᵀ + b_O              (B, T, C)           here, and only here, heads are mixed
# ```
#
# **Fill in 1.** Write it. `Tensor` has `reshape`, `swapaxes` and slices, and `scaled_dot_product_attention` takes any
# number of axes in front. Gradients come by themselves.


# %%
def my_multihead(x, in_proj_weight, in_proj_bias, out_weight, out_bias, num_heads):
    """Self-attention of x (B, T, C) with W_in (3C, C), b_in (3C,), W_O (C, C), b_O (C,), all Tensors → (B, T, C)"""
    # B, T, C = x.shape
    # qkv = linear(x, in_proj_weight, in_proj_bias)
    # q, k, v = ...                       each (B, nh, T, hd)
    # y = ...
    # return linear(..., out_weight, out_bias)
    return ...


# %%
def library_multihead(x, in_proj_weight, in_proj_bias, out_weight, out_bias, num_heads):
    y = packed_attention(linear(x, in_proj_weight, in_proj_bias), num_heads=num_heads)
    return linear(y, out_weight, out_bias)


def draw_multihead(seed, B, T, C, heads):
    r = np.random.default_rng(seed)
    return [r.standard_normal(shape) for shape in ((B, T, C), (3 * C, C), (3 * C,), (C, C), (C,))] + [heads]


check.operation(my_multihead, library_multihead, [draw_multihead(0, 2, 5, 6, 3), draw_multihead(1, 3, 4, 8, 2)])

# %% [markdown]
# The two steps in the middle look like fuss. `q.reshape(B, nh, T, hd)` gives the same shape at once.
#
# **Predict 2.** Four tokens, $C = 6$, two heads. The number in row $t$, column $c$ of `q` is $10 t + c$. What is in
# head 0
# after the two steps, what after the direct reshape? Does anything warn you? And what becomes of a causal mask?

# %%
q = np.array([[10 * t + c for c in range(6)] for t in range(4)])
print("two steps, head 0:\n", q.reshape(4, 2, 3).swapaxes(0, 1)[0])
print("reshape only, head 0:\n", q.reshape(2, 4, 3)[0])

x = Tensor(np.random.default_rng(0).standard_normal((4, 6)), requires_grad=True)
for name in ("two steps", "reshape only"):
    seen = []
    for t in range(4):
        x.grad = None
        heads = x.reshape(4, 2, 3).swapaxes(0, 1) if name == "two steps" else x.reshape(2, 4, 3)
        y = scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        y = y.swapaxes(0, 1).reshape(4, 6) if name == "two steps" else y.reshape(4, 6)
        (y[t] * np.arange(1.0, 7.0)).sum().backward()
        seen.append("".join(str(s) for s in np.flatnonzero(np.abs(x.grad).max(axis=1))))
    print(f"{name:12} with a causal mask the answers 0, 1, 2, 3 depend on the tokens {', '.join(seen)}")

# %% [markdown]
# The direct reshape cuts *time* where it should cut features: head 0 holds the first half of the sentence, twice as
# long
# and half as wide, and the second half of the sentence never hears of the first. All shapes are right, no error comes,
# and the model trains, badly. (Reshape wrongly and merge rightly, and even the mask leaks.) Whenever a reshape is
# followed by a swap, write the meaning of each axis beside it, as in the table above.
#
# ## 3. What it costs
#
# **Predict 3.** How many parameters has multi-head attention with $C = 64$, with biases, for 1, 4 and 16 heads? And a
# whole layer, with a feed-forward network of width $4C$ and two layer norms? Which part is the larger?

# %%
for heads in (1, 4, 16):
    print(f"{heads:2} heads of {64 // heads:2}: {MultiheadAttention(64, heads).count_parameters():,} parameters")
layer = TransformerEncoderLayer(64, 4, dim_feedforward=256, dropout=0.0, batch_first=True, norm_first=True)
for name, parameter in layer.named_parameters():
    print(f"  {name:28} {parameter.shape!s:12} {parameter.size:7,}")
print(f"the layer: {layer.count_parameters():,}, and 12 C² = {12 * 64 * 64:,}")

# %% [markdown]
# $4 C^2 + 4C$, whatever the number of heads: they only share out the columns. The multiplications are the same too. The
# feed-forward network has twice as many, $8C^2$: two thirds of a Transformer's layers are not attention.
#
# ## 4. The layer around it
#
# Attention is the only part that moves anything from one place to another. What is done with it at each place is the
# feed-forward network's work, the same for all places: $W_2\, \mathrm{relu}(W_1 x + b_1) + b_2$. Both stand in a
# *residual* branch ([week 11](week11b_resnet_unet.ipynb) shows why), and each has a *layer norm*, which brings every
# token's vector to mean 0 and variance 1. Where does the norm stand?
#
# ```
# post-norm (the paper, 2017)      x ← norm(x + f(x))
# pre-norm (nearly all since)      x ← x + f(norm(x))
# ```
#
# The layer, from its parts:


# %%
def layer_by_hand(layer, x):
    """Pre-norm: attention, then feed-forward, each added to the stream."""
    h = layer.norm1(x)  # (B, T, C)
    x = x + layer.self_attn(h, h, h)[0]
    h = layer.norm2(x)
    return x + layer.linear2(relu(layer.linear1(h)))


x = Tensor(np.random.default_rng(0).standard_normal((2, 5, 64)).astype(np.float32))
print("largest difference from TransformerEncoderLayer:", np.abs(layer_by_hand(layer, x).data - layer(x).data).max())

# %% [markdown]
# **Predict 4.** 24 layers, untrained, one behind the other. Follow one token's vector. How large is it (root mean
# square)
# after each layer, in the two forms? And how much of the input is still in it, as the cosine of the angle between the
# vector and the input?

# %%
page, axes = figure(1, 2, panel=(4.4, 3.3))
start = np.random.default_rng(0).standard_normal((4, 16, 64)).astype(np.float32)
for k, (name, norm_first) in enumerate({"post-norm": False, "pre-norm": True}.items()):
    manual_seed(0)
    x, sizes, cosines = Tensor(start), [], []
    for _ in range(25):
        sizes.append(float(np.sqrt((x.data * x.data).mean())))
        along = (x.data * start).sum(-1) / np.linalg.norm(x.data, axis=-1) / np.linalg.norm(start, axis=-1)
        cosines.append(float(along.mean()))
        with no_grad():
            x = TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=norm_first)(x)
    for panel, numbers in zip(axes[0], (sizes, cosines), strict=True):
        panel.plot(numbers, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], markersize=4, label=name)
    print(f"{name:9} after 24 layers: size {sizes[-1]:.2f}, cosine with the input {cosines[-1]:.2f}")
axes[0, 0].set_ylim(0, 3)
axes[0, 1].set_ylim(-0.1, 1.05)
label(axes[0, 0], "size of a token's vector", "layer", "root mean square")
label(axes[0, 1], "what is left of the input", "layer", "cosine")
legend(axes[0, 0])
page

# %% [markdown]
# Post-norm divides the whole stream by its size at every layer, so the input fades: its share shrinks by the same
# factor
# each time. Pre-norm only adds. The sum grows slowly, every layer can still read the input, and a gradient has a way
# back that passes through no layer at all ([week 5](../docs/weeks/README.md) measures it). The price: the last layers
# add
# little to a stream that has grown, and at the very end one more norm is needed.
#
# ## 5. Positions inside the product
#
# Week 3 *added* a position to each token. But what should count is how far apart a query and a key stand, and a dot
# product of sums holds four products, of which only one is about that. **Rotary positions** (Su and others, 2021): turn
# queries and keys, just before they are multiplied, by an angle in proportion to their position. In the plane, with
# $R_t$
# the rotation by $\omega t$:
#
# $$(R_t\, q) \cdot (R_s\, k) = q^\top R_t^\top R_s\, k = q^\top R_{s - t}\, k$$
#
# Only the distance is left, whatever $q$ and $k$ are. A head has $hd / 2$ such planes, the pairs of features $(2i,
# 2i+1)$,
# with the speeds of last week's clocks, $\omega_i = 10000^{-2i/hd}$:
#
# $$(a, b) \to (a \cos\theta - b \sin\theta,\;\; a \sin\theta + b \cos\theta), \qquad \theta = \omega_i t$$
#
# And back: the transpose of a rotation is the rotation by $-\theta$.
#
# **Fill in 2.** Rotary positions as one operation on the tape. `x.data[..., 0::2]` are the first of all pairs.


# %%
def my_rotary(x):
    """Tensor x (..., T, hd), hd even: pair i of row t turned by t · 10000^(−2i/hd)"""
    # theta = ...                         (T, hd/2)
    # def turned(x, theta):               an array like x
    #     y = np.empty_like(x)
    #     ...
    #     return y
    # def backward(dy):
    #     return (...,)
    # return record(turned(x.data, theta), (x,), backward)
    return ...


# %%
rng = np.random.default_rng(0)
check.operation(my_rotary, rotary, [[np.array([[5.0, 7.0], [1.0, 0.0]])], [rng.standard_normal((2, 3, 6, 8))]])

# %% [markdown]
# **ALiBi** (Press and others, 2022) goes further: no vectors at all. From each score, subtract the distance times a
# slope, a fixed one for each head: $s_{ts} - m_h |t - s|$ with $m_h = 2^{-8h/nh}$.
#
# **Predict 5.** A query and a key of 64 ones. What is their product after turning, at the same place, and a distance
# of 1,
# 10, 100 apart? Is it the same curve for the places 0 and 500? And for ALiBi with 8 heads and equal contents: how far
# back does the first head hear, how far the last?

# %%
page, axes = figure(1, 2, panel=(4.6, 3.5))
ones, some = np.ones((1, 64)), rng.standard_normal((2, 1, 64))


def score(q, k, t, s):
    """q · k / √hd of a query at place t and a key at place s"""
    return float((rotary(q, offset=t) @ rotary(k, offset=s).T).data[0, 0] / 8)


distances = range(0, 121, 2)
for i, (name, (a, b)) in enumerate({"ones and ones": (ones, ones), "a random pair": some}.items()):
    for t, marker in ((0, ""), (500, MARKERS[i])):
        curve = [score(a, b, t, t + distance) for distance in distances]
        axes[0, 0].plot(distances, curve, marker=marker, markersize=3, color=COLOURS[i], ls="" if marker else "-",
                        label=f"{name}, query at {t}")  # fmt: skip
print("ones and ones at distance 0, 1, 10, 100:", *(f"{score(ones, ones, 500, 500 + k):.3f}" for k in (0, 1, 10, 100)))
label(axes[0, 0], "rotary: the score knows the distance only", "distance", "score")
legend(axes[0, 0])
weights = attention_weights(np.zeros((8, 64, 4)), np.zeros((8, 64, 4)), alibi_bias(8, 64, dtype=np.float64)).data[:, -1]
for i, h in enumerate((0, 2, 4, 7)):
    slope = alibi_slopes(8)[h]
    back = np.arange(63, -1, -1)
    axes[0, 1].plot(back, weights[h], color=COLOURS[i], linestyle=DASHES[i], label=f"slope {slope:.3g}")
axes[0, 1].set_xlim(0, 40)
label(axes[0, 1], "ALiBi: every head has its own reach", "distance", "weight, equal contents")
legend(axes[0, 1])
page

# %% [markdown]
# The circles and squares (query at 500) lie on the lines (query at 0). For equal vectors the score falls with the
# distance, with last week's ripples; for others it is whatever $q$ and $k$ make of it, so a head can learn to ask for
# "exactly one back", and section 7 will see it do so. ALiBi can only prefer the near, but it is defined at any
# distance,
# also at ones that never occurred in training.
#
# ## 6. The price of length
#
# $S$ and $P$ have a number for every pair of places. Projections and feed-forward take $12 C^2$ multiplications a
# token,
# $QK^\top$ and $PV$ together $2TC$: attention is the smaller part until $T = 6C$. But its memory, for training, is
# $T^2$ a
# head from the start.
#
# Must $P$ ever be there as a whole? $Y$ is $(T, d)$. **The blocked form** (the *online softmax*: Milakov and Gimelshein
# 2018; FlashAttention, Dao and others 2022) reads keys and values in blocks and keeps three things for each query: $m$,
# the largest score so far, $n = \sum_s e^{s - m}$, and $y = \sum_s e^{s - m}\, v_s$. A new block may bring a larger
# $m'$.
# Then everything old is too large by $e^{m' - m}$: multiply it by $e^{m - m'}$ and go on. By hand, scores $1, 2$ and
# then
# $4$, values $10, 20$ and then $40$:
#
# ```
# block 1   m = 2    n = e⁻¹ + 1          = 1.368      y = 10 e⁻¹ + 20           = 23.679
# block 2   m = 4    n = 1.368 e⁻² + 1    = 1.185      y = 23.679 e⁻² + 40       = 43.205      y / n = 36.456
# ```


# %%
def blocked_attention(query, key, value, block=128):
    """The same Y for arrays (T, d), (S, d), (S, n), with never more than T × block scores at once."""
    query = query / math.sqrt(query.shape[1])
    m = np.full((len(query), 1), -np.inf, query.dtype)
    n, y = np.zeros_like(m), np.zeros((len(query), value.shape[1]), value.dtype)
    for start in range(0, len(key), block):
        scores = query @ key[start : start + block].T  # (T, block)
        new_m = np.maximum(m, scores.max(axis=1, keepdims=True))
        scores -= new_m
        np.exp(scores, out=scores)
        shrink = np.exp(m - new_m)  # 0 at the first block
        n = n * shrink + scores.sum(axis=1, keepdims=True)
        y = y * shrink + scores @ value[start : start + block]
        m = new_m
    return y / n


scores, values = np.array([[1.0], [2.0], [4.0]]), np.array([[10.0], [20.0], [40.0]])
print(f"by hand, above: {blocked_attention(np.ones((1, 1)), scores, values, block=2)[0, 0]:.3f}")
q, k, v = (rng.standard_normal((1000, 32)) for _ in range(3))
apart = np.abs(blocked_attention(q, k, v) - scaled_dot_product_attention(q, k, v).data).max()
print("a thousand queries and keys, the same to twelve digits:", bool(apart < 1e-12))

# %% [markdown]
# **Predict 6.** From 1,024 to 4,096 tokens: how many times as long do the two take, and how many times as much memory?
# Is the blocked one slower, since it multiplies more?

# %%
lengths = 2 ** np.arange(8, 13)
forms = {"whole": lambda q, k, v: scaled_dot_product_attention(q, k, v), "blocked": blocked_attention}
memory, seconds = ({name: [] for name in forms} for _ in range(2))
for T in lengths:
    q, k, v = (rng.standard_normal((T, 32), np.float32) for _ in range(3))
    for name, attention in forms.items():
        with no_grad():
            times = []
            for _ in range(3):
                began = time.perf_counter()
                attention(q, k, v)
                times.append(time.perf_counter() - began)
            tracemalloc.start()
            attention(q, k, v)
            memory[name].append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
        seconds[name].append(min(times))
    told = (f"{name} {memory[name][-1]:6.1f} MB {1e3 * seconds[name][-1]:6.1f} ms" for name in forms)
    print(f"T = {T:5,}: " + ", ".join(told))

page, axes = figure(1, 2, panel=(4.4, 3.3))
for panel, figures, unit in ((axes[0, 0], memory, "MB"), (axes[0, 1], seconds, "seconds")):
    for k, (name, numbers) in enumerate(figures.items()):
        panel.plot(lengths, numbers, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.set_xticks(lengths, [f"{T:,}" for T in lengths])
    label(panel, "peak memory, one head" if unit == "MB" else "time, one thread", "T", unit)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
legend(axes[0, 0])
page

# %% [markdown]
# Time grows with $T^2$ in both. Memory: sixteenfold against fourfold. One head of a text of 100,000 tokens would need
# 40 GB
# for $P$. The blocked form does the same multiplications and a little more, but its scores stay in the cache, where
# the others travel to memory and back. For training, the backward pass makes each block of $P$ again, from $m$ and $n$.
#
# ## 7. Heads that work together
#
# A text of random letters that repeats itself, with a period of 6 to 12 that nobody tells: `qmzxkbtqmzxkbtqm…`. What
# comes next? Until the first letter returns, nobody can know. From then on the rule is: *find the last place where
# the present
# letter stood, and name what came after it.*
#
# **Predict 7.** One layer of attention: query "I am a `q`", key, value. Can it follow the rule? Can two layers? (What
# does a key know, in the first layer, about the letter *before* it?) Which accuracy will each reach on letters that can
# be known?


# %%
class Block(Module):
    """x + attention(norm(x)), causal, with rotary positions; no feed-forward network, so that only heads can work."""

    def __init__(self, C, heads):
        self.heads, self.norm, self.qkv, self.out = heads, LayerNorm(C), Linear(C, 3 * C), Linear(C, C)

    def split(self, x):
        B, T, C = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, T, 3, self.heads, C // self.heads).transpose(2, 0, 3, 1, 4)
        return rotary(qkv[0]), rotary(qkv[1]), qkv[2]  # each (B, nh, T, hd)

    def forward(self, x, without=None):
        y = scaled_dot_product_attention(*self.split(x), is_causal=True)
        if without is not None:
            y = y * (np.arange(self.heads) != without)[:, None, None].astype(y.dtype)
        return x + self.out(y.swapaxes(1, 2).reshape(*x.shape))

    def weights(self, x):
        q, k, _ = self.split(x)
        return attention_weights(q, k, is_causal=True).data


class Repeater(Module):
    """Letters (B, T) → scores of the next letter (B, T, 26)."""

    def __init__(self, layers, C=32, heads=2):
        self.letter, self.norm, self.out = Embedding(26, C), LayerNorm(C), Linear(C, 26)
        self.blocks = [Block(C, heads) for _ in range(layers)]

    def forward(self, x, without=(None, None)):
        h = self.letter(x)
        for i, block in enumerate(self.blocks):
            h = block(h, without[1] if without[0] == i else None)
        return self.out(self.norm(h))

    def weights(self, x):
        h, found = self.letter(x), []
        for block in self.blocks:
            found.append(block.weights(h))
            h = block(h)
        return found


def draw_repeats(rng, B, T=24):
    """Texts (B, T) of different letters, repeated with a period of their own; targets are −100 until one returns."""
    period = rng.integers(6, 13, (B, 1))
    letters = rng.permuted(np.tile(np.arange(26), (B, 1)), axis=1)
    text = np.take_along_axis(letters, np.arange(T + 1) % period, axis=1)
    return text[:, :-1], np.where(np.arange(T) < period, -100, text[:, 1:])


def accuracy(model, x, targets, **options):
    with no_grad():
        return float((model(x, **options).data.argmax(axis=-1) == targets)[targets >= 0].mean())


x, targets = draw_repeats(np.random.default_rng(1), 500)
page, axes = figure(panel=(6.0, 3.2))
for k, layers in enumerate((1, 2)):
    manual_seed(0)
    repeater = Repeater(layers)
    losses = train(repeater, draw_repeats, 500, lr=5e-3)
    axes[0, 0].plot(losses, color=COLOURS[k], linestyle=DASHES[k], label=f"{layers} layer" + "s" * (layers > 1))
    print(f"{layers} layers: loss at the end {np.mean(losses[-20:]):.3f}, right {accuracy(repeater, x, targets):.1%}")
axes[0, 0].set_ylim(0, 3.6)
label(axes[0, 0], "what comes next in a text that repeats", "step", "loss")
legend(axes[0, 0])
page

# %% [markdown]
# One layer cannot: a key holds its own letter, and the question is about the letter after it. Two layers can, and the
# loss tells when they found out: it lies flat, then falls within fifty steps or so. Where do the heads of the trained
# model look? One text, the weights of all four heads:

# %%
period = 8
text = (np.random.default_rng(5).permutation(26)[:period])[np.arange(20) % period][None]
letters = [string.ascii_lowercase[i] for i in text[0]]
page, axes = figure(1, 4, panel=(3.1, 3.4))
for i, weights in enumerate(repeater.weights(text)):
    for h in range(2):
        panel = axes[0, 2 * i + h]
        show_weights(panel, weights[0, h], f"layer {i}, head {h}", "" if i + h else "query at", letters)
        panel.plot(*(np.arange(1, 20), np.arange(1, 20))[::-1], "", alpha=0)
        back = 1 if i == 0 else period - 1
        panel.plot(np.arange(20 - back), np.arange(back, 20), ".", color=COLOURS[1], markersize=3.5)
        panel.tick_params(labelsize=8)
page

# %% [markdown]
# Dots mark *the letter before* in layer 0, and in layer 1 *the place after the last occurrence of my letter*. That is
# the
# trick: layer 0 writes into every place which letter stood before it. Then layer 1 asks "who has a `q` before him?",
# and
# copies that place's letter. One says *induction head*; Elhage, Olsson and others (2021, 2022) found it in every
# language
# model they looked at.
#
# **Predict 8.** Silence one head at a time, by putting zeros in the place of its output. Which of the four does the
# model
# need, and which can it do without?

# %%
print(f"all four heads: {accuracy(repeater, x, targets):.1%}")
for i in range(2):
    for h in range(2):
        print(f"without layer {i}, head {h}: {accuracy(repeater, x, targets, without=(i, h)):6.1%}")

# %% [markdown]
# ## Where to go from here
#
# - Rebuild, from the [page of this week](../docs/weeks/week4.md): the blocked form with its gradients.
# - Read [multihead.py](../scratch/layers/attention/multihead.py) and
#   [rotary.py](../scratch/layers/positions/rotary.py): every line should now have a reason.
# - Weeks 5 and 6 put encoder and decoder together and let them translate.
