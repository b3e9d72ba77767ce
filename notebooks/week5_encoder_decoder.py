# %% [markdown]
# # Week 5: encoder and decoder
#
# In an hour: what each half of the Transformer of "Attention Is All You Need" sees and what it must not see, how the
# decoder learns at all places at once without cheating, why embeddings are multiplied by √d, what the sum and the norm
# around every sublayer do to the gradient, and a small Transformer, put together from layers, that writes strings
# backwards. At the end we look at what its cross-attention points to.
#
# You need [week 3](week3_attention.ipynb) and [week 4](week4_multihead.ipynb): attention, masks, positions, heads.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import math

import check
import numpy as np

from scratch import Module, Parameter, manual_seed, no_grad
from scratch.data import Batches, load_strings
from scratch.data.pairs import BEGIN, PAD
from scratch.initializers import normal, xavier_uniform
from scratch.layers import (
    LayerNorm,
    MultiheadAttention,
    SinusoidalPositions,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    causal_mask,
    embedding,
    layer_norm,
)
from scratch.losses import cross_entropy
from scratch.module import observe
from scratch.optim import Adam
from scratch.schedules import cosine
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure, smoothed
from scratch.viz.style import BLACK, COLOURS, DASHES, GREY, MARKERS, label, legend, log_scale

# %% [markdown]
# ## 1. Who sees what
#
# Two strings: a *source*, which is there from the beginning, and a *target*, which is written symbol by symbol. The
# encoder reads the source; the decoder writes the target and looks at both.
#
# ```
#  source  c a b $                               target so far  ^ b a
#     │  embedding · √d + position                  │  embedding · √d + position
#     ▼                                             ▼
#  ┌───────────────────────────────┐ N times     ┌───────────────────────────────────┐ N times
#  │ self-attention      sum, norm │             │ causal self-attention   sum, norm │
#  │ feed-forward        sum, norm │     ┌──────►│ cross-attention         sum, norm │
#  └───────────────────────────────┘     │       │ feed-forward            sum, norm │
#     │                                  │       └───────────────────────────────────┘
#     ▼                                  │          │  · embeddingᵀ
#  memory (B, S, d) ─────────────────────┘          ▼
#                                                logits (B, T, V): what comes next at each place: b a c
# ```
#
# It is one operation in three places, with different queries, keys and masks:
#
# | | queries | keys and values | hidden |
# |---|---|---|---|
# | the encoder's self-attention | source | source | padding |
# | the decoder's self-attention | target | target | what comes later |
# | cross-attention | target | memory, the encoder's output | padding of the source |
#
# The strings of a batch have different lengths; shorter ones are filled up with *padding*, shown as `·`. Two more
# symbols: `^` begins each target, `$` ends every string. What is fed to the decoder begins with `^` and lacks `$`.
#
# **Fill in 1.** The three masks of a batch, True where a query may look at a key. Padding has the number `PAD`. (Rows
# whose *query* is padding do not matter: nobody reads what they compute. Let them look where the others look.)


# %%
def my_masks(source, fed):
    """source (B, S), fed (B, T), whole numbers → encoder (B, S, S), decoder (T, T), cross (B, T, S), truth values"""
    return ...


# %%
def library_masks(source, fed):
    """Where the library's attention puts any weight, if all scores are equal."""
    attention = MultiheadAttention(1, 1, batch_first=True)
    s, t = np.zeros((*source.shape, 1), np.float32), np.zeros((*fed.shape, 1), np.float32)
    encoder = attention(s, s, s, key_padding_mask=source == PAD)[1]
    decoder = attention(t, t, t, is_causal=True)[1]
    cross = attention(t, s, s, key_padding_mask=source == PAD)[1]
    return encoder.data > 0, decoder.data[0] > 0, cross.data > 0


strings = load_strings("reverse", count=30_000, validation=500, test=500, lengths=(3, 8), symbols=10)
words, V = strings.tokenizer, len(strings.tokenizer)
pairs = ["cab", "fadeb"], ["bac", "bedaf"]
source, target = words.encode(pairs[0]), words.encode(pairs[1], begin=True)
fed = target[:, :-1]
check.function(my_masks, library_masks, [[source, fed], [strings.train.inputs[:9], strings.train.targets[:9]]])

# %% [markdown]
# **Predict 1.** Two pairs: `cab` and `fadeb`, each with its reverse. With `$` their sources have 4 and 6 places, so two
# are padding in the first; the decoder is fed 6 places of each. How many (query, key) pairs of the first one are open
# in each of the three attentions?

# %%
open_to = library_masks(source, fed)
symbols = words.symbols(source[0]), words.symbols(fed[0])
page, axes = figure(1, 3, panel=(3.0, 3.1))
names = {"encoder": (0, 0), "decoder": (1, 1), "cross": (1, 0)}
for panel, mask, (name, (down, along)) in zip(axes[0], open_to, names.items(), strict=True):
    mask = mask[0] if mask.ndim == 3 else mask
    panel.imshow(mask, cmap="Blues", vmin=0, vmax=1.5)
    panel.grid(False)
    for i, j in np.argwhere(~mask):
        panel.text(j, i, "×", ha="center", va="center", color=GREY)
    panel.set_xticks(range(mask.shape[1]), symbols[along])
    panel.set_yticks(range(mask.shape[0]), symbols[down])
    label(panel, f"{name}: {mask.sum()} of {mask.size} open", "key", "query")
page

# %% [markdown]
# In the decoder padding needs no mask of its own. It comes last, so the causal mask hides it from every real query.
# That is worth a thought before one writes code for it.
#
# ## 2. All places at once
#
# To write `bac$` the decoder is asked four times: after `^`, after `^b`, after `^ba`, after `^bac`. In training the
# right answers are known, so all four questions are put in one pass. The decoder is fed the target without its end, and
# asked for the target without its beginning:
#
# ```
# fed       ^  b  a  c  ·  ·          target[:, :-1]
# answers   b  a  c  $  ·  ·          target[:, 1:]
# ```
#
# This is *teacher forcing*: whatever the network would have written, it goes on from what is right. It is why a
# Transformer is fast to train where a recurrent network goes step by step. Two things keep it honest: the shift, so
# that a place is not fed its own answer, and the causal mask, so that no later place passes it on. The loss is the mean
# surprise at all answers but padding (`ignore_index`).
#
# ## 3. The model, its √d, and the loss before training
#
# Encoder and decoder layers are the library's ([transformer.py](../scratch/layers/attention/transformer.py)). Around
# them stands what the paper calls the model:


# %%
class Small(Module):
    """source (B, S), fed (B, T) → logits (B, T, V); one matrix E embeds both strings and makes the logits."""

    def __init__(self, layers=1, d=64, heads=2, norm_first=False):
        options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
        self.encoder = [TransformerEncoderLayer(d, heads, 2 * d, **options) for _ in range(layers)]
        self.decoder = [TransformerDecoderLayer(d, heads, 2 * d, **options) for _ in range(layers)]
        for p in self.parameters():
            if p.ndim == 2:
                p.data[...] = xavier_uniform(p.shape)
        self.E = Parameter(normal((V, d), std=d**-0.5))
        self.positions = SinusoidalPositions(32, d)
        # Pre-norm leaves the stream itself without a norm, so each stack ends in one.
        self.norms = [LayerNorm(d), LayerNorm(d)] if norm_first else []

    def embed(self, tokens):
        return self.positions(embedding(tokens, self.E) * math.sqrt(self.E.shape[1]))

    def forward(self, source, fed, hidden=None):
        """hidden (T, T): what the decoder's queries must not see, in the place of the causal mask."""
        padding = source == PAD
        hidden = ~causal_mask(fed.shape[1]) if hidden is None else hidden
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory, src_key_padding_mask=padding)
        memory = self.norms[0](memory) if self.norms else memory
        h = self.embed(fed)
        for layer in self.decoder:
            h = layer(h, memory, tgt_mask=hidden, memory_key_padding_mask=padding)
        h = self.norms[1](h) if self.norms else h
        return h @ self.E.T


def loss_of(model, source, target, fed=None, hidden=None):
    fed = target[:, :-1] if fed is None else fed
    return cross_entropy(model(source, fed, hidden).reshape(-1, V), target[:, 1:].reshape(-1), ignore_index=PAD)


# %% [markdown]
# The matrix E has three jobs: it embeds the source, embeds the target and, transposed, makes the logits. The last job
# sets its size. Behind the last norm, h has d numbers of mean square 1, so a logit
#
# $$z_v = \sum_{j=1}^d h_j E_{vj} \quad\text{has the variance}\quad d \cdot \operatorname{Var}(E)$$
#
# and $E \sim N(0, 1/d)$ makes that 1, whatever d. As an *embedding*, however, such a row is faint: its numbers are
# about $1/\sqrt d$, an eighth here, beside sines and cosines of about 0.7. Hence the factor $\sqrt d$ on the way in.
#
# **Predict 2.** V = 13, d = 64. What is the loss if all 13 symbols get equal probabilities? Is it higher or lower when
# the logits are random numbers of variance 1? And when E is drawn from N(0, 1), as `Embedding` does by default?

# %%
batch = [rows[:256] for rows in strings.train.arrays]
print(f"ln V = {math.log(V):.2f}, ln V + ½ = {math.log(V) + 0.5:.2f}")
for name, scale in {"N(0, 1/d)": 1.0, "N(0, 1)": 8.0, "N(0, 0.02²)": 8 * 0.02}.items():
    manual_seed(0)
    model = Small()
    model.E.data *= scale
    fed = batch[1][:, :-1]
    with no_grad():
        z = model(batch[0], fed).data
        loss = loss_of(model, *batch).item()
    again = np.take_along_axis(z, fed[..., None], axis=-1)[fed != PAD].mean()
    print(f"E ~ {name:12} loss {loss:5.2f}; logits: deviation {z.std():5.2f}, of the symbol just fed {again:5.2f}")

# %% [markdown]
# Random logits of variance σ² raise the loss by about σ²/2 (on the [page](../docs/weeks/week5.md)), so 3.06 was a good
# guess, and still too low: these logits are not random. The sum carries the embedding of the symbol that was *fed* all
# the way up, and there it meets its own row of E. Before it has learned anything, this Transformer says everything
# twice, and one that should write strings backwards is surprised. With N(0, 1) it shouts it. Drawn very small, as GPT
# does (week 16), E makes all logits nearly equal, and the loss is ln V; the price is that E must grow first.
#
# ## 4. Sum and norm
#
# Around each sublayer f (an attention, or the feed-forward network) stand a sum and a norm, in one of two orders:
#
# $$\text{post-norm, the paper's:}\quad x \leftarrow \operatorname{LN}(x + f(x)) \qquad\qquad
# \text{pre-norm:}\quad x \leftarrow x + f(\operatorname{LN}(x))$$
#
# In pre-norm x itself is only ever added to: a *stream* from the embedding to the logits, into which every sublayer
# writes and from which it reads a normed copy. In post-norm the norm stands in the stream.
#
# **Fill in 2.** The paper's "Add & Norm" as one operation with its four gradients. With $s = x + f$ and $\hat s = (s -
# \mu) / \sigma$ for each row of d numbers, and $g = w \cdot dy$, layer norm has $\partial L / \partial s = (g -
# \operatorname{mean} g - \hat s \operatorname{mean}(g\,\hat s)) / \sigma$. What do x and f get of it?


# %%
def my_add_and_norm(x, f, weight, bias, eps=1e-5):
    """y = w (s − μ) / σ + b, s = x + f, σ = √(var + eps), for Tensors x, f (B, T, d), weight, bias (d,)"""
    # y = ...
    # def backward(dy):
    #     return ..., ..., ..., ...         of the shapes of x, f, weight and bias
    # return record(y, (x, f, weight, bias), backward)
    return ...


# %%
def library_add_and_norm(x, f, weight, bias):
    return layer_norm(x + f, weight.shape, weight, bias)


rng = np.random.default_rng(1)
cases = [
    [np.array([[[1.0, 0, 1, 2]]]), np.array([[[-1.0, 0, 2, 1]]]), np.full(4, 3.0), np.zeros(4)],
    [rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)],
]
check.operation(my_add_and_norm, library_add_and_norm, cases)

# %% [markdown]
# Which order is kinder to the gradient? Twelve layers each way, before any training: how long is the gradient of each
# layer's first feed-forward matrix?
#
# **Predict 3.** From the last decoder layer down to the first, does the gradient grow, shrink or stay, in post-norm and
# in pre-norm? (Post-norm divides the stream, x and what was added, by its standard deviation, three times in each
# decoder layer.)

# %%
depth = 12
batch = [rows[:64] for rows in strings.train.arrays]
page, axes = figure(1, 2, panel=(4.2, 3.4), sharey=True)
for k, (name, norm_first) in enumerate({"post-norm": False, "pre-norm": True}.items()):
    manual_seed(0)
    model = Small(depth, norm_first=norm_first)
    loss_of(model, *batch).backward()
    for panel, stack, title in zip(axes[0], (model.encoder, model.decoder), ("encoder", "decoder"), strict=True):
        sizes = [float(np.linalg.norm(layer.linear1.weight.grad)) for layer in stack]
        panel.plot(range(1, depth + 1), sizes, color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], label=name)
        label(panel, title, "layer", "‖∂L/∂W‖ of linear1" if panel is axes[0, 0] else "")
        print(f"{name:9} {title}: first layer {sizes[0]:.2f}, last {sizes[-1]:.2f}")
for panel in axes[0]:
    log_scale(panel)
legend(axes[0, 1])
page

# %% [markdown]
# In post-norm the gradient falls thirteenfold on its way down the decoder, so the upper layers are moved long before
# the lower ones; in pre-norm it is nearly even, and a little larger below, where the stream is still short and each
# addition counts for more. (The encoder's gradient comes in through all twelve cross-attentions at once, so it begins
# its own way down with full length.) Xiong and others (2020) found this, and that it is why the paper's order needs a
# learning rate that rises slowly: week 6 tries it without.
#
# ## 5. Strings, backwards
#
# One layer in each stack, two heads, 64 numbers wide. The strings have 3 to 8 of ten letters; no string of the test
# part is in the training part.


# %% tags=["machine-dependent"]
def train(model, steps=400, lr=4e-3, data=strings, **options):
    """The loss of each step; Adam with a short warm-up, then down along a cosine."""
    batches, losses = Batches(*data.train.arrays, batch_size=64, seed=0), []
    optimizer, schedule = Adam(model.parameters(), betas=(0.9, 0.98)), cosine(lr, steps, warmup=steps // 10)
    for step in range(steps):
        source, target = next(batches)
        loss = loss_of(model, source, target, **{name: f(target) for name, f in options.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def write(model, source, length):
    """What the model writes by itself: the likeliest symbol, fed back, `length` times → (B, length)"""
    fed = np.full((len(source), 1), BEGIN)
    with no_grad():
        for _ in range(length):
            logits = model(source, fed).data[:, -1]
            fed = np.concatenate([fed, logits.argmax(axis=-1)[:, None]], axis=1)
    return fed[:, 1:]


def exact(model, data=strings):
    """The share of test strings that come out right from the first letter to the end."""
    source, target = data.test.arrays
    written = words.decode(write(model, source, target.shape[1] - 1))
    return float(np.mean([a == b for a, b in zip(written, words.decode(target), strict=True)]))


manual_seed(0)
model = Small()
curves = {"shift and mask": train(model)}
first, *_ = losses = curves["shift and mask"]
print(f"{model.count_parameters():,} parameters, loss {first:.2f}, at the end {np.mean(losses[-20:]):.4f}; "
      f"{exact(model):.1%} of unseen strings right")  # fmt: skip
some = strings.test.inputs[:4]
for before, after in zip(words.decode(some), words.decode(write(model, some, 9)), strict=True):
    print(f"{before:8} → {after}")
assert np.mean(losses[-20:]) < 0.1 and exact(model) > 0.95

# %% [markdown]
# **Predict 4.** Two faults that people really make. The decoder is fed the answers themselves, *without the shift*; or
# it is fed rightly, *without the causal mask*. What becomes of the training loss of each, and how many strings come out
# right when the model writes by itself?

# %% tags=["machine-dependent"]
faults = {
    "without the shift": {"fed": lambda target: target[:, 1:]},
    "without the mask": {"hidden": lambda target: np.zeros((target.shape[1] - 1,) * 2, bool)},
}
for name, options in faults.items():
    manual_seed(0)
    faulty = Small()
    curves[name] = train(faulty, steps=150, **options)
    written = write(faulty, strings.test.inputs, 9)
    again = np.mean(written[:, 1:] == written[:, :-1])
    print(f"{name:17} loss at the end {np.mean(curves[name][-20:]):.4f}; {exact(faulty):.1%} right; "
          f"{np.mean(written == BEGIN):.0%} of what it writes is ^, {again:.0%} is what it has just written")
    assert exact(faulty) < 0.1
page, axes = figure(panel=(6.4, 3.4))
for k, (name, values) in enumerate(curves.items()):
    axes[0, 0].plot(smoothed(values, 5), color=COLOURS[k], linestyle=DASHES[k], label=name)
axes[0, 0].axhline(math.log(10), color=BLACK, linewidth=0.8, linestyle=":", label="any letter: ln 10")
log_scale(axes[0, 0])
label(axes[0, 0], "a loss can be too good", "step", "training loss, smoothed")
legend(axes[0, 0])
page

# %% [markdown]
# One looks better than the right model at once, the other after sixty steps, and neither can write a word. Without the
# shift the answer is what is fed: the network says everything twice, and after `^` it says `^`, for ever. Without the
# mask the answer stands one place to the right: the network learns to look there, and when it writes, nothing is there.
# A loss that falls too fast is a fault until the contrary is shown. The test that shows it takes three lines: *change
# what is fed at one place; no earlier logit may move*.

# %% tags=["machine-dependent"]
fed, other = strings.test.targets[:1, :-1], strings.test.targets[:1, :-1].copy()
other[:, 5] = BEGIN
for name, hidden in {"with the mask": None, "without the mask": np.zeros((fed.shape[1],) * 2, bool)}.items():
    with no_grad():
        moved = np.abs(model(some[:1], fed, hidden).data - model(some[:1], other, hidden).data).max(axis=-1)[0]
    print(f"{name:16} place 5 changed; logits moved by", *moved.round(2))
    assert moved.shape == (9,) and (moved[:5].max() < 1e-3) == (hidden is None)

# %% [markdown]
# ## 6. What cross-attention points to
#
# The decoder of the good model has one cross-attention with two heads. At each place of the target a head spreads a
# weight of 1 over the places of the source.
#
# **Predict 5.** The source is `abcdefgh`. Draw the matrix of weights: what is fed downwards, the source to the right.
# In which row is `$` written, and what does that row look at?


# %%
def attention_maps(model, source, fed):
    """Weights of every attention by name (B, nh, T, S), computed again from what went into it."""
    names = {id(module): name for name, module in model.named_modules() if isinstance(module, MultiheadAttention)}
    inputs = {}

    def catch(module, arguments, output):
        if id(module) in names:
            inputs[names[id(module)]] = module, arguments

    with no_grad(), observe(catch):
        model(source, fed)
        masks = {"encoder": None, "decoder": ~causal_mask(fed.shape[1])}
        for name, (module, (query, key, value, padding)) in list(inputs.items()):
            mask = masks[name.split(".")[0]] if name.endswith("self_attn") else None
            inputs[name] = module(query, key, value, padding, attn_mask=mask, average_attn_weights=False)[1].data
    return inputs


source = words.encode(["abcdefgh"])
fed = words.encode(["hgfedcba"], begin=True, end=False)
maps = attention_maps(model, source, fed)
cross = maps["decoder.0.multihead_attn"][0]
answers = words.symbols(write(model, source, 9)[0])
page, axes = figure(1, 2, panel=(3.9, 3.9))
for head, panel in enumerate(axes[0]):
    panel.imshow(cross[head], cmap="Blues", vmin=0, vmax=1)
    panel.grid(False)
    panel.set_xticks(range(source.shape[1]), words.symbols(source[0]))
    rows = [f"{before} → {after}" for before, after in zip(words.symbols(fed[0]), answers, strict=True)]
    panel.set_yticks(range(fed.shape[1]), rows)
    for i, j in enumerate(cross[head].argmax(axis=-1)):
        panel.text(j, i, f"{cross[head, i, j]:.1f}", ha="center", va="center", fontsize=8,
                   color="white" if cross[head, i, j] > 0.6 else BLACK)  # fmt: skip
    label(panel, f"cross-attention, head {head + 1}", "source", "" if head else "fed → written")
page

# %% [markdown]
# The antidiagonal: nobody told the network where to look, only what to write. To be in the right place, a query must
# know how far it has come (its position), and the keys must know how far from the end they stand, which is the
# encoder's work: without it, memory would hold letters and places counted from the *front*. In the last row, where `$`
# is to be written, there is nothing left to copy, and one head turns to the source's own `$`.
#
# ## 7. What needs positions
#
# Now the same network with all sines and cosines set to 0, and two tasks: the reverse, and sorting the letters.
#
# **Predict 6.** Which of the two can still be learned? (Attention takes a weighted mean: how does memory change if the
# source is shuffled? Where can a causal decoder read off how much it has written?)

# %% tags=["machine-dependent"]
shown = {}
for task in ("reverse", "sort"):
    data = load_strings(task, count=30_000, validation=500, test=500, lengths=(3, 8), symbols=10)
    manual_seed(0)
    blind = Small()
    blind.positions.table[:] = 0
    losses = train(blind, steps=300, data=data)
    given, right = (words.decode(rows) for rows in data.test.arrays)
    written = words.decode(write(blind, data.test.inputs, 9))
    shown[task] = [f"{a} → {b}" for a, b in zip(given[:5], written[:5], strict=True)]
    letters = np.mean([sorted(a) == sorted(b) for a, b in zip(written, right, strict=True)])
    print(f"{task:8} loss at the end {np.mean(losses[-20:]):.3f}, {exact(blind, data):.1%} right, "
          f"{letters:.1%} with the right letters")
    assert letters > 0.7 and (exact(blind, data) < 0.3) == (task == "reverse")
shown

# %% [markdown]
# Without positions the memory of `bca` is the memory of `abc`, shuffled: the same three vectors, which cross-attention
# averages in any order. So the encoder hands over a bag of letters. For sorting that is all one needs, and the decoder
# knows what it has written so far: the causal mask shows each place another number of keys. For the reverse the bag
# yields the right letters, most of the time, in an order that is a guess.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week5.md) has the derivations, a part to rebuild, and an experiment.
# - Read [scratch/models/transformer/model.py](../scratch/models/transformer/model.py): the same model with dropout, any
#   number of layers and either order of norms.
# - [Week 6](week6_training_and_decoding.ipynb) trains it as the paper does, writes with a beam, and reads dates.
