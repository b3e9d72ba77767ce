# %% [markdown]
# # Week 6: training and decoding
#
# In an hour: why the learning rate of a Transformer rises before it falls, and what happens if it does not; a loss
# that forbids certainty; how learning from right answers differs from writing alone; why the likeliest next symbol is
# not the way to the likeliest string, and how a beam finds a better one; what need not be computed twice; and a model
# that reads dates in many spellings, with a look at what it points to and where it fails.
#
# You need [week 5](week5_encoder_decoder.ipynb): encoder and decoder, masks, teacher forcing, post-norm and pre-norm.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import math
import time
from collections import Counter

import check
import numpy as np

from scratch import Module, Tensor, manual_seed, no_grad
from scratch.activations import log_softmax
from scratch.data import Batches, load_dates, load_strings
from scratch.data.pairs import BEGIN, PAD
from scratch.losses import cross_entropy
from scratch.models.transformer import Transformer, beam_search, greedy
from scratch.models.transformer.train import matches, summed_loss
from scratch.module import observe
from scratch.optim import Adam
from scratch.schedules import constant, cosine, inverse_sqrt
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure, smoothed
from scratch.viz.style import BLACK, COLOURS, DASHES, MARKERS, label, legend

# %% [markdown]
# ## 1. First up, then down
#
# The paper trains with Adam and a learning rate that depends on the number n of the update, counted from 1, the width
# d and the length w of the warm-up:
#
# $$\eta(n) = d^{-1/2} \cdot \min\left(n^{-1/2},\ n \cdot w^{-3/2}\right)$$
#
# **Fill in 1.** This schedule. `step` counts from 0, as everywhere in the library: the first update has step = 0, n =
# 1.


# %%
def my_rate(step, d_model, warmup):
    return ...


# %%
def library_rate(step, d_model, warmup):
    return inverse_sqrt(warmup=warmup, d_model=d_model)(step)


check.function(my_rate, library_rate, [[0, 512, 4000], [3999, 512, 4000], [4000, 512, 4000], [99_999, 64, 10]])

# %% [markdown]
# **Predict 1.** With the paper's d = 512 and w = 4,000: at which update is the rate highest, and how high? What does
# it change if the model is made four times as wide, or the warm-up four times as long?

# %%
page, axes = figure(panel=(6.6, 3.2))
for k, (d, w) in enumerate([(512, 4000), (2048, 4000), (512, 16_000)]):
    rates = [1000 * inverse_sqrt(warmup=w, d_model=d)(step) for step in range(40_000)]
    axes[0, 0].plot(rates, color=COLOURS[k], linestyle=DASHES[k], label=f"d = {d}, w = {w:,}")
    print(f"d = {d:4}, w = {w:6,}: highest at update {1 + int(np.argmax(rates)):6,}, {max(rates) / 1000:.6f}")
label(axes[0, 0], "the paper's schedule", "step", "learning rate / 0.001")
legend(axes[0, 0])
page

# %% [markdown]
# The two branches meet at n = w, at $(d\,w)^{-1/2}$: four times the width halves every rate, four times the warm-up
# halves the highest and leaves the late ones as they were.
#
# Why go up at all? Adam divides a gradient by its own size, so in the first update *every* weight moves by η, whether
# its gradient means anything or not, and all in step: the weights of a unit move along its inputs, and over d inputs
# these moves add up to some $d\,\eta$, while random weights add up like $\sqrt d$. After one step of η = 0.006 at d =
# 64 a unit has moved by 0.4, where its whole output is about 1. And in post-norm the upper layers have the largest
# gradients, as week 5 has measured: they change what all the others have to work with.
#
# **Predict 2.** Four Transformers of 3 + 3 layers learn to write strings backwards: post-norm and pre-norm, each with
# 100 steps of warm-up and with none; then the rate stays at 0.005. Which of the four learn?


# %% tags=["machine-dependent"]
def train(model, pairs, steps, schedule, batch_size=32):
    """The loss of each step, as the library's training does it, without dropout and clipping."""
    batches, losses = Batches(*pairs.train.arrays, batch_size=batch_size, seed=0), []
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    for step in range(steps):
        total, count = summed_loss(model, *next(batches))
        loss = total / count
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


strings = load_strings("reverse", count=30_000, validation=500, test=500, lengths=(3, 8))
V = len(strings.tokenizer)
page, axes = figure(panel=(6.6, 3.6))
for k, (norm_first, warmup) in enumerate([(False, 100), (False, 0), (True, 100), (True, 0)]):
    manual_seed(0)
    model = Transformer(V, 64, 4, 3, 3, 128, dropout=0.0, max_length=16, norm_first=norm_first)
    losses = train(model, strings, 140, constant(0.005, warmup))
    name = f"{'pre' if norm_first else 'post'}-norm, {f'{warmup} steps of' if warmup else 'no'} warm-up"
    print(f"{name:32} loss at the end {np.mean(losses[-20:]):.2f}")
    assert np.mean(losses[-20:]) < math.log(10)
    axes[0, 0].plot(smoothed(losses, 5), color=COLOURS[k], linestyle=DASHES[k], label=name)
axes[0, 0].axhline(math.log(10), color=BLACK, linewidth=0.8, linestyle=":", label="any letter: ln 10")
axes[0, 0].set_ylim(0, 3.5)
label(axes[0, 0], "the first 140 steps", "step", "training loss, smoothed")
legend(page, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=2)
page

# %% [markdown]
# Post-norm without warm-up crawls: after 140 steps its loss is nearly three times that of the same network with warm-
# up. Pre-norm does not mind; its gradients were even from the beginning (week 5). A smaller rate would save the
# crawling run too, but then all steps are small, not only the first ones.
#
# ## 2. A loss that forbids certainty
#
# Cross-entropy is never satisfied: however large the right logit, a larger one is better. *Label smoothing* moves a
# share s of each target from the right symbol y to all V symbols alike:
#
# $$q_c = (1 - s)\,[c = y] + \frac sV, \qquad L = -\sum_c q_c \ln p_c, \qquad \frac{\partial L}{\partial z} = p - q$$
#
# **Fill in 2.** This loss for a batch, as one operation with its gradient.


# %%
def my_smoothed_loss(logits, targets, s):
    """logits: Tensor (B, V), targets (B,) → the mean loss, a Tensor with one number"""
    # q = ...                               (B, V)
    # log_p = ...                           (B, V); subtract the largest logit before exp
    # def backward(dy):
    #     return (...,)
    # return record(loss, (logits,), backward)
    return ...


# %%
def library_smoothed_loss(logits, targets, s):
    return cross_entropy(logits, targets, label_smoothing=s)


rng = np.random.default_rng(0)
cases = [
    [np.array([[2.0, 0.0, 0.0, 0.0]]), np.array([0]), 0.4],
    [3 * rng.standard_normal((5, 7)), rng.integers(0, 7, 5), 0.1],
    [np.array([[1000.0, 0.0, 0.0]]), np.array([1]), 0.0],
]
check.operation(my_smoothed_loss, library_smoothed_loss, cases)

# %% [markdown]
# **Predict 3.** V = 63 symbols, s = 0.1. What is the lowest loss that can be reached? How far above the others does
# the right logit stand there? Sketch the loss against that distance, for s = 0 and for s = 0.1.

# %%
V = 63
gaps = np.linspace(0, 16, 200)
logits = np.concatenate([gaps[:, None], np.zeros((200, V - 1))], axis=1)  # the right one, and the others
page, axes = figure(panel=(6.4, 3.4))
for k, s in enumerate((0.0, 0.1, 0.3)):
    losses = cross_entropy(logits, np.zeros(200, int), label_smoothing=s, reduction="none").data
    axes[0, 0].plot(gaps, losses, color=COLOURS[k], linestyle=DASHES[k], label=f"s = {s}")
    if s:
        best = math.log(1 + V * (1 - s) / s)
        axes[0, 0].plot(best, losses.min(), marker="o", color=COLOURS[k])
        print(f"s = {s}: lowest loss {losses.min():.3f}, the right logit {best:.2f} = ln(1 + V (1 − s) / s) above")
label(axes[0, 0], "the price of certainty", "right logit minus the others", "loss (nats)")
legend(axes[0, 0])
page

# %% [markdown]
# Smoothed, the loss has a lowest point and rises beyond it, so logits stop growing, and a training loss of 0.75 is no
# failure: 0.73 of it is the entropy of q. To see whether a model learns, look at the loss *without* smoothing, as the
# library's validation does.
#
# ## 3. Right answers before, own answers after
#
# Now the task that the rest of this hour is about: dates in 128 spellings, to be written as ISO 8601 has them. One
# layer in each stack and 350 steps are enough to read many dates, and few enough to leave mistakes to look at.

# %% tags=["machine-dependent"]
dates = load_dates()
words, V = dates.tokenizer, len(dates.tokenizer)
manual_seed(0)
model = Transformer(V, 64, 4, 1, 1, 128, dropout=0.0, max_length=48)
losses = train(model, dates, 350, cosine(0.004, 350, warmup=50), batch_size=64)
source, target = (rows[:1000] for rows in dates.test.arrays)
print(f"{model.count_parameters():,} parameters, loss {losses[0]:.2f}, at the end {np.mean(losses[-20:]):.3f}")
for before, after in zip(words.decode(source[:6]), words.decode(greedy(model, source[:6])), strict=True):
    print(f"{before:28} → {after}")
assert np.mean(losses[-20:]) < 0.4

# %% [markdown]
# In training each symbol is asked for after the *right* beginning. Alone, the model goes on from what it wrote itself:
# it is exposed to its own mistakes.
#
# **Predict 4.** An answer has 11 symbols, the end among them. Suppose each is right, after a right beginning, with
# probability 0.95. What share of dates comes out right as a whole if mistakes fall at random? Will the measured share
# be higher or lower? And which of the ten places is the hardest?

# %% tags=["machine-dependent"]
with no_grad():
    forced = model(source, target[:, :-1]).data.argmax(axis=-1)  # each after the right beginning
alone = greedy(model, source, 11)
alone = np.pad(alone, ((0, 0), (0, 11 - alone.shape[1])))
right, answers = target[:, 1:], {}
page, axes = figure(panel=(6.4, 3.4))
for k, (name, came) in enumerate({"after right beginnings": forced, "alone": alone}.items()):
    answers[name] = came == right
    mistakes = 1 - answers[name].mean(axis=0)
    axes[0, 0].plot(mistakes, color=COLOURS[k], marker=MARKERS[k], linestyle=DASHES[k], label=name)
    print(f"{name:23} {answers[name].mean():.1%} of symbols, {answers[name].all(axis=1).mean():.1%} of dates right")
chance = np.prod(answers["after right beginnings"].mean(axis=0))
print(f"dates right if the mistakes after right beginnings fell at random: {chance:.1%}")
assert answers["after right beginnings"].mean() > 0.85 and answers["alone"].mean() > 0.75
axes[0, 0].set_xticks(range(11), list("YYYY-MM-DD$"))
label(axes[0, 0], "where mistakes are made", "symbol of the answer", "share of wrong symbols")
legend(axes[0, 0])
page

# %% [markdown]
# The share of whole dates is the *same*, and it must be: as long as everything so far is right, the own beginning is
# the right beginning, and both models are asked the same. So the exposure costs no whole answers. It shows in what
# follows a mistake: after a wrong third digit the fourth, nearly always right otherwise, is wrong as well. Look at the
# answers: `1971` became `1917`. The model knows which digits, and not yet in which order. Slightly more dates are
# right than chance would have it: mistakes come together.
#
# ## 4. The likeliest string
#
# Greedy decoding takes the likeliest symbol, each time. The likeliest *string* may begin with another one.
#
# A *beam* of width W keeps the W likeliest beginnings instead of one, lengthens each by every symbol, and keeps the W
# best of these W · V. With W = 1 it is greedy.
#
# **Fill in 3.** One step of it. Of equal ones, the earlier parent and then the smaller token come first.


# %%
def my_beam_step(log_p, next_log_p):
    """log_p (W,) of the beginnings, next_log_p (W, V) → the W best: parent (W,), token (W,), log p (W,), best first"""
    return ...


# %%
class Chain(Module):
    """p(next | last) from a table (V, V) of probabilities, in the shape of a Transformer."""

    pad, max_length = PAD, 12

    def __init__(self, table):
        with np.errstate(divide="ignore"):
            self.logits = np.log(table)

    def encode(self, source):
        return Tensor(np.zeros((len(source), 1, 1))), np.zeros((len(source), 1), bool)

    def decode(self, target, memory, padding):
        return Tensor(self.logits[target])


def my_beam(table, width, steps):
    """Strings of `steps` tokens and their log p, best first, by my_beam_step."""
    written, log_p = np.full((width, 1), BEGIN), np.full(width, -np.inf)
    log_p[0] = 0  # at first there is one beginning
    for _ in range(steps):
        result = my_beam_step(log_p, log_softmax(Tensor(table), dim=-1).data[written[:, -1]])
        if result is ...:
            return ...
        parent, token, log_p = result
        written = np.concatenate([written[parent], token[:, None]], axis=1)
    return written[:, 1:], log_p


def library_beam(table, width, steps):
    beams = beam_search(Chain(np.exp(table)), np.zeros((1, 1), int), width, 0.0, steps, cache=False)
    return beams.tokens[0], beams.scores[0]


rng = np.random.default_rng(3)
endless = rng.standard_normal((6, 6))
endless[:, :3] = -1e3  # nothing ends
check.function(my_beam, library_beam, [[endless, 1, 4], [endless, 3, 5], [2 * endless, 7, 6]], name="my_beam_step")

# %% [markdown]
# A little language to see greedy fail in. What comes next depends on the last symbol only, and all probabilities are
# known.


# %%
def table_of(rules, signs="·^$abc"):
    """{"^": {"a": 0.6, "b": 0.4}} as a table; whatever is not named ends."""
    table = np.zeros((len(signs), len(signs)))
    table[:, 2] = 1
    for last, shares in rules.items():
        table[signs.index(last)] = [shares.get(sign, 0) for sign in signs]
    return table


def shown(tokens, signs="·^$abc"):
    return "".join(signs[t] for t in tokens).split("$")[0]


forks = Chain(table_of({"^": {"a": 0.6, "b": 0.4}, "a": {"c": 0.4, "b": 0.3, "a": 0.3}, "b": {"c": 0.9, "$": 0.1}}))
ends = Chain(table_of({"^": {"a": 1.0}, "a": {"$": 0.4, "b": 0.6}, "b": {"$": 0.65, "a": 0.35}}))

# %% [markdown]
# **Predict 5.** In `forks`, which string does greedy find, with which probability, and which one a beam of width 2? In
# `ends`, is `a` or `ab` likelier, and which of the two comes first if log p is divided by the length penalty ((5 + n)
# / 6)^α with α = 0.6, n symbols with the end?

# %%
nothing = np.zeros((1, 1), int)
for width in (1, 2):
    beams = beam_search(forks, nothing, width, alpha=0.0, cache=False)
    print(f"forks, width {width}: {shown(beams.tokens[0, 0])}, probability {math.exp(beams.scores[0, 0]):.2f}")
for alpha in (0.0, 0.6, 1.0):
    beams = beam_search(ends, nothing, 3, alpha, cache=False)
    print(f"ends, α = {alpha}: " + ", ".join(f"{shown(tokens)} ({score:.3f})" for tokens, score in
                                             zip(beams.tokens[0, :2], beams.scores[0], strict=False)))  # fmt: skip

# %% [markdown]
# Greedy took the `a` that looked better and could not take it back. And log p falls with each symbol, so a search for
# the likeliest string favours short ones; the penalty corrects that by taste, not by theory. Does a beam help with the
# dates?

# %% tags=["machine-dependent"]
for width in (1, 2, 4, 8):
    beams = beam_search(model, source[:500], width, alpha=0.0, max_length=11)
    share = matches(beams.tokens[:, 0], target[:500]).mean()
    among = np.mean([any(matches(row, np.repeat(goal[None], width, axis=0))) for row, goal in
                     zip(beams.tokens, target[:500], strict=True)])  # fmt: skip
    print(f"width {width}: mean log p of the best {beams.scores[:, 0].mean():.4f}; {share:.1%} right, "
          f"{among:.1%} with the right date among the {width}")
    assert beams.tokens.shape[:2] == (500, width) and among >= share > 0.2

# %% [markdown]
# A wider beam finds likelier strings, as it must. It does not find more right ones: the likeliest date is wrong, so
# the model is to blame and not the search. But in nearly nine of ten cases the right date is among the eight best:
# what the model is unsure about is the order of two digits, and both orders are in the beam.
#
# ## 5. What need not be computed twice
#
# Greedy decoding by `decode(everything so far)` computes all earlier places again for each new symbol. But no place
# sees a later one, so nothing about them has changed. Kept are, for each layer, the keys and values of what was
# written, and once for all those of memory. Then a new symbol costs one row
# ([cache.py](../scratch/models/transformer/cache.py)).
#
# **Predict 6.** How much faster is that for an answer of 10 symbols, and for one of 120? (Rows computed: T instead of
# 1 + 2 + … + T. Not all time is spent on rows.)

# %% tags=["machine-dependent"]
manual_seed(0)
long = Transformer(V, 64, 4, 2, 2, 256, dropout=0.0, max_length=128)
some, lengths, ratios = source[:8], (10, 30, 60, 120), []
for T in lengths:
    seconds, written = {}, {}
    for cache in (True, False):
        began = time.perf_counter()
        written[cache] = greedy(long, some, T, cache)
        seconds[cache] = time.perf_counter() - began
    ratios.append(seconds[False] / seconds[True])
    print(f"{T:3} symbols: {ratios[-1]:.1f} times as fast, the same symbols: {np.array_equal(*written.values())}")
    assert written[True].shape == written[False].shape == (8, T)
page, axes = figure(panel=(5.6, 3.2))
axes[0, 0].plot(lengths, ratios, color=COLOURS[0], marker=MARKERS[0])
axes[0, 0].set_ylim(0)
label(axes[0, 0], "eight answers at a time", "symbols written", "time without / with a cache")
page

# %% [markdown]
# The gain grows with the length, and begins small: for short answers most of the time goes into calls, not into rows.
#
# ## 6. Where it looks, and where it fails
#
# **Predict 7.** Cross-attention, for a date such as `the 3rd of May, 1997` → `1997-05-03`: where do the rows of `1997`
# look, where those of `05`, and where that of `03`?


# %%
def cross_attention(model, source, fed):
    """Weights of the last layer's cross-attention (B, nh, T, S), computed again from what went into it."""
    caught = []

    def catch(module, arguments, output):
        if module is model.decoder[-1].multihead_attn:
            caught.append(arguments)

    with no_grad(), observe(catch):
        model(source, fed)
        query, key, value, padding = caught[0]
        return model.decoder[-1].multihead_attn(query, key, value, padding, average_attn_weights=False)[1].data


spelt = ["the 3rd of May, 1997", "Tuesday 14 March 1950"]
page, axes = figure(1, 2, panel=(4.8, 3.6))
for text, panel in zip(spelt, axes[0], strict=True):
    row = words.encode([text])
    answer = greedy(model, row)
    fed = np.concatenate([[[BEGIN]], answer[:, :-1]], axis=1)
    weights = cross_attention(model, row, fed)[0].mean(axis=0)
    panel.imshow(weights, cmap="Blues", vmin=0, vmax=0.6, aspect="auto")
    panel.grid(False)
    panel.set_xticks(range(row.shape[1]), words.symbols(row[0]))
    panel.set_yticks(range(answer.shape[1]), words.symbols(answer[0]))
    label(panel, f"→ {words.decode(answer)[0]}", "source", "" if panel is axes[0, 1] else "written")
page

# %% [markdown]
# In blocks, as one would align them: the year's rows look at the year, the month's at the name of the month, the day's
# at its digits. Within the year the rows spread over several digits, and there the digits get exchanged: 1997 came out
# as 1979, and the day as 30. What kinds of spellings does this model fail at? The list below groups them, `d` for a
# number and `w` for a word.

# %%
wrong = np.flatnonzero(~answers["alone"].all(axis=1))
texts, truths, given = words.decode(source), words.decode(target), words.decode(alone)


def kind(text):
    """What a spelling is made of: d for digits, w for a word."""
    return "".join("w" if c.isalpha() else "d" if c.isdigit() else c for c in text)


def simpler(text):
    shape = kind(text)
    for c in "wd":
        while c + c in shape:
            shape = shape.replace(c + c, c)
    return shape


seen, missed = Counter(map(simpler, texts)), Counter(simpler(texts[i]) for i in wrong)
ranked = sorted((shape for shape in seen if seen[shape] >= 15), key=lambda shape: -missed[shape] / seen[shape])
[f"{shape}: {missed[shape]} of {seen[shape]} wrong" for shape in ranked[:4] + ranked[-3:]], [
    f"{texts[i]} should be {truths[i]}, came {given[i]}" for i in wrong[:8]
]

# %% [markdown]
# Three numbers in a row are hard: which of them is the month depends on the signs between them, and where each digit
# goes depends on how many stand before it. A word for the month settles half of it. This is a model of one layer after
# 350 steps; what it needs is exactly what more steps teach.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week6.md) has the derivations, a part to rebuild, and an experiment.
# - `scratch train transformer` trains two layers in each stack for some thousand steps on dates.
# - [Week 16](week16_gpt.ipynb) takes the encoder away.
