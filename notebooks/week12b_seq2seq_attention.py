# %% [markdown]
# # Week 12, second part: two networks and a door between them
#
# In an hour: an encoder and a decoder; what goes wrong when all of a sequence must pass through one state; attention,
# additive and multiplicative, with its gradient; where it looks; and what a decoder does with its own mistakes.
#
# You need [the first notebook of the week](week12_rnn_lstm_gru.ipynb): GRU, states, sampling. The networks are in
# [seq2seq.py](../scratch/models/rnn_lstm_gru/seq2seq.py), their results on the
# [page of the architecture](../scratch/models/rnn_lstm_gru/README.md).
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import softmax
from scratch.data import Batches, load_strings, trimmed
from scratch.models.rnn_lstm_gru import BahdanauSeq2Seq, LuongSeq2Seq, inside, seq2seq
from scratch.models.rnn_lstm_gru.objective import pair_figures, pair_loss
from scratch.models.rnn_lstm_gru.seq2seq import AdditiveAttention, Memory, greedy
from scratch.optim import Adam, clip_grad_norm_
from scratch.tensor import no_grad, record  # noqa: F401  what you fill in needs it
from scratch.viz import attention_maps
from scratch.viz.sequences import lines

# %% [markdown]
# ## 1. Read, then write
#
# A date as people write it, the same as ISO 8601 has it; a sentence and its translation: the two differ in length and
# in order, so that no answer belongs to any one step. Sutskever, Vinyals and Le (2014) take two networks. The
# *encoder* reads everything; the *decoder* starts from the encoder's last state and writes token by token, each time
# reading what it has just written.
#
# Here the task is to reverse strings of six letters. `^` begins, `$` ends, `·` is padding:

# %%
pairs = load_strings("reverse", 6000, 300, 300, lengths=(2, 10), symbols=6)
source, target = trimmed(*(rows[:3] for rows in pairs.train.arrays))
for s, t in zip(source, target, strict=True):
    print("".join(pairs.tokenizer.symbols(s)), "→", "".join(pairs.tokenizer.symbols(t)))

# %% [markdown]
# **Predict 1.** In training the decoder is given the *right* tokens to read, whatever it would have written (teacher
# forcing). At the place of the target's third letter, which tokens has it read, and which one is it asked for?

# %%
given, asked = target[:, :-1], target[:, 1:]
print("reads    ", " ".join(pairs.tokenizer.symbols(given[0])))
print("is asked ", " ".join(pairs.tokenizer.symbols(asked[0])))

# %% [markdown]
# The third letter is asked for after begin and two letters have been read: the same row, moved by one.
#
# ## 2. Attention
#
# All that the encoder has read passes through one vector of $H$ numbers. Bahdanau, Cho and Bengio (2015) keep the
# states of *all* source places, $m_s$, and let the decoder look at them anew for each token. With a query $q$:
#
# $$e_s = \mathrm{score}(q, m_s) \qquad a = \mathrm{softmax}(e) \qquad c = \sum_s a_s m_s$$
#
# - *additive*: $\ e_s = v \cdot \tanh(W q + U m_s)$, a small network
# - *multiplicative*: $\ e_s = q \cdot W m_s$ (Luong, Pham and Manning 2015)
#
# The mixing and its gradient are the same for both. For one query, $e\ (S,)$ and $m\ (S, M)$:
#
# $$\partial L/\partial m_s = a_s\, dc \qquad da_s = dc \cdot m_s \qquad
# \partial L/\partial e_s = a_s \Big(da_s - \sum_j a_j\, da_j\Big)$$
#
# **Fill in 1.** The mixing as one operation.


# %%
def my_mix(e, m):
    """c = softmax(e) m for Tensors e (S,) and m (S, M) → (M,)"""
    # a = ...                               (S,); subtract the largest e first
    # def backward(dc):                     (M,)
    #     return de, dm                     (S,), (S, M)
    # return record(c, (e, m), backward)
    return ...


# %%
def library_mix(e, m):
    return (softmax(e.reshape(1, -1), dim=-1) @ m).reshape(-1)


rng = np.random.default_rng(0)
cases = [[3 * rng.standard_normal(S), rng.standard_normal((S, 3))] for S in (1, 2, 7)]
check.operation(my_mix, library_mix, cases)

# %% [markdown]
# **Fill in 2.** The additive scores of one query with all places: plain arrays, no loop over the places.


# %%
def my_additive_scores(q, m, W, U, v):
    """e_s = v · tanh(W q + U m_s) of arrays q (H,), m (S, M), W (A, H), U (A, M), v (A,) → (S,)"""
    return ...


# %%
def library_additive_scores(q, m, W, U, v):
    attention = AdditiveAttention(len(q), m.shape[1], len(v)).to(np.float64)
    for parameter, value in zip(attention.parameters(), (W, U, np.zeros(len(v)), v[None]), strict=True):
        parameter.data[...] = value
    keys = attention.key(Tensor(m[None]))
    memory = Memory(Tensor(m[None]), keys, np.zeros((1, len(m)), bool))
    with no_grad():
        _, a = attention(Tensor(q[None, None]), memory)
    e = np.log(a.data[0, 0])
    return e - e.mean()  # softmax leaves the scores known up to a constant


def centred(q, m, W, U, v):
    e = my_additive_scores(q, m, W, U, v)
    return e if e is ... else e - e.mean()


rng = np.random.default_rng(1)
shapes = [(4,), (5, 3), (2, 4), (2, 3), (2,)]
cases = [[rng.standard_normal(shape) for shape in shapes]]
check.function(centred, library_additive_scores, cases, "my_additive_scores")

# %% [markdown]
# The two decoders differ in order: Bahdanau's looks with the state *before* the step and steps with what it saw;
# Luong's steps first and looks afterwards, so that all steps of a known target are one product of matrices.

# %%
print(inspect.getsource(LuongSeq2Seq.decode))

# %% [markdown]
# ## 3. With and without
#
# To take attention away, let all weights be equal: the decoder then gets the mean of the memory at every step, and what
# it knows of the order must be in its first state.
#
# **Predict 2.** 400 steps, strings of 2 to 10 letters, states of 64 numbers. Which share of unseen strings will each
# network reverse without a mistake? And how will the mistakes of the one without attention depend on the length?


# %% tags=["machine-dependent"]
class WithoutAttention(LuongSeq2Seq):
    """Every place has the same weight."""

    def decode(self, target, state, memory):
        blind = memory._replace(keys=memory.keys * 0.0)
        return super().decode(target, state, blind)


def learn(kind, steps=400, own=0.0):
    """A model after so many steps, its share of right answers, and the loss along the way."""
    manual_seed(0)
    model, losses = kind(len(pairs.tokenizer), 32, 64, 11), []
    optimizer, batches = Adam(model.parameters(), lr=5e-3), Batches(*pairs.train.arrays, batch_size=32, seed=0)
    chance = np.random.default_rng(0)
    for step in range(steps):
        source, target = next(batches)
        forced = None if own == 0 else chance.random((len(target), target.shape[1] - 1)) >= own * step / steps
        loss, count = pair_loss(model, source, target, forced)
        optimizer.zero_grad()
        (loss / float(count)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = 5e-3 * (1 - step / steps)
        optimizer.step()
        losses.append(loss.item() / count)
    with no_grad():
        share = pair_figures(model, pairs.test)["exact_match"]
    return model, share, np.array(losses).reshape(-1, 20).mean(axis=1)


runs = {"attention": learn(LuongSeq2Seq), "no attention": learn(WithoutAttention)}
for name, (_, share, _) in runs.items():
    print(f"{name:<13} {100 * share:.0f} % of 300 unseen strings reversed")
assert runs["attention"][1] > 0.9 > runs["no attention"][1]
lines(20 * np.arange(20), {name: losses for name, (_, _, losses) in runs.items()}, title="reversing strings",
      x_label="step", y_label="nats a letter", log_y=True)  # fmt: skip

# %%
def right_by_length(model):
    """Shares of right answers among strings of 2 … 10 letters."""
    source, target = pairs.test.arrays
    answers, _ = greedy(model, source, target.shape[1] - 1)
    right = [a == b for a, b in zip(pairs.tokenizer.decode(answers), pairs.tokenizer.decode(target), strict=True)]
    size = (source != 0).sum(axis=1) - 1
    return np.array([np.mean(np.array(right)[size == n]) for n in range(2, 11)])


by_length = {name: right_by_length(model) for name, (model, _, _) in runs.items()}
lines(np.arange(2, 11), by_length, title="how long a string can be", x_label="letters", y_label="share reversed")

# %% [markdown]
# A state of 64 numbers holds a short string easily and, after as many steps, a long one badly; a look costs the same
# at any length. That was the point of the paper: its translations stayed good where sentences grew long.
#
# ## 4. Where it looks
#
# **Predict 3.** Draw the map of weights before you see it: rows are written letters, columns are read ones. What
# pattern does reversing make? Where will it look when it writes the end?

# %% tags=["machine-dependent"]
model = runs["attention"][0]
word = pairs.tokenizer.encode(["abcdefab"])
tokens, weights = inside.alignment(model, word)
print("abcdefab →", pairs.tokenizer.decode(tokens[None])[0])
assert weights.shape[-2:] == (len(tokens), word.shape[1])
attention_maps(weights, pairs.tokenizer.symbols(tokens), pairs.tokenizer.symbols(word[0]), titles=["multiplicative"],
               title="reversing abcdefab", rows="written", columns="read")  # fmt: skip

# %% [markdown]
# From the upper right to the lower left: the last letter is written first. For the end it looks at the first letter
# once more: nothing is left. Nobody told it so, no label says where an answer comes from.
#
# **Predict 4.** The states read from both ends. If you cut the encoder's backward direction out of the memory, would
# attention still find the letters?

# %% tags=["machine-dependent"]
with no_grad():
    memory, state = model.encode(word)
    half = memory.values.shape[-1] // 2
    for name, part in (("both directions", slice(0, 0)), ("no backward half", slice(half, None)),
                       ("no forward half", slice(0, half))):  # fmt: skip
        values = memory.values.data.copy()
        values[..., part] = 0
        cut = Memory(Tensor(values), model.attention.key(Tensor(values)), memory.padding)
        given = np.concatenate([[[seq2seq.BEGIN]], tokens[None, :-1]], axis=1)
        logits, _, a = model.decode(given, state, cut)
        agree = (logits.data[0].argmax(axis=-1) == tokens).mean()
        largest = a.data.max(axis=-1).mean()
        print(f"{name:<17} {100 * agree:.0f} % of the tokens are the same, largest weight of a row {largest:.2f}")
        assert agree > 0.8 if name == "both directions" else 0 <= agree <= 1

# %% [markdown]
# Not well. More than half of the tokens go wrong without the backward half, fewer than a quarter without the forward
# one. A letter is known to both directions, but *how* it is found and read the network has spread over both, unevenly,
# and it was never trained to do with half.
#
# ## 5. Its own mistakes
#
# With teacher forcing the decoder never reads a wrong token, and so never learns what to do after one. *Scheduled
# sampling* (Bengio et al. 2015) sometimes gives it its own token instead, more and more often.
#
# **Predict 5.** We force one wrong letter into the beginning of an answer and let the decoder go on. With attention:
# will the rest of the answer be right? Does it help to have read one's own tokens in training?


# %% tags=["machine-dependent"]
def after_a_mistake(model):
    """The share of right letters behind a first letter that was replaced by a wrong one."""
    source, target = trimmed(*(rows[:200] for rows in pairs.test.arrays))
    wrong = target.copy()
    wrong[:, 1] = (wrong[:, 1] - 3 + 1) % 6 + 3
    forced = np.zeros((len(target), target.shape[1] - 1), bool)
    forced[:, :2] = True  # begin, and the wrong letter; then its own
    with no_grad():
        answers = model(source, wrong[:, :-1], forced).data.argmax(axis=-1)
    return (answers[:, 1:] == target[:, 2:])[target[:, 2:] >= 3].mean()


found = {"teacher forcing": runs["attention"], "own tokens, up to half": learn(LuongSeq2Seq, own=0.5)}
for name, (each, share, _) in found.items():
    rest = after_a_mistake(each)
    print(f"{name:<23} {100 * share:.0f} % of strings right; after a mistake {100 * rest:.0f} % of the letters")
    assert share > 0.9 and 0.4 < rest < 1

# %% [markdown]
# A quarter of the letters behind a mistake are wrong: the decoder finds its place by the letter that it has just
# written, and is misled when that letter is wrong. Having read its own tokens changes nothing here, and there is a
# reason: it makes so few mistakes in training that its own tokens *are* the right ones. Scheduled sampling is for
# tasks that stay hard.
#
# **Predict 6.** Bahdanau's decoder on the same task and steps: better, worse, or about the same? And its speed?

# %% tags=["machine-dependent"]
bahdanau, share, losses = learn(BahdanauSeq2Seq, steps=160)
print(f"additive attention after 160 steps: {100 * share:.0f} % right, {losses[-1]:.3f} nats a letter; "
      f"multiplicative then: {runs['attention'][2][7]:.3f}")  # fmt: skip
assert share > 0.5 and losses[-1] < 0.5
lines(20 * np.arange(8), {"additive (Bahdanau)": losses, "multiplicative (Luong)": runs["attention"][2][:8]},
      title="two ways to look, the same steps", x_label="step", y_label="nats a letter", log_y=True)  # fmt: skip

# %% [markdown]
# Both look where they must. The additive one takes a step of the decoder at a time, since it must look before it can
# step; so it is the slower one here, which is one reason why multiplicative attention is what the Transformer has
# (weeks 3 to 6): there the queries come from no recurrence at all.
