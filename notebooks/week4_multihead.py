# %% [markdown]
# # Week 4: many looks at once
#
# In an hour: why one attention is not enough, how several work side by side for the price of one, who asks whom, the
# layer that is built around them, positions inside the product, and two layers whose heads work together.
#
# You need [week 3](week3_attention.ipynb): $P = \mathrm{softmax}(QK^\top / \sqrt d)$, $Y = PV$, masks, and the clocks
# that tell places.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import string

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
from scratch.viz.style import COLOURS, DASHES, GREY, MARKERS, label, legend

# %% [markdown]
# ## 1. One softmax, one mean
#
# Ten random digits, in a ring. Output $t$ shall name *two* of them: the one before it and the one after it. One layer
# of attention with positions, then a linear layer that gives 2 · 10 scores.
#
# One attention gives one weighted mean of the values. To have both digits in it, it can put half of its weight on
# each.
#
# **Predict 1.** How often will the model name the left neighbour right, how often the right one, how often both? Then
# the same with as many parameters, but two attentions of half the width side by side: two *heads*.


# %% tags=["machine-dependent"]
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


def draw_ring(rng, B):
    x = rng.integers(0, 10, (B, 10))
    return x, np.stack([np.roll(x, 1, axis=1), np.roll(x, -1, axis=1)], axis=-1)


def train(model, draw, steps, lr=1e-2, seed=0):
    """Adam along a cosine with warm-up; the loss of each step. Targets of −100 do not count."""
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


def show_weights(panel, P, title, y="", ticks=None):
    """Weights (T, S) as shades of blue, 0 white and 1 dark."""
    panel.imshow(P, cmap="Blues", vmin=0, vmax=1)
    panel.grid(False)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(range(0, len(P), 3) if ticks is None else range(len(P)), ticks)
    label(panel, title, "key at", y)


x, targets = draw_ring(np.random.default_rng(1), 1000)
shown = []
for heads in (1, 2):
    manual_seed(0)
    model = Neighbours(heads)
    losses = train(model, draw_ring, 400)
    named = model(x).data.argmax(axis=-1)  # (B, 10, 2)
    right = named == targets
    shown += list(model.weights(x[:100]).mean(axis=0))
    left, after = right.mean(axis=(0, 1))
    print(f"heads {heads}, {model.count_parameters():,} parameters: left {left:.1%}, right {after:.1%}, "
          f"both {right.all(axis=-1).mean():.1%}; loss at the end {np.mean(losses[-20:]):.3f}")
    assert (right.all(axis=-1).mean() > 0.95) == (heads == 2)
    if heads == 1:
        print(f"   asked for the right one, it names the left one: {(named[..., 1] == targets[..., 0]).mean():.1%}")

page, axes = figure(1, 3, panel=(2.9, 3.1))
for panel, P, name in zip(axes[0], shown, ("one head", "two heads: the first", "and the second"), strict=True):
    show_weights(panel, P, name, "query at" if name == "one head" else "")
page

# %% [markdown]
# The one head looks to both sides, a little more to the left. What it hands on is a bag of digits with shares, and all
# that the linear layer can ask is which digit has the largest. So it names the left one, *in both answers*, and as the
# right neighbour that is right where the two happen to be equal, and where the balance tips. From $½ v_a + ½ v_b$
# nobody can tell which of the two stood left.
#
# Two heads make *two* means, which stand side by side in the vector, and the parameters are as many as before. That is
# the whole idea of multi-head attention:
#
# $$\mathrm{head}_h = \mathrm{attention}(x W_{Q,h}^\top,\; x W_{K,h}^\top,\; x W_{V,h}^\top), \qquad
# y = [\mathrm{head}_1 \dots \mathrm{head}_{nh}]\, W_O^\top$$
#
# ## 2. Heads are a reshape
#
# There are $nh$ heads of size $hd = C / nh$. Nobody multiplies by $3\, nh$ small matrices. Stack all of them into one,
# `in_proj_weight` $(3C, C)$: $W_Q$ over $W_K$ over $W_V$, and in each of the three the heads one above the other. Then
# it is one product, and the rest is how one *looks* at the result:
#
# ```
# x                         (B, T, C)
# x W_inᵀ + b_in            (B, T, 3C)          columns: q of head 0, q of head 1, …, k of head 0, …, v of head 0, …
# cut in three              (B, T, C)           three times
# reshape                   (B, T, nh, hd)      head h owns the columns h·hd … (h + 1)·hd − 1
# exchange the middle axes  (B, nh, T, hd)      B · nh attentions, none of which knows of another
# attention                 (B, nh, T, hd)
# exchange them back        (B, T, nh, hd)
# reshape: merged           (B, T, C)
# y W_Oᵀ + b_O              (B, T, C)           here, and only here, heads are mixed
# ```
#
# The two steps in the middle look like fuss, for `q.reshape(B, nh, T, hd)` gives the same shape at once.
#
# **Predict 2.** Four tokens, $C = 6$, two heads. The number in row $t$, column $c$ of `q` is $10 t + c$. What is in
# head 0 after the two steps, and what after the direct reshape? Does anything warn you? And which tokens can answer 3
# hear of in each case?

# %%
q = np.array([[10 * t + c for c in range(6)] for t in range(4)])
print("two steps, head 0:\n", q.reshape(4, 2, 3).swapaxes(0, 1)[0])
print("reshape only, head 0:\n", q.reshape(2, 4, 3)[0])

x = Tensor(np.random.default_rng(0).standard_normal((4, 6)), requires_grad=True)
for name in ("two steps", "reshape only"):
    hears = []
    for t in range(4):
        x.grad = None
        heads = x.reshape(4, 2, 3).swapaxes(0, 1) if name == "two steps" else x.reshape(2, 4, 3)
        y = scaled_dot_product_attention(heads, heads, heads)
        y = y.swapaxes(0, 1).reshape(4, 6) if name == "two steps" else y.reshape(4, 6)
        (y[t] * np.arange(1.0, 7.0)).sum().backward()
        hears.append("".join(str(s) for s in np.flatnonzero(np.abs(x.grad).max(axis=1))))
    print(f"{name:12} the answers 0, 1, 2, 3 depend on the tokens {', '.join(hears)}")

# %% [markdown]
# The direct reshape cuts *time* where it should cut features. Head 0 holds the first half of the sentence, twice as
# many rows of half the features, and the two halves never hear of each other. All shapes are right, no error comes,
# and the model trains, badly. Whenever a reshape goes with a swap, write the meaning of each axis beside it, as in the
# table.
#
# ## 3. Who asks whom
#
# So far a sequence has looked at itself: **self-attention**. But queries may come from one sequence and keys and
# values from another. A translation asks its source, a picture asks its caption: **cross-attention**. The same
# formula, the same parameters, only another input for two of the three projections:
#
# ```
# self      q, k, v of x                           (B, T, C), (B, T, C)  →  weights (B, nh, T, T), y (B, T, C)
# cross     q of x, k and v of a memory m          (B, T, C), (B, S, C)  →  weights (B, nh, T, S), y (B, T, C)
# ```
#
# **Predict 3.** Two sequences of 3 places ask memories of 7 places, with 4 heads, without positions. What shapes have
# the answer and the weights? How much does the answer change if the memory is read backwards? If its last place stands
# there twice? If *all* of it stands there twice?

# %%
manual_seed(0)
ask = MultiheadAttention(16, 4, batch_first=True)
rng = np.random.default_rng(0)
x, m = (rng.standard_normal((2, length, 16)).astype(np.float32) for length in (3, 7))
y, weights = ask(x, m, m, average_attn_weights=False)
print(f"answer {y.shape}, weights {weights.shape}")
memories = {"read backwards": m[:, ::-1], "the last place twice": m[:, [0, 1, 2, 3, 4, 5, 6, 6]],
            "all of it twice": np.concatenate([m, m], axis=1)}  # fmt: skip
for name, other in memories.items():
    print(f"{name:21} the answer changes by {np.abs(ask(x, other, other)[0].data - y.data).max():.3f}")
hidden = np.arange(8) == 7  # MultiheadAttention's masks are True where one must NOT look
again = ask(x, memories["the last place twice"], m[:, [0, 1, 2, 3, 4, 5, 6, 6]], np.stack([hidden, hidden]))[0]
print(f"and with the second copy hidden by key_padding_mask: {np.abs(again.data - y.data).max():.3f}")

# %% [markdown]
# There is a row for each *query*, whatever $S$ is. A memory is a bag: its order does not matter, but how often a thing
# is in it does. Written twice as a whole, every weight is halved and stands there twice, so nothing happens. Padding
# would be a thing that is there many times, and must be hidden. Mind the trap in the last cell: for the *function*
# `scaled_dot_product_attention` True means *may look*; for the *layer* `MultiheadAttention` True means *may not*.
# PyTorch has it so, and so have we.
#
# **Fill in 1.** Multi-head attention of $x$ to $m$. `Tensor` has `reshape`, `swapaxes` and slices, so `W_in[:C]` is
# $W_Q$; `linear(x, W, b)` is $x W^\top + b$; and `scaled_dot_product_attention` takes any number of axes in front.
# Gradients come by themselves.


# %%
def my_multihead(x, memory, W_in, b_in, W_out, b_out, num_heads):
    """Tensors x (B, T, C), memory (B, S, C), W_in (3C, C), b_in (3C,), W_out (C, C), b_out (C,) → (B, T, C)"""
    # B, T, C = x.shape
    # q = ...                             (B, nh, T, hd)
    # k, v = ...                          (B, nh, S, hd) each
    # y = scaled_dot_product_attention(q, k, v)
    # return linear(..., W_out, b_out)
    return ...


# %%
def library_multihead(x, memory, W_in, b_in, W_out, b_out, num_heads):
    C = x.shape[-1]
    projected = linear(x, W_in[:C], b_in[:C]), linear(memory, W_in[C:], b_in[C:])
    return linear(packed_attention(*projected, num_heads=num_heads), W_out, b_out)


def draw_multihead(seed, B, T, S, C, heads):
    r = np.random.default_rng(seed)
    shapes = ((B, T, C), (B, S, C), (3 * C, C), (3 * C,), (C, C), (C,))
    return [r.standard_normal(shape) for shape in shapes] + [heads]


check.operation(my_multihead, library_multihead, [draw_multihead(0, 2, 5, 3, 6, 3), draw_multihead(1, 3, 4, 7, 8, 2)])

# %% [markdown]
# ## 4. What it costs
#
# **Predict 4.** How many parameters has multi-head attention with $C = 64$ and biases, for 1, 4 and 16 heads? And a
# whole layer, which has a feed-forward network of width $4C$ and two layer norms besides? Which part is the larger?
# And from which length $T$ on does attention itself, $QK^\top$ and $PV$, take more multiplications than all matrices?

# %%
C = 64
for heads in (1, 4, 16):
    print(f"{heads:2} heads of {C // heads:2}: {MultiheadAttention(C, heads).count_parameters():,} parameters")
layer = TransformerEncoderLayer(C, 4, dim_feedforward=4 * C, dropout=0.0, batch_first=True, norm_first=True)
for name, parameter in layer.named_parameters():
    print(f"  {name:28} {parameter.shape!s:12} {parameter.size:7,}")
print(f"the layer: {layer.count_parameters():,}, and 12 C² = {12 * C * C:,}")
for T in (64, 384, 4096):
    matrices, attention, numbers = T * 12 * C * C, 2 * T * T * C, 4 * T * T
    print(f"T = {T:5,}, millions: {matrices / 1e6:5,.0f} products with weights, {attention / 1e6:5,.0f} in attention; "
          f"P of 4 heads: {numbers / 1e6:5.2f}")

# %% [markdown]
# $4 C^2 + 4C$, whatever the number of heads: they only share out the columns, and the multiplications are as many. The
# feed-forward network has twice as many, $8C^2$: two thirds of a Transformer's layer are not attention.
#
# A token costs $12 C^2$ multiplications by weights, and $2TC$ in attention: more only from $T = 6C$ on. Training also
# keeps $P$, $nh\, T^2$ numbers, while all else that it keeps grows with $T$ only. It can do without:
# [blocked.py](../scratch/layers/attention/blocked.py) takes keys in blocks, brings the softmax of each row up to date
# as they come by, and makes $P$ again, block by block, on the way back.
#
# ## 5. The layer around it
#
# Attention is the only part that moves anything from one place to another. What is done with it there is the work of
# the feed-forward network, the same for all places: $W_2\, \mathrm{relu}(W_1 x + b_1) + b_2$. Both stand in a
# *residual* branch, $x + f(x)$ ([week 11](week11b_resnet_unet.ipynb) shows why), and each has a *layer norm*, which
# brings every token's vector to mean 0 and variance 1. Where does the norm stand?
#
# ```
# post-norm (the paper, 2017)      x ← norm(x + f(x))
# pre-norm (nearly all since)      x ← x + f(norm(x))
# ```
#
# Here is the whole layer, pre-norm, from its parts:


# %%
def layer_by_hand(layer, x):
    """Attention, then feed-forward, each added to the stream.  (B, T, C) → the same"""
    h = layer.norm1(x)
    x = x + layer.self_attn(h, h, h)[0]
    h = layer.norm2(x)
    return x + layer.linear2(relu(layer.linear1(h)))


x = Tensor(np.random.default_rng(0).standard_normal((2, 5, C)))
layer = layer.to(np.float64)
print("the same as TransformerEncoderLayer:", bool(np.allclose(layer_by_hand(layer, x).data, layer(x).data)))

# %% [markdown]
# **Predict 5.** 24 layers, untrained, one behind the other. Follow a token's vector. How large is it (root mean
# square) after each layer, in the two forms? And how much of the input is still in it, measured as the cosine of the
# angle between the vector and the input?

# %%
page, axes = figure(1, 2, panel=(4.4, 3.3))
start = np.random.default_rng(0).standard_normal((4, 16, C)).astype(np.float32)
for i, (name, norm_first) in enumerate({"post-norm": False, "pre-norm": True}.items()):
    manual_seed(0)
    x, sizes, cosines = Tensor(start), [], []
    for _ in range(25):
        sizes.append(float(np.sqrt((x.data * x.data).mean())))
        along = (x.data * start).sum(-1) / np.linalg.norm(x.data, axis=-1) / np.linalg.norm(start, axis=-1)
        cosines.append(float(along.mean()))
        with no_grad():
            x = TransformerEncoderLayer(C, 4, 4 * C, dropout=0.0, batch_first=True, norm_first=norm_first)(x)
    for panel, numbers in zip(axes[0], (sizes, cosines), strict=True):
        panel.plot(numbers, color=COLOURS[i], linestyle=DASHES[i], marker=MARKERS[i], markersize=4, label=name)
    print(f"{name:9} after 24 layers: size {sizes[-1]:.2f}, cosine with the input {cosines[-1]:.2f}")
axes[0, 0].set_ylim(0, 3)
axes[0, 1].set_ylim(-0.1, 1.05)
label(axes[0, 0], "how large is a token's vector?", "layer", "root mean square")
label(axes[0, 1], "what is left of the input?", "layer", "cosine")
legend(axes[0, 0])
page

# %% [markdown]
# Post-norm divides the whole stream by its size in every layer, so what was there before shrinks by the same factor
# each time, and the input fades. Pre-norm only adds. Its sum grows slowly, every layer can still read the input, and a
# gradient has a way back that passes through no layer at all ([week 5](week5_encoder_decoder.ipynb) measures it). The
# price: the last layers add little to a stream that has grown, and behind the last one stands one more norm.
#
# ## 6. Positions inside the product
#
# Week 3 *added* a position to each token. Then the product of a query and a key is a sum of four: content with
# content, content with place, place with content, place with place. What should count is mostly how *far apart* the
# two stand.
#
# **Rotary positions** (Su and others, 2021): turn queries and keys, just before they are multiplied, by an angle in
# proportion to their place. In the plane, with $R_t$ the rotation by $\omega t$:
#
# $$(R_t\, q) \cdot (R_s\, k) = q^\top R_t^\top R_s\, k = q^\top R_{s - t}\, k$$
#
# Only the distance is left, whatever $q$ and $k$ are. A head has $hd / 2$ such planes, the pairs of features
# $(2i, 2i+1)$, with the speeds of last week's clocks, $\omega_i = 10000^{-2i/hd}$:
#
# $$(a, b) \to (a \cos\theta - b \sin\theta,\;\; a \sin\theta + b \cos\theta), \qquad \theta = \omega_i t$$
#
# And the way back: the transpose of a rotation is the rotation by $-\theta$.
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
r = np.random.default_rng(0)
check.operation(my_rotary, rotary, [[np.array([[5.0, 7.0], [1.0, 0.0]])], [r.standard_normal((2, 3, 6, 8))]])

# %% [markdown]
# **ALiBi** (Press and others, 2022) does without vectors: from each score, subtract the distance times a slope that is
# fixed for each head, $s_{ts} - m_h |t - s|$ with $m_h = 2^{-8h/nh}$, $h = 1 \dots nh$.
#
# **Predict 6.** Rotary: a query and a key of 64 ones. What is their score at the same place, and how does it go on
# with the distance? Is it the same curve for queries at place 0 and at place 500? ALiBi, 8 heads, all contents alike:
# how far back does the first head hear, how far the last?

# %%
page, axes = figure(1, 2, panel=(4.6, 3.5))
pairs = {"ones and ones": np.ones((2, 1, 64)), "a random pair": r.standard_normal((2, 1, 64))}


def score(q, k, t, s):
    """q · k / √hd of a query at place t and a key at place s"""
    return float((rotary(q, offset=t) @ rotary(k, offset=s).T).data[0, 0] / 8)


distances = range(0, 121, 2)
for i, (name, (q, k)) in enumerate(pairs.items()):
    axes[0, 0].plot(distances, [score(q, k, 0, n) for n in distances], color=COLOURS[i], label=f"{name}, query at 0")
    axes[0, 0].plot(distances, [score(q, k, 500, 500 + n) for n in distances], MARKERS[i], markersize=3,
                    color=COLOURS[i], label=f"{name}, query at 500")  # fmt: skip
q, k = pairs["ones and ones"]
print("ones and ones at distance 0, 1, 10, 100:", *(f"{score(q, k, 500, 500 + n):.3f}" for n in (0, 1, 10, 100)))
axes[0, 0].set_ylim(-3, 13)
label(axes[0, 0], "rotary: the score knows the distance only", "distance", "score")
legend(axes[0, 0])
nothing = np.zeros((8, 64, 4))  # all scores 0 but for the bias
weights = attention_weights(nothing, nothing, alibi_bias(8, 64, dtype=np.float64)).data[:, -1]
for i, h in enumerate((0, 2, 4, 7)):
    name = f"head {h + 1}, slope {alibi_slopes(8)[h]:.3g}"
    axes[0, 1].plot(np.arange(63, -1, -1), weights[h], color=COLOURS[i], linestyle=DASHES[i], label=name)
axes[0, 1].set_xlim(0, 40)
label(axes[0, 1], "ALiBi: every head has its own reach", "distance", "weight, equal contents")
legend(axes[0, 1])
page

# %% [markdown]
# The markers (query at 500) lie on the lines (query at 0). For equal vectors the score falls with the distance, with
# last week's ripples; for others it is whatever $q$ and $k$ make of it, so a head can *learn* to ask for "exactly one
# back". ALiBi can only prefer the near to the far, at a rate that nobody trains. But no distance is new to it.
#
# Which is the better one, then? A task: 16 random digits, each place shall name the digit before it (causal, one
# layer, 4 heads). It is trained at length 16 and then reads texts of 64.
#
# **Predict 7.** Sketch for each way of telling places, none among them, how often place $t$ is right, $t = 1 \dots
# 63$.


# %% tags=["machine-dependent"]
class OneBack(Module):
    """Digits (B, T) → scores (B, T, 10); `how` the places are told: "none", "added", "rotary" or "ALiBi"."""

    def __init__(self, how, C=32, heads=4):
        self.how, self.heads = how, heads
        self.digit, self.qkv, self.mix, self.out = Embedding(10, C), Linear(C, 3 * C), Linear(C, C), Linear(C, 10)

    def split(self, x):
        """(q, k, v), each (B, nh, T, hd), and the mask"""
        B, T = x.shape
        h = self.digit(x)
        if self.how == "added":
            h = h + sinusoidal_table(T, h.shape[-1])
        qkv = self.qkv(h).reshape(B, T, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        q, k = (rotary(qkv[i]) if self.how == "rotary" else qkv[i] for i in (0, 1))
        return (q, k, qkv[2]), alibi_bias(self.heads, T) if self.how == "ALiBi" else np.tri(T, dtype=bool)

    def forward(self, x):
        qkv, mask = self.split(x)
        y = scaled_dot_product_attention(*qkv, attn_mask=mask)
        return self.out(self.mix(y.swapaxes(1, 2).reshape(*x.shape, -1)))

    def weights(self, x):
        (q, k, _), mask = self.split(x)
        return attention_weights(q, k, mask).data


def draw_digits(rng, B, T=16):
    x = rng.integers(0, 10, (B, T))
    return x, np.where(np.arange(T) < 1, -100, np.roll(x, 1, axis=1))


x, targets = draw_digits(np.random.default_rng(1), 500, T=64)
page, axes = figure(panel=(8.0, 3.4))
for i, how in enumerate(("none", "added", "rotary", "ALiBi")):
    manual_seed(0)
    model = OneBack(how)
    train(model, draw_digits, 400)
    with no_grad():
        right = (model(x).data.argmax(axis=-1) == targets).mean(axis=0)
    axes[0, 0].plot(np.arange(1, 64), right[1:], color=COLOURS[i], linestyle=DASHES[i], label=how)
    told = ", ".join(f"{a} to {b - 1}: {right[a:b].mean():6.1%}" for a, b in ((1, 16), (16, 32), (32, 64)))
    print(f"{how:7} right at the places {told}")
    assert (right[1:16].mean() > 0.97) == (how in ("added", "rotary"))
    if how == "rotary":
        P = model.weights(x[:100]).mean(axis=(0, 1))  # (T, T)
        told = ", ".join(f"{t - P[t].argmax()} back at place {t}" for t in (15, 30, 50, 63))
        print(f"        it looks mostly {told}")
axes[0, 0].axvline(15.5, color=GREY, linewidth=1)
axes[0, 0].annotate("longer than in training", (16.2, 0.03), color=GREY)
axes[0, 0].set_ylim(0, 1.05)
label(axes[0, 0], "who still finds the digit before?", "place t", "share of right answers")
legend(axes[0, 0], loc="center left", bbox_to_anchor=(1.0, 0.5))
page

# %% [markdown]
# Without places a text is a bag; place 1 is always right, for there is only one other digit in it. *Added* places
# break down within three steps: their sums at place 18 were never seen. *Rotary* knows distances only, and finds "one
# back" from twice as far. Then it fails too: with the text, distances come in that nobody trained, and in the end some
# of them have a higher score than distance 1, by chance. *ALiBi* was never perfect, since it can only blend the near,
# mostly the nearest; but it loses least, and at place 63 is the only one that is still of use. (One layer, one seed: a
# larger model blends better.)
#
# ## 7. Heads that work together
#
# A text of random letters that repeats itself, with a period of 6 to 12 that nobody tells: `qmzxkbtqmzxkbtqm…`. What
# comes next? Until the first letter returns, nobody can know. From then on the rule is: *find the place where the
# present letter stood before, and name what came after it.*
#
# **Predict 8.** One layer of attention: query "I am a `q`", key, value. Can it follow the rule? Can two layers? (What
# does a key know, in the first layer, about the letter *before* it?) How often will each be right, on letters that can
# be known?


# %% tags=["machine-dependent"]
class Block(Module):
    """x + attention(norm(x)), causal, with rotary positions; no feed-forward network, so that only heads can work."""

    def __init__(self, C, heads):
        self.heads, self.norm, self.qkv, self.out = heads, LayerNorm(C), Linear(C, 3 * C), Linear(C, C)

    def split(self, x):
        B, T, C = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, T, 3, self.heads, C // self.heads).transpose(2, 0, 3, 1, 4)
        return rotary(qkv[0]), rotary(qkv[1]), qkv[2]  # each (B, nh, T, hd)

    def forward(self, x, silent=()):
        """`silent`: heads whose output is replaced by zeros."""
        y = scaled_dot_product_attention(*self.split(x), is_causal=True)
        y = y * np.array([head not in silent for head in range(self.heads)], y.dtype)[:, None, None]
        return x + self.out(y.swapaxes(1, 2).reshape(*x.shape))

    def weights(self, x):
        q, k, _ = self.split(x)
        return attention_weights(q, k, is_causal=True).data


class Repeater(Module):
    """Letters (B, T) → scores of the next letter (B, T, 26)."""

    def __init__(self, layers, C=32, heads=2):
        self.letter, self.norm, self.out = Embedding(26, C), LayerNorm(C), Linear(C, 26)
        self.blocks = [Block(C, heads) for _ in range(layers)]

    def forward(self, x, silent=()):
        """`silent`: pairs (layer, head)."""
        h = self.letter(x)
        for i, block in enumerate(self.blocks):
            h = block(h, [head for layer, head in silent if layer == i])
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


def accuracy(model, x, targets, silent=()):
    with no_grad():
        return float((model(x, silent).data.argmax(axis=-1) == targets)[targets >= 0].mean())


x, targets = draw_repeats(np.random.default_rng(1), 500)
page, axes = figure(panel=(6.0, 3.2))
for i, layers in enumerate((1, 2)):
    manual_seed(0)
    repeater = Repeater(layers)
    losses = train(repeater, draw_repeats, 500, lr=5e-3)
    axes[0, 0].plot(losses, color=COLOURS[i], linestyle=DASHES[i], label=f"{layers} layer" + "s" * (layers > 1))
    print(f"layers {layers}: loss at the end {np.mean(losses[-20:]):.3f}, right {accuracy(repeater, x, targets):.1%}")
    assert (accuracy(repeater, x, targets) > 0.95) == (layers == 2)
known = targets >= 0
guess = (known / (~known).sum(axis=1, keepdims=True)).sum() / known.sum()  # a text of period n has n letters
print(f"whoever names one of the text's letters at random is right in {guess:.1%}")
axes[0, 0].set_ylim(0, 3.6)
label(axes[0, 0], "what comes next in a text that repeats?", "step", "loss")
legend(axes[0, 0])
page

# %% [markdown]
# One layer cannot: a key holds its own letter, and the question is about the letter after it. What it learns is to
# name letters of this text, more often those that stand at likely distances. Two layers can, and the loss tells when
# they found out: for eighty steps it goes down beside the other, then it drops to almost nothing within forty.
#
# Where do the heads of the trained model look? One text of period 8, the weights of all four heads. Dots mark *one
# back* in layer 0, and in layer 1 *one after the last place where my letter stood*:

# %%
period = 8
text = (np.random.default_rng(5).permutation(26)[:period])[np.arange(20) % period][None]
letters = [string.ascii_lowercase[i] for i in text[0]]
page, axes = figure(1, 4, panel=(3.1, 3.4))
for i, weights in enumerate(repeater.weights(text)):
    for h in range(2):
        panel = axes[0, 2 * i + h]
        show_weights(panel, weights[0, h], f"layer {i}, head {h}", "" if i + h else "query at", letters)
        back = 1 if i == 0 else period - 1
        asks = np.arange(1 if i == 0 else period, 20)
        panel.plot(asks - back, asks, ".", color=COLOURS[1], markersize=3.5)
        panel.tick_params(labelsize=8)
page

# %% [markdown]
# That is the trick. Layer 0 writes into every place which letter stood before it. Layer 1 asks "who comes after a
# `q`?", finds the place that has the `q` written into it, and copies the letter of that place. A head of the second
# kind is called an *induction head*; Elhage, Olsson and others (2021, 2022) found them in language models.
#
# **Predict 9.** Silence heads by putting zeros in the place of their output, one at a time, then both of a layer.
# Which can the model do without?

# %% tags=["machine-dependent"]
print(f"all four heads: {accuracy(repeater, x, targets):.1%}")
for layer in range(2):
    for head in range(2):
        told = accuracy(repeater, x, targets, [(layer, head)])
        print(f"without layer {layer}, head {head}: {told:6.1%}")
    print(f"without layer {layer}, both:   {accuracy(repeater, x, targets, [(layer, 0), (layer, 1)]):6.1%}")
before = np.where(known, np.roll(x, 1, axis=1), -100)
told = accuracy(repeater, x, before, [(1, 0), (1, 1)])
print(f"without layer 1 it names the letter before the present one in {told:.1%}")
assert accuracy(repeater, x, targets) > 0.95 and accuracy(repeater, x, targets, [(1, 0), (1, 1)]) < 0.3

# %% [markdown]
# No single head is indispensable: the two of a layer do the same job, and one alone still gets 70 to 90 %. Without the
# job it is over. Take layer 0 away, and layer 1 finds nothing written, so it guesses. Take layer 1 away, and what
# layer 0 has written comes out as the answer: nearly half of the time the letter *before*, which cannot come next.
#
# ## Where to go from here
#
# - Rebuild, from the [page of this week](../docs/weeks/week4.md): multi-head attention with its gradients, on arrays.
# - Read [multihead.py](../scratch/layers/attention/multihead.py) and
#   [rotary.py](../scratch/layers/positions/rotary.py): every line should now have a reason.
# - [Week 5](week5_encoder_decoder.ipynb) puts encoder and decoder together.
