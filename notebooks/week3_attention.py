# %% [markdown]
# # Week 3: look it up, softly
#
# In an hour: attention from the idea to the operation with all its gradients, what a mask must do and when, why the
# order of the words is lost and how it comes back, and two small models whose weights one can read.
#
# You need weeks 1 and 2: the tape, softmax, cross-entropy, Adam. (Week 12 asks the question that attention answers:
# how can a network look back at *any* earlier word, when its memory holds one vector? Here we begin without it.)
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import string

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import softmax
from scratch.layers import Embedding, Linear, attention_weights, scaled_dot_product_attention, sinusoidal_table
from scratch.losses import cross_entropy
from scratch.module import Module
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.tensor import no_grad, record  # noqa: F401  what you fill in needs record
from scratch.viz import figure
from scratch.viz.style import BLACK, COLOURS, DASHES, GREY, MARKERS, label, legend

# %% [markdown]
# ## 1. A dictionary that answers softly
#
# ```
# {"cat": 3, "dog": 7}["dog"]        the keys "cat" and "dog", the values 3 and 7, the query "dog"; the answer is 7
# ```
#
# No network can learn through this. A key fits or it does not, so the answer jumps or stays, and its derivative is 0
# wherever it exists. Make it soft, in three steps. Keys, values and the query are vectors.
#
# - **How well does each key fit?** The score $s_j = q \cdot k_j$: large where $q$ and $k_j$ point the same way.
# - **Weights**: $p = \mathrm{softmax}(s)$, all positive, their sum is 1.
# - **The answer**: $y = \sum_j p_j v_j$, a weighted *mean* of the values.
#
# Why a mean? It stays among the values, however many there are. And every weight has a slope:
#
# $$\frac{\partial y}{\partial s_j} = p_j\,(v_j - y)$$
#
# Raise the score of key $j$, and the answer moves towards $v_j$, by a step in proportion to $p_j$. (Derive it, from
# $\partial p_i / \partial s_j = p_i (\delta_{ij} - p_j)$. All of section 4 is in this line.)
#
# **Predict 1.** Three keys of length 1, pointing from the centre of a triangle to its corners; the values are these
# corners. The query points at the first key, and has length 0, 1, 2 or 10. What are the weights? And which curve does
# the answer draw while the query turns once around?

# %%
angles = np.radians([90, 210, 330])
keys = values = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (3, 2)


def look_up(query, keys, values):
    """(answer, weights) of queries (..., d) to keys (S, d) and values (S, n)"""
    p = softmax(Tensor(query @ keys.T), dim=-1).data
    return p @ values, p


for length in (0, 1, 2, 10):
    y, p = look_up(length * keys[0], keys, values)
    print(f"query of length {length:2}: weights {p.round(3)}, answer {y.round(3) + 0.0}")

turn = np.linspace(0, 2 * np.pi, 361)
queries = np.stack([np.cos(turn), np.sin(turn)], axis=1)
page, axes = figure(1, 2, panel=(4.4, 3.9))
axes[0, 0].fill(*values.T, facecolor="#F2F2F2", edgecolor=GREY, linewidth=0.8)
for k, length in enumerate((1, 2, 10)):
    y, p = look_up(length * queries, keys, values)
    style = {"color": COLOURS[k], "linestyle": DASHES[k], "label": f"query of length {length}"}
    axes[0, 0].plot(*y.T, **style)
    axes[0, 1].plot(np.degrees(turn), p[:, 0], **style)
axes[0, 0].plot(*values.T, "o", color=BLACK)
for j, below in enumerate((False, True, True)):
    offset = (6, -14) if below else (7, 2)
    axes[0, 0].annotate(f"value {j + 1}", values[j], xytext=offset, textcoords="offset points")
axes[0, 0].set_aspect("equal")
axes[0, 0].set_xlim(-1.3, 1.5)
axes[0, 0].set_ylim(-0.75, 1.2)
axes[0, 1].set_xticks([0, 90, 210, 330])
label(axes[0, 0], "where the answer goes, the query turning")
label(axes[0, 1], "how abruptly it changes", "direction of the query (degrees)", "weight of value 1")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
page

# %% [markdown]
# A query of length 0 asks for nothing and gets the plain mean. A long one is the hard dictionary again: the answer sits
# in a corner and jumps to the next when the query is halfway between two keys. In between it moves smoothly, and never
# leaves the triangle. So the *length* of queries and keys says how sure the look-up is, and a network can learn that
# too.
#
# ## 2. Why divide by the root of d
#
# Before training, the $d$ numbers of a query and of a key are more or less independent, with mean 0 and variance 1.
# $q \cdot k$ is a sum of $d$ products.
#
# **Predict 2.** What is the standard deviation of $q \cdot k$ for $d = 4$, 64, 1,024? Of 16 random keys, one gets the
# largest weight: how much is that for each $d$? And what would a division by $d$ instead of $\sqrt d$ do?

# %%
rng = np.random.default_rng(0)
widths = 4 ** np.arange(1, 6)
largest, slope = ({name: [] for name in ("as it is", "÷ √d", "÷ d")} for _ in range(2))
for d in widths:
    q, k = rng.standard_normal((1000, 1, d)), rng.standard_normal((1000, 16, d))
    scores = (q @ k.swapaxes(1, 2))[:, 0]
    for name, s in zip(largest, (scores, scores / np.sqrt(d), scores / d), strict=True):
        p = softmax(Tensor(s), dim=1).data
        largest[name].append(p.max(axis=1).mean())
        slope[name].append((p * (1 - p)).mean())  # ∂p_j / ∂s_j
    told = ", ".join(f"{name} {largest[name][-1]:.2f}" for name in largest)
    print(f"d = {d:5,}: standard deviation of q · k {scores.std():6.2f}; the largest weight of 16: {told}")

page, axes = figure(1, 2, panel=(4.4, 3.2))
for panel, figures in zip(axes[0], (largest, slope), strict=True):
    for k, (name, numbers) in enumerate(figures.items()):
        panel.plot(widths, numbers, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
    panel.set_xscale("log", base=4)
    panel.set_xticks(widths, [f"{d:,}" for d in widths])
axes[0, 0].set_ylim(0, 1.02)
axes[0, 1].set_ylim(0, 0.065)
label(axes[0, 0], "how decided the look-up is", "d", "largest of 16 weights, mean of 1,000")
label(axes[0, 1], "how much a score can learn", "d", "slope ∂p / ∂s = p (1 − p), mean")
legend(axes[0, 0])
page

# %% [markdown]
# The variance of a sum is the sum of the variances: $d$. So scores grow like $\sqrt d$, and softmax of large scores is
# a hard choice, made by chance, before anything was learned. And it stays: where $p$ is 0 or 1, $p(1-p)$ is 0, and no
# gradient tells the scores that they were wrong. Divided by $\sqrt d$, scores have variance 1 at any width. Divided by
# $d$, they all but vanish: the slope is fine, but every query gets the same answer, the mean.
#
# ## 3. Five steps
#
# $T$ queries ask $S$ keys at once. Row $t$ belongs to query $t$, column $s$ to key $s$:
#
# $$S = \frac{Q K^\top}{\sqrt d}, \qquad P = \mathrm{softmax}(S + M) \text{ along each row}, \qquad Y = P V$$
#
# $$Q\ (T, d),\quad K\ (S, d),\quad V\ (S, d_v),\quad S, M, P\ (T, S),\quad Y\ (T, d_v)$$
#
# A **mask** $M$ is 0 where a query may look and $-\infty$ where it may not. The two that matter: *causal*, query $t$
# sees the keys $0 \dots t$ (whoever is to guess the next word must not read it), and *padding*: sentences of a batch
# are filled up to one length, and nobody may look at the filling. In code, as in PyTorch's function of this name, a
# mask is an array of booleans, **True where one may look**.
#
# **Predict 3.** Below are $Q$ and $K$, with $d = 4$, so that the scale is ½. By hand: row 1 of $QK^\top$ (the middle
# one), its scaled scores, its weights under a causal mask. ($e \approx 2.72$.) And what is $Y$ in row 0, whatever $Q$
# and $K$ are?

# %%
Q = np.array([[1.0, 0.0, 1.0, 0.0], [2.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 1.0]])
K = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 2.0, 0.0, 0.0], [2.0, 2.0, 1.0, 0.0]])
V = np.array([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
causal = np.tri(3, dtype=bool)
product = Q @ K.T
masked = np.where(causal, product / 2, -np.inf)
P = softmax(Tensor(masked), dim=1).data


def show_matrix(panel, matrix, title, high, digits, x="key", y=""):
    """A matrix as colours from 0 to `high` with its numbers written in; −∞ is hatched."""
    panel.imshow(np.where(np.isfinite(matrix), matrix, 0), cmap="Blues", vmin=0, vmax=high)
    for (t, s), number in np.ndenumerate(matrix):
        if np.isfinite(number):
            ink = "white" if number > 0.6 * high else "black"
            panel.text(s, t, f"{number:.{digits}f}", ha="center", va="center", color=ink)
        else:
            x_corners, y_corners = s + np.array([-0.5, 0.5, 0.5, -0.5]), t + np.array([-0.5, -0.5, 0.5, 0.5])
            panel.fill(x_corners, y_corners, facecolor="white", edgecolor=GREY, hatch="///", linewidth=0)
    panel.grid(False)
    panel.set_xticks(range(matrix.shape[1]))
    panel.set_yticks(range(matrix.shape[0]))
    label(panel, title, x, y)


page, axes = figure(1, 5, panel=(2.15, 2.7), width_ratios=[3, 3, 3, 3, 2])
show_matrix(axes[0, 0], product, "Q Kᵀ", 6, 0, y="query")
show_matrix(axes[0, 1], product / 2, "÷ √d", 3, 1)
show_matrix(axes[0, 2], masked, "mask: −∞", 3, 1)
show_matrix(axes[0, 3], P, "softmax: P", 1, 2)
show_matrix(axes[0, 4], P @ V, "P V", 4, 2, x="of the value")
page

# %% [markdown]
# Row 1: $2, 4, 6$, halved $1, 2, 3$; the third is hidden, and $e^1 : e^2 = 1 : e$ gives 0.27 and 0.73. Row 0 sees one
# key only, so its weight is 1 and $Y_0 = V_0$: nothing to choose, and no gradient for $Q_0$ at all.
#
# **Fill in 1.** Attention, forward. Two things to care for. $e^{800}$ overflows: softmax does not change if you
# subtract the largest score of each row first. And a mask may hide *all* keys from a query. $0/0$ is what a careless
# program makes of that; give weights 0, and so $Y = 0$, as PyTorch's function does.


# %%
def my_attention(query, key, value, mask):
    """(Y, P) of arrays query (T, d), key (S, d), value (S, n) and mask (T, S), True where one may look."""
    # scores = ...
    # largest = ...                       of each row; where there is none, take 0
    # weights = np.exp(scores - largest)  np.exp(-np.inf) is 0
    # total = weights.sum(axis=1, keepdims=True)
    # P = ...
    # return P @ value, P
    return ...


# %%
def library_attention(query, key, value, mask):
    y = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return y.data, attention_weights(query, key, attn_mask=mask).data


def draw_case(seed, T, S, d, n, seen=0.7, stretch=1.0):
    """Random arguments; `seen` of all pairs may look."""
    r = np.random.default_rng(seed)
    arrays = [stretch * r.standard_normal((T, d)), r.standard_normal((S, d)), r.standard_normal((S, n))]
    return [*arrays, r.random((T, S)) < seen]


nobody = draw_case(2, 3, 5, 4, 2)
nobody[3][1] = False
cases = [draw_case(0, 4, 4, 3, 2, seen=2.0), draw_case(1, 5, 7, 4, 6), nobody, draw_case(3, 2, 6, 8, 3, stretch=900.0)]
check.function(my_attention, library_attention, cases)

# %% [markdown]
# Is a mask *before* softmax the only way? It would be simpler to let softmax see everything, and to multiply the
# weights with 0 where one must not look, $(P \circ \text{mask})\, V$.
#
# **Predict 4.** Eight tokens $x$, with $Q = x W_q$ and so on. Token $t$ gives $y_t$. Sketch as an 8×8 picture which
# $x_s$ can change which $y_t$: without a mask; with a causal one; with a padding mask, the last three tokens being
# filling; and with a causal mask that is multiplied in *after* softmax. Does the last one look like the second?

# %%
T, d = 8, 6
x = Tensor(rng.standard_normal((T, d)), requires_grad=True)
Wq, Wk, Wv = (rng.standard_normal((d, d)) / np.sqrt(d) for _ in range(3))
no_later, no_filling = np.tri(T, dtype=bool), np.broadcast_to(np.arange(T) < 5, (T, T))


def late(q, k, v):
    """The mask multiplied into the weights: wrong."""
    return (softmax(q @ k.T / np.sqrt(d), dim=1) * no_later) @ v


attentions = {
    "no mask": scaled_dot_product_attention,
    "causal": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
    "padding": lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=no_filling),
    "causal, after softmax": late,
}
page, axes = figure(1, 4, panel=(2.5, 2.9))
for panel, (name, attention) in zip(axes[0], attentions.items(), strict=True):
    influence = np.empty((T, T))  # of x_s on y_t: the size of ∂ (y_t · a random direction) / ∂x_s
    for t in range(T):
        x.grad = None
        (attention(x @ Wq, x @ Wk, x @ Wv)[t] * np.random.default_rng(t).standard_normal(d)).sum().backward()
        influence[t] = np.linalg.norm(x.grad, axis=1)
    panel.imshow(influence, cmap="Blues", vmin=0, vmax=0.6 * influence.max())
    panel.plot(*np.argwhere(influence == 0)[:, ::-1].T, "x", color=GREY, markersize=5)
    panel.grid(False)
    panel.set_xticks(range(T))
    panel.set_yticks(range(T))
    label(panel, name, "token s", "y of token t" if name == "no mask" else "")
    later = np.triu(influence, 1).max()
    print(f"{name:22} {np.count_nonzero(influence):2} of 64 pairs; from later to earlier tokens: {later:.3f} at most")
page

# %% [markdown]
# Crosses mark exact zeros. Masked too late, the future still sits in the denominator of softmax: each hidden key takes
# weight away from the seen ones. A language model trained like that has a little knowledge of the word that it is to
# guess, and its loss looks better than it is. No error message tells. **Test a mask with gradients**, as here.
#
# In the third picture the rows of the filling (5 to 7) are not empty: filling may ask, nobody reads its answers. Note
# the diagonal there: $x_5$ does influence $y_5$, because it is the query.
#
# And a query from which everything is hidden, an empty sentence in a batch? In plain arithmetic:

# %%
scores = np.full((1, 3), -np.inf)
with np.errstate(invalid="ignore"):
    print("softmax by the formula:", np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
q = Tensor(Q, requires_grad=True)
may_look = np.array([[True, True, True], [False, False, False], [True, False, True]])
y = scaled_dot_product_attention(q, K, V, attn_mask=may_look)
y.backward(np.ones((3, 2)))
print("the library's answer: ", y.data[1], " gradient of that query:", q.grad[1])

# %% [markdown]
# One NaN, and the gradients of *all* weights are NaN: in the first batch that holds an empty sentence, perhaps after
# three hours. The library gives zeros, as PyTorch's function does. (PyTorch's *layer* `MultiheadAttention` still gives
# NaN when it is asked for its weights, which is its default.)
#
# ## 4. The way back
#
# From below, line by line; $dX$ stands for $\partial L/\partial X$ and has the shape of $X$. A product $Y = PV$ you
# know from week 1, it has two gradients:
#
# $$dV = P^\top dY \quad (S, T)(T, d_v), \qquad dP = dY\, V^\top \quad (T, d_v)(d_v, S)$$
#
# Softmax, for each row by itself: with $\partial P_i / \partial S_j = P_i (\delta_{ij} - P_j)$,
#
# $$dS_j = \sum_i dP_i P_i (\delta_{ij} - P_j) = P_j \Big(dP_j - \sum_i dP_i P_i\Big), \qquad
# dS = P \circ (dP - \delta)$$
#
# with one number $\delta$ for each row. And two more products, $S = QK^\top / \sqrt d$:
#
# $$dQ = \frac{1}{\sqrt d}\, dS\, K \quad (T, S)(S, d), \qquad dK = \frac{1}{\sqrt d}\, dS^\top Q \quad (S, T)(T, d)$$
#
# The mask needs no line: where $P$ is 0, $dS$ is 0. By hand, one query and two keys with $P = (¼, ¾)$, the values
# $v_1 = (4, 0)$ and $v_2 = (0, 4)$, and $dY = (1, 0)$:
#
# ```
# dV = (¼ · (1, 0), ¾ · (1, 0))        dP = (dY · v₁, dY · v₂) = (4, 0)
# δ  = ¼ · 4 + ¾ · 0 = 1               dS = (¼ · (4 − 1), ¾ · (0 − 1)) = (¾, −¾)
# ```
#
# The first score should fall and the second rise, both by the same: **a row of $dS$ sums to 0**, as softmax does not
# change when all scores rise together. Compare section 1: $\delta = dY \cdot Y$, so $dS_j = P_j\; dY \cdot (v_j - y)$.
#
# **Fill in 2.** Attention as one operation on the tape, with all three gradients. The forward is yours from above (or
# write it again: it is shorter the second time).


# %%
def my_attention_on_the_tape(query, key, value, mask):
    """Y for Tensors query (T, d), key (S, d), value (S, n) and an array mask (T, S), True where one may look."""
    # Y, P = ...                          of query.data, key.data, value.data
    # def backward(dy):                   dy (T, n)
    #     dV = ...
    #     dP = ...
    #     dS = ...
    #     return ..., ..., dV             of the shapes of query, key and value
    # return record(Y, (query, key, value), backward)
    return ...


# %%
def library_attention_on_the_tape(query, key, value, mask):
    return scaled_dot_product_attention(query, key, value, attn_mask=mask)


check.operation(my_attention_on_the_tape, library_attention_on_the_tape, cases)

# %% [markdown]
# **Predict 5.** A query is long and sure: its weights are $(0, 1, 0)$, to the last digit. But the *first* value would
# have been the right answer. What are the gradients of its scores, of the query, of the keys and of the values?

# %%
q, k, v = (Tensor(array, requires_grad=True) for array in (np.array([[0.0, 90.0]]), np.eye(3, 2)[[0, 1, 0]], V))
right = V[:1]
for length in (90.0, 9.0, 1.0):
    for each in (q, k, v):
        each.grad = None
    q.data[:] = 0, length
    y = scaled_dot_product_attention(q, k, v)
    ((y - right) * (y - right)).sum().backward()
    largest = [np.abs(each.grad).max() for each in (q, k, v)]
    print(f"query of length {length:2.0f}: weights {attention_weights(q, k).data[0].round(4)}, "
          f"largest |dQ| {largest[0]:.4f}, |dK| {largest[1]:.4f}, |dV| {largest[2]:.4f}")

# %% [markdown]
# Only the value is told to change. Where to *look* gets no gradient: being sure and wrong is the one state from which a
# query cannot learn, and it is why section 2 wants scores of moderate size at the beginning.
#
# ## 5. A set, not a sequence
#
# **Predict 6.** Six tokens $x$ go through attention, without a mask; then the same six in another order. What happens
# to the outputs? What does that mean for *dog bites man* and *man bites dog*? Does the causal mask change the answer?

# %%
x = rng.standard_normal((6, d))
order = np.array([3, 0, 5, 1, 4, 2])


def attend(x, is_causal=False):
    return scaled_dot_product_attention(x @ Wq, x @ Wk, x @ Wv, is_causal=is_causal).data


for is_causal in (False, True):
    apart = np.abs(attend(x[order], is_causal) - attend(x, is_causal)[order]).max(axis=1)
    print("causal " if is_causal else "no mask", "largest difference at each place:", (apart + 1e-12).round(3))

# %% [markdown]
# Without a mask, the outputs come in the new order and are otherwise the same: attention is *equivariant* under
# permutations. Every word of both sentences gets the same vector. The causal mask breaks this a little (a token knows
# *which* tokens came before it, still not in which order). So the order must be told, by the tokens themselves: **add
# to each token a vector that says where it stands.** The Transformer's vectors are the hands of $C/2$ clocks, each
# slower than the one before:
#
# $$\mathrm{PE}_{t,\,2i} = \sin(\omega_i t), \quad \mathrm{PE}_{t,\,2i+1} = \cos(\omega_i t), \qquad
# \omega_i = 10000^{-2i/C}$$
#
# **Predict 7.** How large is $\mathrm{PE}_t \cdot \mathrm{PE}_t$, for $C = 64$? And $\mathrm{PE}_t \cdot
# \mathrm{PE}_{t+k}$: on what does it depend? (What is $\sin a \sin b + \cos a \cos b$?) Sketch it against $k$.

# %%
table = sinusoidal_table(128, 64, dtype=np.float64)  # (T, C)
page, axes = figure(1, 2, panel=(4.6, 3.5))
drawn = axes[0, 0].imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
axes[0, 0].grid(False)
page.colorbar(drawn, ax=axes[0, 0])
label(axes[0, 0], "the table: clocks, fast to slow", "feature", "position t")
for k, t in enumerate((20, 64, 100)):
    axes[0, 1].plot(np.arange(128) - t, table @ table[t], color=COLOURS[k], linestyle=DASHES[k], label=f"t = {t}")
axes[0, 1].set_xlim(-60, 60)
axes[0, 1].set_ylim(0, 33)
label(axes[0, 1], "two rows know how far apart they are", "k", "PE[t] · PE[t + k]")
legend(axes[0, 1])
speeds = 10000.0 ** (-np.arange(0, 64, 2) / 64)
print(f"PE[t] · PE[t] = {table[20] @ table[20]:.3f}; at distance 7: {table[20] @ table[27]:.3f}, "
      f"{table[100] @ table[107]:.3f}, and the sum of cos(7 ω) is {np.cos(7 * speeds).sum():.3f}")
page

# %% [markdown]
# $\sum_i \cos(\omega_i k)$: the distance only, the same for all $t$, so that three curves are one. Near positions are
# alike, far ones less, with ripples; that is a useful thing to find in a dot product. Moreover, $k$ steps turn every
# clock by a fixed angle, so one matrix takes any $\mathrm{PE}_t$ to $\mathrm{PE}_{t+k}$, and $W_q$ can learn to ask for
# "three back". Next week's rotary positions turn queries and keys themselves.
#
# ## 6. Watch it learn: the dictionary
#
# Section 1 was a promise. Eight entries, each a letter (the key) with a digit (its value); then one of the letters is
# asked for. Everything is random in each example, so there is nothing to learn by heart. An entry is a single vector,
# the sum of two embeddings, and the model must find out for itself which part of it is a key, which a value:
#
# ```
# entries (B, 8)   letter and digit embedding, added ─► h (B, 8, C) ─┬─ W_k ─► keys   (B, 8, C) ─┐
#                                                                    └─ W_v ─► values (B, 8, C) ─┤ attention ─► linear
# question (B, 1)  letter embedding ────────────────────── W_q ─► query (B, 1, C) ───────────────┘
# ```


# %% tags=["machine-dependent"]
class SoftDictionary(Module):
    """Letters and digits (B, S), asked letters (B, 1) → scores of the digits (B, 1, 10)"""

    def __init__(self, C=32):
        self.letter, self.digit = Embedding(26, C), Embedding(10, C)
        self.q, self.k, self.v = (Linear(C, C, bias=False) for _ in range(3))
        self.out = Linear(C, 10)

    def forward(self, letters, digits, asked):
        h = self.letter(letters) + self.digit(digits)
        return self.out(scaled_dot_product_attention(self.q(self.letter(asked)), self.k(h), self.v(h)))

    def weights(self, letters, digits, asked):
        return attention_weights(self.q(self.letter(asked)), self.k(self.letter(letters) + self.digit(digits))).data

    def fit(self):
        """The score of every letter, as a question, with every letter, as a key: (26, 26)."""
        C = self.q.in_features
        return (self.q(self.letter.weight) @ self.k(self.letter.weight).T).data / np.sqrt(C)


def draw_entries(rng, B, S=8):
    """((letters, digits, asked), answers): S different letters in each row."""
    letters = rng.permuted(np.tile(np.arange(26), (B, 1)), axis=1)[:, :S]
    digits, which = rng.integers(0, 10, (B, S)), rng.integers(0, S, (B, 1))
    asked, answers = (np.take_along_axis(each, which, axis=1) for each in (letters, digits))
    return (letters, digits, asked), answers


def train(model, draw, steps, lr=3e-3, seed=0, watch=lambda step: None):
    """Adam along a cosine with warmup; the loss of each step. `watch` is called before each."""
    rng, optimizer, schedule = np.random.default_rng(seed), Adam(model.parameters()), cosine(lr, steps, warmup=30)
    losses = []
    for step in range(steps):
        watch(step)
        inputs, targets = draw(rng, 64)
        scores = model(*inputs)
        loss = cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    watch(steps)
    return losses


def accuracy(model, drawn):
    inputs, targets = drawn
    with no_grad():
        return float((model(*inputs).data.argmax(axis=-1) == targets).mean())


manual_seed(0)
model = SoftDictionary()
fits = {}


def keep_fit(step):
    if step in (0, 40, 400):
        fits[step] = model.fit()


losses = train(model, draw_entries, 400, watch=keep_fit)
print("loss at step 0, 50, 100, 200, 399:", *(f"{losses[step]:.3f}" for step in (0, 50, 100, 200, 399)))
print(f"new entries, right answers: {accuracy(model, draw_entries(np.random.default_rng(1), 1000)):.1%}")

(letters, digits, asked), answers = draw_entries(np.random.default_rng(2), 1)
p = model.weights(letters, digits, asked)[0, 0]
for letter, digit, weight in zip(letters[0], digits[0], p, strict=True):
    told = "  <- asked for" if letter == asked[0, 0] else ""
    print(f"  {string.ascii_lowercase[letter]}: {digit}   weight {weight:.3f}{told}")
assert losses[-1] < 0.05 and accuracy(model, draw_entries(np.random.default_rng(1), 1000)) > 0.98

# %% [markdown]
# Does it compare letters? The score of each letter as a question with each letter as a key, before, during and after
# training:

# %%
page, axes = figure(1, 3, panel=(3.3, 3.6))
for panel, (step, scores) in zip(axes[0], fits.items(), strict=True):
    reach = np.abs(scores).max()
    panel.imshow(scores, cmap="RdBu_r", vmin=-reach, vmax=reach)
    panel.grid(False)
    panel.set_xticks(range(0, 26, 5), string.ascii_lowercase[::5])
    panel.set_yticks(range(0, 26, 5), string.ascii_lowercase[::5])
    right = (scores.argmax(axis=1) == np.arange(26)).mean()
    label(panel, f"step {step}: {right:.0%} fit themselves best", "letter as key", "" if step else "letter as question")
page

# %% [markdown]
# A diagonal: $W_q$ and $W_k$ have become two views of the letters that meet where the letters are the same. Nobody said
# that a letter should look for itself. It is what lowers the loss.
#
# ## 7. Watch it learn: places
#
# Another task, in which content is of no use: write ten random digits backwards. Output $t$ must read input $9 - t$,
# one layer of attention in between, no mask. The query can know only *where* it stands.
#
# **Predict 8.** The same model with and without positions. What is the best that the second one can do? (Not 10 %.
# Each of its outputs sees all ten digits and which of them is its own, but no places.)


# %% tags=["machine-dependent"]
class Reverser(Module):
    """Digits (B, T) → scores (B, T, 10): embedding + positions ─ attention ─ linear."""

    def __init__(self, C=32, longest=16, positions=True):
        self.digit = Embedding(10, C)
        self.q, self.k, self.v = (Linear(C, C, bias=False) for _ in range(3))
        self.out = Linear(C, 10)
        self.table = sinusoidal_table(longest, C) * positions

    def embed(self, x):
        return self.digit(x) + self.table[: x.shape[-1]]

    def forward(self, x):
        h = self.embed(x)
        return self.out(scaled_dot_product_attention(self.q(h), self.k(h), self.v(h)))

    def weights(self, x):
        h = self.embed(x)
        return attention_weights(self.q(h), self.k(h)).data


def draw_digits(rng, B, T=10):
    x = rng.integers(0, 10, (B, T))
    return (x,), x[:, ::-1]


test = draw_digits(np.random.default_rng(1), 1000)
seen, curves = {}, {}
for name, positions in {"with positions": True, "without": False}.items():
    manual_seed(0)
    model = Reverser(positions=positions)

    def watch(step, model=model, positions=positions):
        if positions and step in (0, 80, 120, 400):
            seen[step] = model.weights(test[0][0]).mean(axis=0)

    curves[name] = train(model, draw_digits, 400, watch=watch)
    print(f"{name:14} loss at the end {np.mean(curves[name][-20:]):.3f}, right digits {accuracy(model, test):.1%}")
    assert accuracy(model, test) > 0.98 if positions else accuracy(model, test) < 0.5
    if positions:
        reverser = model
own = np.eye(10)[test[0][0]]  # (B, T, 10), one-hot
others = own.sum(axis=1, keepdims=True) - own  # how often each digit stands at the nine other places
print(f"whoever names the most frequent of the nine other digits is right in {(others.max(axis=2) / 9).mean():.1%}")

# %%
page, axes = figure(1, 5, panel=(2.55, 3.0), width_ratios=[1, 1, 1, 1, 1.35])
for panel, (step, P) in zip(axes[0], seen.items(), strict=False):
    panel.imshow(P, cmap="Blues", vmin=0, vmax=1)
    panel.plot(np.arange(10), 9 - np.arange(10), ".", color=COLOURS[1], markersize=4)
    panel.grid(False)
    panel.set_xticks([0, 3, 6, 9])
    panel.set_yticks([0, 3, 6, 9])
    label(panel, f"step {step}", "input", "output" if not step else "")
for k, (name, losses) in enumerate(curves.items()):
    axes[0, 4].plot(losses, color=COLOURS[k], linestyle=DASHES[k], label=name)
axes[0, 4].set_ylim(0, 2.6)
label(axes[0, 4], "loss", "step")
legend(axes[0, 4], loc="center right")
page

# %% [markdown]
# The pattern grows out of nothing, fastest while the loss falls fastest. (The dots mark where the answer stands.) Look
# at the last weights: little more than half on the right place, the rest on its neighbours, and still every digit is
# right. The last layer only asks which digit is *strongest* in the mean.
#
# Without positions there is only a bag of digits. An output's own digit cannot be its answer (9 − t is never t), so the
# best it can do is to name the most frequent of the nine others, and that is what it learned, to within a percent.
#
# Last question: what did each of the two models learn, the *rule* or the *instances*?
#
# **Predict 9.** The dictionary was trained on 8 entries; now it gets 2, 16, 26. The reverser was trained on ten digits;
# now it gets 8, 9, 11 (its table of positions is long enough). How often are they right?

# %% tags=["machine-dependent"]
manual_seed(0)
dictionary = SoftDictionary()
train(dictionary, draw_entries, 400)
for S in (2, 8, 16, 26):
    share = accuracy(dictionary, draw_entries(np.random.default_rng(3), 1000, S))
    print(f"dictionary of {S:2} entries: {share:6.1%}")
    assert share > 0.95
for T in (8, 9, 10, 11):
    share = accuracy(reverser, draw_digits(np.random.default_rng(3), 1000, T))
    print(f"{T:2} digits backwards:       {share:6.1%}")
    assert share > 0.98 if T == 10 else share < 0.5

# %% [markdown]
# Looking up by *content* knows no length: entries may come in any number and order. Looking up by *place* was learned
# for ten places: "I am at 2, so I want 7" is no rule for 8 digits, where the answer stands at 5. Both are attention;
# the difference is what queries and keys are made of. In a Transformer, which adds both kinds of vectors, they mix.
#
# ## Where to go from here
#
# - Rebuild, from the [page of this week](../docs/weeks/week3.md): attention for a batch with heads, with its gradients.
# - Read [fused.py](../scratch/layers/attention/fused.py): the same five lines, with three identities that make them
#   fast.
# - [Week 4](week4_multihead.ipynb): several of these side by side, and the layer that is built around them.
