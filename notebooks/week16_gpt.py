# %% [markdown]
# # Week 16: GPT
#
# In an hour: what is left of the encoder–decoder when one takes the encoder away, where a GPT's parameters are, what
# its loss means beside counting, how a text is drawn from it (temperature, top-k, top-p), why the next character is
# cheap, and what happens inside: guesses that form block by block, and two heads that together copy.
#
# You need [week 5](week5_encoder_decoder.ipynb) and [week 6](week6_training_and_decoding.ipynb).
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
import math
import time

import check
import numpy as np

from scratch import manual_seed, no_grad
from scratch.data import Batches, CharTokenizer, TextWindows, load_shakespeare, windows_in_order
from scratch.losses import cross_entropy
from scratch.models.gpt import GPT
from scratch.models.gpt.generate import distribution, generate
from scratch.models.gpt.inside import attention_maps, head_scores, logit_lens, repeated
from scratch.models.gpt.model import Attention, Block, FeedForward
from scratch.models.gpt.pictures import draw_head_scores, draw_lens
from scratch.models.gpt.tasks import repeats
from scratch.models.gpt.train import summed_loss
from scratch.optim import AdamW, clip_grad_norm_
from scratch.schedules import cosine
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import attention_maps as draw_maps
from scratch.viz import figure, smoothed
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend

# %% [markdown]
# ## 1. What is left out
#
# The decoder of week 5 writes a target with its eye on a source. If the "source" is simply the beginning of the text,
# nothing has to be encoded apart: the decoder has read it already. So a GPT is that decoder without cross-attention,
# and a block has two parts instead of three:

# %%
print(inspect.getsource(Block.forward))
for function in (Attention.forward, FeedForward.forward, GPT.embed):
    print(inspect.getsource(function))

# %% [markdown]
# Difference by difference, "Attention Is All You Need" (2017) on the left, GPT-2 (2019) on the right:
#
# | encoder–decoder | GPT | the line |
# |---|---|---|
# | source and target, two stacks | one text, one stack | `Block`: no cross-attention, so no padding of a source |
# | causal in the decoder only | causal everywhere | `is_causal=True` |
# | post-norm | pre-norm, one more norm at the end | `x + self.attention(self.norm1(x))`, `norm` |
# | sines and cosines | a learned row for each place, so none beyond the context | `position_embedding` |
# | ReLU | GELU | `self.gelu(...)` |
# | E times √d on the way in | E as it is, drawn small | `token_embedding`, std 0.02 |
# | Xavier everywhere | what writes into the sum starts smaller by √(2n) | `init_weights` |
#
# **Predict 1.** For width C, how many weights (biases aside) has one block? Attention makes q, k, v and an output, the
# network goes to 4C and back. GPT-2 has 12 blocks, C = 768, 50,257 tokens, 1,024 places: which part of its parameters
# is in the blocks?


# %%
def count(V, T, n, C):
    """Parameters of a GPT: (embeddings, blocks, the last norm)"""
    attention = 4 * C * C + 4 * C  # weights, biases
    network = 2 * C * 4 * C + 4 * C + C
    return V * C + T * C, n * (attention + network + 2 * 2 * C), 2 * C


manual_seed(0)
for size in ({"num_layers": 4, "embed_dim": 128}, {"num_layers": 2, "embed_dim": 64}):
    model = GPT(63, 64, **size)
    print(f"{size}: counted {model.count_parameters():,}, "
          f"by formula {sum(count(63, 64, size['num_layers'], size['embed_dim'])):,}")  # fmt: skip
for name, n, C in (("GPT-2", 12, 768), ("GPT-2 XL", 48, 1600)):
    parts = count(50_257, 1024, n, C)
    print(f"{name:8} {sum(parts):13,} parameters, {parts[1] / sum(parts):.0%} in blocks (12 n C² = {12 * n * C * C:,})")

# %% [markdown]
# $4C^2$ for attention and $8C^2$ for the network: two thirds of a block is the network. A large GPT is $12\,n\,C^2$ and
# a little; 124,439,808 is the size of the published GPT-2 to the last parameter. The head costs nothing: it is the
# embedding once more.
#
# ## 2. Every place is an example
#
# A text is its own teacher: at each place of a window of T characters the model says what comes next, and the text says
# what did. By the chain rule of probability,
#
# $$p(x_1 \dots x_T) = \prod_t p(x_t \mid x_1 \dots x_{t-1}), \qquad
# L = -\frac1{T-1} \sum_{t=1}^{T-1} \ln p(x_{t+1} \mid x_1 \dots x_t)$$
#
# One pass over T characters gives T − 1 examples with contexts of every length from 1 on. The causal mask makes each of
# them honest.
#
# **Fill in 1.** This loss as one operation. The logits at place t answer for the token at place t + 1, so the last
# place has nothing to answer for. The mean runs over all B · (T − 1) answers. (Subtract the largest logit before
# `exp`.)


# %%
def my_causal_loss(logits, tokens):
    """logits: Tensor (B, T, V), tokens (B, T) → the mean surprise at the next token, a Tensor with one number"""
    # z = logits.data[:, :-1]
    # p = ...                               (B, T − 1, V)
    # def backward(dy):
    #     dz = np.zeros_like(logits.data)   (B, T, V)
    #     ...
    #     return (dz,)
    # return record(loss, (logits,), backward)
    return ...


# %%
def library_causal_loss(logits, tokens):
    V = logits.shape[2]
    return cross_entropy(logits[:, :-1].reshape(-1, V), tokens[:, 1:].reshape(-1))


rng = np.random.default_rng(0)
cases = [
    [np.array([[[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]]]), np.array([[0, 1, 0]])],
    [rng.standard_normal((3, 5, 4)), rng.integers(0, 4, (3, 5))],
    [np.array([[[1000.0, 0.0], [0.0, 0.0]]]), np.array([[1, 1]])],
]
check.operation(my_causal_loss, library_causal_loss, cases)

# %% [markdown]
# What can one reach without any network? Count. Of single characters, and of pairs: how often does `h` follow `t`? With
# one added to every count, so that nothing is impossible. The text: seven of Shakespeare's plays to learn from, an
# eighth to validate.
#
# **Predict 2.** 63 different characters. Put in order, in nats a character: knowing nothing; counts of single
# characters; counts of pairs; of triples; an untrained GPT; a small GPT after 300 steps. Guess the numbers, too.

# %%
texts = load_shakespeare()
tokenizer = CharTokenizer.fit(texts.train)
V = len(tokenizer)
learn, validation = tokenizer.encode(texts.train), tokenizer.encode(texts.validation)[:20_001]


def counting(order):
    """The mean surprise on the validation text of counts of `order` characters, one added to each."""
    counts = np.ones((V,) * order)
    np.add.at(counts, tuple(learn[i : len(learn) - order + 1 + i] for i in range(order)), 1)
    p = counts / counts.sum(axis=-1, keepdims=True)
    return -np.log(p[tuple(validation[i : len(validation) - order + 1 + i] for i in range(order))]).mean()


baselines = {"knowing nothing": math.log(V), "characters": counting(1), "pairs": counting(2), "triples": counting(3)}
for name, nats in baselines.items():
    print(f"{name:16} {nats:.3f} nats, {nats / math.log(2):.2f} bits a character")

# %% tags=["machine-dependent"]
T = 64
manual_seed(0)
model = GPT(V, T, num_layers=4, num_heads=4, embed_dim=64)


def evaluate(model, tokens=validation):
    """The mean surprise at each character of a text, cut into windows."""
    total = 0.0
    with no_grad():
        for x, y in windows_in_order(tokens, T, 64):
            total += cross_entropy(model(x).reshape(-1, V), y.reshape(-1), reduction="sum").item()
    return total / (len(tokens) - 1)


def train(model, batches, steps, lr, loss_of):
    """The loss of each step."""
    losses, optimizer = [], AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    schedule = cosine(lr, steps, warmup=steps // 10)
    for step in range(steps):
        loss = loss_of(model, *next(batches))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def next_loss(model, x, y):
    return cross_entropy(model(x).reshape(-1, V), y.reshape(-1))


print(f"{model.count_parameters():,} parameters, untrained {evaluate(model):.3f}")
losses = train(model, TextWindows(learn, T, batch_size=16, seed=0), 300, 5e-3, next_loss)
print(f"after 300 steps {evaluate(model):.3f}")
assert losses[0] < 4.5 and evaluate(model) < baselines["pairs"] + 0.1
page, axes = figure(panel=(6.6, 3.6))
axes[0, 0].plot(losses, color=COLOURS[5], linewidth=0.7)
axes[0, 0].plot(smoothed(losses, 10), color=COLOURS[0], label="GPT, training, smoothed")
for k, (name, nats) in enumerate(baselines.items(), start=1):
    axes[0, 0].axhline(nats, color=COLOURS[k], linestyle=DASHES[k], label=name)
label(axes[0, 0], "a small GPT beside counting", "step", "nats a character")
legend(axes[0, 0], ncols=2)
page

# %% [markdown]
# An untrained GPT costs ln 63 to the second digit: E is drawn so small that all logits are nearly equal (week 5 had a
# surprise there). Then it finds, in this order, how frequent characters are and what follows what: after 300 steps it
# is past the counts of pairs, and not yet past those of triples. Counting does not go much further: of six characters
# in a row most occur once or never. The network goes on, because it need not have seen a context to make something of
# it (the [page](../docs/weeks/week16.md) has longer runs).
#
# ## 3. Drawing a text
#
# The model gives probabilities; a text needs decisions. Always the likeliest (greedy) soon runs in circles. Drawing
# from p as it is follows the model's own idea, its unlikely tail included, and in a long text the tail comes up. Three
# knobs:
#
# - **temperature** τ: softmax(z / τ). Below 1 the likely becomes likelier, above 1 all become alike
# - **top-k**: only the k likeliest
# - **top-p** (the *nucleus*): the likeliest, as many as it takes for their probabilities to reach the share p
#
# **Fill in 2.** Top-p. The last one that is needed to reach the share is kept, the kept ones are scaled to the sum 1,
# and of equally likely tokens the one with the smaller number comes first.


# %%
def my_top_p(p, share):
    """Probabilities (B, V), each row summing to 1 → the same, cut to the nucleus"""
    # order = np.argsort(-p, axis=1, kind="stable")
    return ...


# %%
def library_top_p(p, share):
    return distribution(np.log(p), top_p=share)


rng = np.random.default_rng(1)
cases = [
    [np.array([[0.1, 0.4, 0.25, 0.15, 0.1]]), 0.7],
    [rng.dirichlet(np.ones(9), 20), 0.6],
    [np.eye(3) * 0.7 + 0.1, 1.0],
]
check.function(my_top_p, library_top_p, cases)

# %% [markdown]
# **Predict 3.** After `ROMEO:` and a few words, how many of 63 characters does top-p = 0.9 leave? Is it the same number
# after `Th` and after a full stop? And what does a temperature of 2 do to the likeliest character?

# %% tags=["machine-dependent"]
beginnings = ["What is th", "I will not sp", "my lord.\n\n"]
page, axes = figure(1, 3, panel=(3.4, 3.0), sharey=True)
for panel, beginning in zip(axes[0], beginnings, strict=True):
    with no_grad():
        logits = model(tokenizer.encode(beginning)[None]).data[:, -1]
    for k, tau in enumerate((0.5, 1.0, 2.0)):
        p = distribution(logits, tau)[0]
        panel.plot(np.sort(p)[::-1][:16], color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], markersize=4,
                   label=f"τ = {tau}")  # fmt: skip
        if tau == 1.0:
            kept = distribution(logits, top_p=0.9)[0]
            print(f"{beginning!r:16} top-p 0.9 keeps {(kept > 0).sum()} of {V}, the likeliest has {p.max():.2f}")
            assert 1 <= (kept > 0).sum() < V and np.isclose(kept.sum(), 1)
    label(panel, f"after {beginning!r}", "rank", "probability" if panel is axes[0, 0] else "")
legend(axes[0, 0])
page

# %% [markdown]
# A fixed k is too many after `th` and too few at the start of a line. The nucleus is as large as the model is unsure.
#
# **Predict 4.** Five ways to draw 600 characters. Put them in order by the share of their words (of three letters or
# more) that occur in the plays the model learned from.

# %% tags=["machine-dependent"]
known = set(texts.train.lower().translate({ord(c): " " for c in "\n!&',-.:;?"}).split())
ways = {
    "greedy": {"temperature": 0},
    "τ = 0.5": {"temperature": 0.5},
    "top-p 0.8": {"top_p": 0.8},
    "τ = 1": {},
    "τ = 1.5": {"temperature": 1.5},
}
told = {}
for name, options in ways.items():
    prompts = [tokenizer.encode("ROMEO:\n")] * 6
    rows = generate(model, prompts, 150, rng=np.random.default_rng(0), **options)
    came = [tokenizer.decode(row)[7:] for row in rows]
    drawn = " ".join(came).lower().translate({ord(c): " " for c in "\n!&',-.:;?"}).split()
    share = np.mean([word in known for word in drawn if len(word) > 2])
    print(f"{name:10} {share:.0%} known words")
    assert 0 < share <= 1 and len(came) == 6
    told[name] = came[0][:80].replace("\n", " / ") + " ..."
told

# %% [markdown]
# Greedy is safest and says nothing: it has found a circle of known words. The hotter, the more is invented. Top-p
# stands between: it cuts off the tail and leaves the likely ones as likely as they were. With a model as small as this
# one no knob makes sense of the text; knobs choose among what it knows.
#
# ## 4. The cache
#
# A new character asks all earlier ones, and they never ask back: their keys and values stay what they were. The library
# keeps them ([decoder.py](../scratch/models/gpt/decoder.py)).
#
# **Predict 5.** With a context of 256, how many times as fast are 16, 64 and 250 characters with the cache? Are the
# texts the same?

# %% tags=["machine-dependent"]
manual_seed(0)
long = GPT(V, 256, num_layers=2, num_heads=4, embed_dim=64)
lengths, ratios = (16, 64, 128, 250), []
for n in lengths:
    seconds, told = {}, {}
    for cache in (True, False):
        began = time.perf_counter()
        told[cache] = generate(long, [[1, 2, 3]], n, temperature=0, cache=cache)[0]
        seconds[cache] = time.perf_counter() - began
    ratios.append(seconds[False] / seconds[True])
    print(f"{n:3} characters: {ratios[-1]:.1f} times as fast, the same text: {np.array_equal(*told.values())}")
    assert len(told[True]) == len(told[False]) == n + 3
page, axes = figure(panel=(5.6, 3.0))
axes[0, 0].plot(lengths, ratios, color=COLOURS[0], marker=MARKERS[0])
axes[0, 0].set_ylim(0)
label(axes[0, 0], "one text at a time", "characters written", "time without / with a cache")
page

# %% [markdown]
# ## 5. What the blocks know
#
# In pre-norm all blocks add to one stream, which at the end is normed and compared with E. So one may ask after *every*
# block what the model would say if it ended there: the *logit lens*.
#
# **Predict 6.** Four blocks. Does the loss fall evenly from block to block? What does the stream say before the first
# one, when it holds the embedding of the present character and its place?

# %% tags=["machine-dependent"]
windows = np.stack([validation[i : i + T + 1] for i in range(0, 64 * T, T)])
nats = [-np.log(logit_lens(model, row[:-1])[:, np.arange(T), row[1:]]).mean(axis=1) for row in windows]
print("loss if the model ended there:", *(f"{each:.2f}" for each in np.mean(nats, axis=0)))
assert np.shape(nats) == (64, 5) and np.mean(nats, axis=0)[0] > math.log(V) > np.mean(nats, axis=0)[1]

draw_lens(model, tokenizer, "What is the matter with you?")

# %% [markdown]
# Before the first block the stream holds the character just read, and since E also makes the logits, it says that
# character again: worse than knowing nothing. The first block does most of the work and comes near the counts of pairs
# (*what follows this character?*); the others refine it, each by less.
#
# ## 6. Two heads that copy
#
# A text of random letters that repeats itself: nothing can be known the first time, everything the second. The period
# is different in each text, so counting places does not help. What does: *look for an earlier place where the same
# letter stood, and say what came after it then*. One head alone cannot: what came **after** a letter is not written
# where the letter stands. Two in a row can. The first writes at each place which letter stood *before*; the second
# looks for places whose "before" is the present letter. Together they are an *induction head* (Olsson and others 2022).
#
# **Predict 7.** A model with one block and one with two, trained on such texts, for as many steps. Which of them learns
# to copy? Sketch the loss against the place in the text: the first time round, at the first letter of the second, later
# on. Which place does the copying head look at, if the period is n?

# %% tags=["machine-dependent"]
task = repeats()
print(task)


def copying_loss(model, x, y):
    """From the second round on: what was never there before is no target."""
    total, count = summed_loss(model, x, y)
    return total / float(count)


page, axes = figure(1, 2, panel=(4.6, 3.3))
copiers = {}
for k, blocks in enumerate((1, 2)):
    manual_seed(0)
    copiers[blocks] = copier = GPT(len(task.tokenizer), 32, num_layers=blocks, num_heads=4, embed_dim=64, bias=False)
    losses = train(copier, Batches(*task.shifted(task.train), batch_size=32, seed=0), 420, 3e-3, copying_loss)
    look = {"color": COLOURS[k], "linestyle": DASHES[k], "label": f"{blocks} block{'s' * (k > 0)}"}
    axes[0, 0].plot(smoothed(losses, 8), **look)
    rows = repeated(32, 12, 300, seed=5)  # 12 new letters, twice
    with no_grad():
        each = cross_entropy(copier(rows[:, :-1]).reshape(-1, 32), rows[:, 1:].reshape(-1), reduction="none").data
    each = each.reshape(300, -1).mean(axis=0)
    axes[0, 1].plot(each, marker=MARKERS[k], markersize=4, **look)
    print(f"{look['label']}: loss in the second round {each[12:].mean():.2f} nats (ln 32 = {math.log(32):.2f})")
    assert (each[12:].mean() < 0.3) == (blocks == 2)
label(axes[0, 0], "learning to copy", "step", "training loss (nats)")
label(axes[0, 1], "12 letters twice, 300 new texts", "place", "loss (nats)")
axes[0, 1].axvline(11.5, color="black", linewidth=0.8, linestyle=":")
axes[0, 1].set_yscale("log")
legend(axes[0, 0])
page

# %% [markdown]
# Two blocks learn it, suddenly: for a while little, then within a hundred steps everything. One block only learns what
# is left without the trick. In the first round the loss is far above ln 32: those places were no targets, and the model
# says with confidence what would be right in a second round.
#
# Does it do so by a pair of heads? Two scores for every head, on new texts of period n: the weight on the place before,
# and, in the second round, the weight on what came after the same letter, n − 1 places back.

# %% tags=["machine-dependent"]
for period in (8, 12, 16):
    scores = head_scores(copiers[2], period)
    print(f"period {period:2}: the place before, block 1 {scores.previous[0].round(2)}; "
          f"after the earlier copy, block 2 {scores.induction[1].round(2)}")  # fmt: skip
    assert scores.induction[1].max() > 0.7
draw_head_scores(head_scores(copiers[2], 12), 12)

# %%
text = repeated(32, 8, 1, seed=1)[0]
signs = list(task.tokenizer.decode(text))
maps, scores = attention_maps(copiers[2], text), head_scores(copiers[2], 8)
first, second = scores.previous[0].argmax(), scores.induction[1].argmax()
draw_maps(np.stack([maps[0, first], maps[1, second]]), signs, signs, rows="from", columns="looked at",
          titles=[f"block 1, head {first + 1}", f"block 2, head {second + 1}"])  # fmt: skip

# %% [markdown]
# There they are. In block 1 heads look one place back: the stripe just below the diagonal. In block 2, from the second
# round on, the stripe lies n − 1 places back: at each letter, the head looks at the letter *after* its earlier copy. No
# text of this period with these letters was ever seen; what was learned is the rule.
#
# It takes data that leave no other way. With segments in which a letter may come twice, the best head scored 0.64 after
# as many steps, and with 16 letters, periods from 4 to 10 and the first round among the targets none was found: there
# are other, worse rules that lower the loss at once. A low loss does not tell *how* something is done: a mechanism must
# be measured, not presumed.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week16.md) has the derivations, a part to rebuild, and an experiment.
# - `scratch train gpt` trains longer: its texts have far more known words. `scratch sample gpt` writes one at once.
# - Read [scratch/models/gpt/model.py](../scratch/models/gpt/model.py) once more: all of GPT-2 is on those two screens.
