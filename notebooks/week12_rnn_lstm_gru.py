# %% [markdown]
# # Week 12: networks that remember
#
# In an hour: a network that reads one thing after the other and keeps a state; backpropagation through time, by hand;
# why its gradient vanishes, measured; the LSTM and the GRU, and what their gates change; a task of long memory, where
# the three differ; and a small network that writes characters.
#
# You need weeks 1 and 2: the tape, layers, losses, Adam.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
import math

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.activations import sigmoid, tanh
from scratch.combine import concatenate
from scratch.data import Batches, TextStreams
from scratch.layers.recurrent import RNN, plain
from scratch.losses import cross_entropy
from scratch.models.rnn_lstm_gru import LanguageModel, SequenceClassifier, inside
from scratch.models.rnn_lstm_gru.generate import generate
from scratch.models.rnn_lstm_gru.model import remember
from scratch.models.rnn_lstm_gru.objective import Carried, evaluate, sequence_loss, text_figure, text_loss
from scratch.models.rnn_lstm_gru.pictures import draw_gates, gradients
from scratch.models.rnn_lstm_gru.tasks import adding, text
from scratch.optim import Adam, clip_grad_norm_
from scratch.tensor import record  # noqa: F401  what you fill in needs it
from scratch.viz.sequences import lines

# %% [markdown]
# ## 1. One step, again and again
#
# A sentence has no fixed length, so no layer has the right number of inputs for it. A recurrent network reads one
# $x_t$ at a time and keeps a *state* $h_t$, all that it remembers. The same weights serve every step:
#
# $$h_t = \tanh(W x_t + U h_{t-1} + b), \qquad
# x_t\ (\text{in},),\quad h_t\ (H,),\quad W\ (H, \text{in}),\quad U\ (H, H)$$
#
# In the library it is one line, and a loop ([plain.py](../scratch/layers/recurrent/plain.py)):

# %%
print(inspect.getsource(plain.rnn_tanh_cell))
print(inspect.getsource(plain.unroll))

# %% [markdown]
# **Predict 1.** One input, one unit, $W = 1$, $U = 1$, $b = 0$; first a 1, then zeros. What happens to $h$: does it
# keep the 1, fade at a constant rate, or fade ever more slowly? And with $U = 2$?

# %%
for u in (0.5, 1.0, 2.0):
    h = [0.0]
    for t in range(12):
        h.append(math.tanh((t == 0) + u * h[-1]))
    print(f"U = {u}:", " ".join(f"{value:.2f}" for value in h[1:]))

# %% [markdown]
# With $U = ½$ it is gone after a few steps. With $U = 1$ it fades ever more slowly, since $\tanh$ is nearly the
# identity near 0. With $U = 2$ it settles at 0.96, *whatever* the input was: that one remembers only that there was
# something. Memory in this network is a matter of $U$ being just right.
#
# ## 2. Back through time
#
# Unrolled, the network is a deep one with equal layers. Let $a_t = W x_t + U h_{t-1} + b$, and $dh_t$ the whole
# gradient of $h_t$. Asked where each number is used:
#
# $$da_t = dh_t\,(1 - h_t^2) \qquad dh_{t-1} = dy_{t-1} + U^\top da_t \qquad
# dW = \sum_t da_t\, x_t^\top \qquad dU = \sum_t da_t\, h_{t-1}^\top \qquad db = \sum_t da_t$$
#
# $dy_{t-1}$ is what the output of that step asks for itself. The sums come from the weights being shared.
#
# **Fill in 1.** The network over a whole sequence as one operation: forward it keeps all $h_t$, backward it walks from
# the last step to the first. One sequence, no batch: x (T, in), the first state is 0, y are all states (T, H).


# %%
def my_rnn(x, W, U):
    """h_t = tanh(W x_t + U h_{t−1}) for Tensors x (T, in), W (H, in), U (H, H) → all h (T, H)"""
    # h = ...                               (T + 1, H), h[0] = 0, h[t + 1] belongs to x[t]
    # def backward(dy):                     dy (T, H)
    #     for t in reversed(range(T)): ...
    #     return dx, dW, dU
    # return record(h[1:], (x, W, U), backward)
    return ...


# %%
def library_rnn(x, W, U):
    h = Tensor(np.zeros((1, len(U))))
    y, _ = plain.unroll(plain.rnn_tanh_cell, x.reshape(len(x), 1, -1), h, W, U)
    return y.reshape(len(x), -1)


rng = np.random.default_rng(0)
cases = [[rng.standard_normal((T, 2)), rng.standard_normal((3, 2)), rng.standard_normal((3, 3))] for T in (1, 2, 6)]
check.operation(my_rnn, library_rnn, cases)

# %% [markdown]
# ## 3. What is left of a gradient
#
# From step $T$ back to step $T - k$ the gradient has passed through $k$ factors:
#
# $$\frac{\partial h_T}{\partial h_{T-k}} = \prod_{t} \mathrm{diag}(1 - h_t^2)\, U$$
#
# **Predict 2.** Let $U = 0.9 \cdot I$ and all $h$ near 0, where tanh has slope 1. How much of the gradient arrives 50
# steps back: a half, a tenth, a hundredth, less? And with $U = 1.1 \cdot I$?

# %%
for u in (0.9, 1.0, 1.1):
    layer = RNN(1, 4).to(np.float64)
    for parameter in layer.parameters():
        parameter.data[...] = 0
    layer.weight_hh_l0.data[...] = u * np.eye(4)
    norms = inside.gradient_by_distance(layer, np.zeros((101, 2, 1)))
    print(f"U = {u} I: 50 steps back {norms[50]:.4f}, 100 steps back {norms[100]:.2e}")

# %% [markdown]
# 0.9 to the 50th is 0.005: of a mistake that was made 50 steps ago, the weights hardly hear. 1.1 to the 50th is 117:
# there the least change blows up, and clipping is what keeps such a step from destroying the weights. Between them is
# a line, not a region. (Hochreiter 1991; Bengio, Simard and Frasconi 1994.)
#
# ## 4. A cell that keeps its gradient
#
# The LSTM gives memory a line of its own, $c$, which nothing is multiplied on to but a number between 0 and 1:
#
# $$c_t = f_t\, c_{t-1} + i_t\, g_t \qquad h_t = o_t \tanh c_t \qquad
# i, f, o = \sigma(\cdot),\quad g = \tanh(\cdot)\ \text{ of }\ W x_t + U h_{t-1} + b$$
#
# Along $c$ the factor is $\partial c_t / \partial c_{t-1} = f_t$: no $U$, no slope of a tanh. If the network learns
# $f = 1$ for a cell, its gradient stays.
#
# **Fill in 2.** The part of the step that is no matrix product, with its gradient: from $a$, the four arguments next to
# each other in the order i, f, g, o, and $c_{t-1}$, to $h_t$ and $c_t$ next to each other. The derivatives:
#
# $$dc \mathrel{+}= dh\, o\,(1 - \tanh^2 c) \qquad da_o = dh\, \tanh c\; o(1-o) \qquad da_f = dc\; c_{t-1} f (1 - f)$$
# $$da_i = dc\; g\, i (1 - i) \qquad da_g = dc\; i\,(1 - g^2) \qquad dc_{t-1} = dc\; f$$


# %%
def my_lstm_step(a, c):
    """h' and c' side by side, (B, 2H), of Tensors a (B, 4H) in the order i, f, g, o, and c (B, H)"""
    # i, f, g, o = ...                      four pieces of a.data, squashed
    # def backward(dy):                     dy (B, 2H): dh and dc side by side
    #     return da, dc_before              (B, 4H), (B, H)
    # return record(np.concatenate([h_after, c_after], axis=1), (a, c), backward)
    return ...


# %%
def library_lstm_step(a, c):
    H = c.shape[1]
    i, f, g, o = (a[:, k * H : (k + 1) * H] for k in range(4))
    after = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return concatenate([sigmoid(o) * tanh(after), after], axis=1)


rng = np.random.default_rng(1)
check.operation(my_lstm_step, library_lstm_step, [[rng.standard_normal((B, 12)), rng.standard_normal((B, 3))]
                                                  for B in (1, 4)])  # fmt: skip

# %% [markdown]
# **Predict 3.** A fresh LSTM with all biases 0 has $f$ near ½. With a forget bias of 1, $f$ is near $\sigma(1) = 0.73$;
# with 3, near 0.95. What is left in the cell after 20 steps, in each case? Which first bias would you choose for a task
# whose answer lies 100 steps back?

# %%
for bias in (0, 1, 3, 5):
    f = 1 / (1 + math.exp(-bias))
    print(f"forget bias {bias}: f = {f:.3f}, after 20 steps {f**20:.6f}, after 100 steps {f**100:.2e}")

# %% [markdown]
# A millionth, 0.002, a third. The library's models start with 1 (Jozefowicz et al. 2015). Now measured, in fresh
# networks of 64 units that read noise: how long is the gradient $k$ steps back?
#
# **Predict 4.** Five networks: an RNN whose $U$ is orthogonal (it turns $h$ and keeps its length), an RNN whose $U$ is
# drawn from $U(-1/\sqrt H, 1/\sqrt H)$ as PyTorch does, a GRU, an LSTM with forget bias 1, one with 3. Put them in
# order: who still has most of its gradient 60 steps back? Is it sure that the gated ones win?

# %%
norms = {name: np.maximum(each, 1e-12) for name, each in gradients(length=80, hidden=64).items()}
lines(np.arange(80), norms, title="before training", x_label="steps back, k", y_label="length of the gradient",
      log_y=True)  # fmt: skip

# %% [markdown]
# PyTorch's first RNN halves its gradient at every step: $U$'s largest eigenvalues are near 0.58. The orthogonal one
# does much better, and better than the fresh *GRU*, whose update gate starts at ½ and so forgets half at every step.
# Gates do not help by being there: they help because they can *learn* to stay open, while an RNN cannot without giving
# up everything else. The LSTM with bias 3 keeps the most, so much that loops through the gates begin to make it grow.
#
# ## 5. A task of long memory
#
# The adding problem: each step brings a number from $U(0, 1)$ and a mark. Two steps are marked, one in each half. What
# is the sum of the two numbers? Always saying 1 has a mean squared error of $2/12 = 0.167$.

# %%
task = adding(30, (8000, 200, 500))
x, lengths, y = task.train
for row in range(3):
    first, second = np.flatnonzero(x[row, :, 1])
    print(f"marked {first:>2} and {second:>2}: {x[row, first, 0]:.3f} + {x[row, second, 0]:.3f} = {y[row, 0]:.3f}")

# %% [markdown]
# **Predict 5.** Thirty steps, 32 units, 300 updates. Which of RNN, LSTM and GRU will have learned it, and which will
# still say 1?

# %%
def learn(kind, open_gates=False, steps=300, hidden=32, rate=1e-2, clip=1.0):
    """The test error after so many steps, and the mean error of each ten of them."""
    manual_seed(0)
    model = SequenceClassifier(2, 1, kind, hidden)
    if open_gates:
        remember(model.recurrence, 30)
    optimizer, batches, losses = Adam(model.parameters(), lr=rate), Batches(*task.train, batch_size=50, seed=0), []
    for _ in range(steps):
        loss, count = sequence_loss(model, *next(batches))
        optimizer.zero_grad()
        (loss / float(count)).backward()
        clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item() / count)
    return evaluate(model, task, task.test)["loss"], np.array(losses).reshape(-1, 10).mean(axis=1)


runs = {kind: learn(kind) for kind in ("rnn", "lstm", "gru")}
runs["lstm, gates open"] = learn("lstm", open_gates=True)
curves = {f"{kind}, test error {error:.4f}": losses for kind, (error, losses) in runs.items()}
lines(10 * np.arange(30), {**curves, "always 1": np.full(30, 1 / 6)}, title="the adding problem, 30 steps",
      x_label="step", y_label="squared error", log_y=True)  # fmt: skip

# %% [markdown]
# The GRU has it after some 150 steps. The RNN still says 1. So does the LSTM with forget bias 1: its cells lose a
# quarter at each step, and it must first find out that they should not. The fourth run is an LSTM whose biases say
# from the start that memory is long (Tallec and Ollivier 2018): forget biases are $\ln u$ and input biases $-\ln u$
# with $u$ from $U(1, 29)$, so that a cell is kept, and little is written, for about $u$ steps. It is the same network,
# with the same weights otherwise, and after 200 steps it is on its way. At a hundred steps the differences are larger
# still: the [page of the architecture](../scratch/models/rnn_lstm_gru/README.md) has them.
#
# ## 6. Characters
#
# A language model gives scores for the next character. It reads the text in parallel streams, a piece at a time, and
# the state goes from piece to piece as a *number*: the gradient stops at the piece's beginning (truncated
# backpropagation through time), the memory does not.

# %%
print(inspect.getsource(text_loss))

# %% [markdown]
# **Predict 6.** Pieces of 25 characters, so the gradient never reaches back farther. Can the network learn to use
# something that lies 40 characters back? What would change if the state were set to 0 before each piece?

# %% tags=["machine-dependent"]
plays = text("shakespeare")
manual_seed(0)
model = LanguageModel(len(plays.tokenizer), "lstm", embedding=24, hidden=96)
streams, carried = TextStreams(plays.train, 25, 32), Carried(model, 32)
optimizer = Adam(model.parameters(), lr=1e-2)
for step in range(500):
    if streams.begins(step):
        carried.forget()
    loss, count = text_loss(model, np.arange(32), *next(streams), carried)
    optimizer.zero_grad()
    (loss / float(count)).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.lr = 1e-2 * (1 - step / 500) + 1e-4
    optimizer.step()
    if step % 100 == 99:
        print(f"step {step + 1}: {loss.item() / count:.2f} nats a character")

part = plays.validation[:20_000]
carried_on = text_figure(model, part)
x, y = part[:-1][: len(part) // 25 * 25 - 25].reshape(-1, 25), part[1:][: len(part) // 25 * 25 - 25].reshape(-1, 25)
forgotten = cross_entropy(model(x)[0].reshape(y.size, -1), y.reshape(-1)).item()
print(f"\nvalidation: {carried_on:.3f} nats with the state carried on, {forgotten:.3f} from zero every 25 characters")
assert carried_on < 2.2 and carried_on < forgotten
scores = model(x)[0].data
surprise = np.log(np.exp(scores).sum(axis=-1)) - np.take_along_axis(scores, y[..., None], axis=-1)[..., 0]
lines(np.arange(1, 26), {"from zero": surprise.mean(axis=0), "carried on, all places": np.full(25, carried_on)},
      title="what forgetting costs", x_label="character of the piece", y_label="nats a character")  # fmt: skip

# %% [markdown]
# It can, as far as it already keeps it: what the state holds from before the piece is given, and weights learn to *use*
# it; they don't learn to *put it there* for later pieces. Setting the state to 0 costs something at every piece.
#
# **Predict 7.** Sampling divides the scores by a temperature before the softmax. What will the text look like at 0.1,
# at 0.7 and at 1.5?

# %% tags=["machine-dependent"]
prompt = plays.tokenizer.encode("HAMLET:\n")[None]
for temperature in (0.1, 0.7, 1.5):
    tokens = generate(model, prompt, 160, temperature=temperature, rng=np.random.default_rng(0))[0]
    print(f"--- temperature {temperature} ---\n{plays.tokenizer.decode(tokens)}\n")
    assert len(tokens) == len("HAMLET:\n") + 160

# %% [markdown]
# Cold, it repeats what is most common; hot, it spells like nobody. In between it has words, lines, and speakers, all
# learned from single characters in half a minute.
#
# ## 7. Inside
#
# Which cell follows the place in the line? Correlate each of the 96 cells with a number that we can count ourselves.

# %% tags=["machine-dependent"]
sample = plays.tokenizer.decode(plays.validation[:1500])
cells = inside.gates(model, plays.tokenizer.encode(sample))["c"]
for name, feature in (("place in the line", inside.line_position), ("place in the word", inside.word_position),
                      ("in a speaker's name", inside.in_name)):  # fmt: skip
    r = inside.correlations(cells, feature(sample))
    print(f"{name:<20} cell {np.abs(r).argmax():>2}, r = {r[np.abs(r).argmax()]:+.2f}")
    assert len(r) == 96 and np.abs(r).max() > 0.3

# %% [markdown]
# **Predict 8.** Take the cell that follows the speakers' names. What should its forget gate do at the end of such a
# name? And its input gate?

# %%
r = inside.correlations(cells, inside.in_name(sample))
draw_gates(model, plays.tokenizer, sample[:90], int(np.abs(r).argmax()))

# %% [markdown]
# Nobody told it what a name is. There is a reason for such cells: whether a line is a name decides what may follow.
#
# The other notebook of this week, [week12b_seq2seq_attention](week12b_seq2seq_attention.ipynb), has two networks talk
# to each other, and finds that one state is too narrow a door.
