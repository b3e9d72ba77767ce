# %% [markdown]
# # Week 17: BERT, Llama, and a mixture of experts
#
# In an hour: three networks as a few differences from the GPT of [week 16](week16_gpt.ipynb). A rotation in place of a
# table of positions, a gate in the network, heads of keys that are shared; an encoder that learns by gaps; and a router
# that sends each token through two of eight networks.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
from importlib import resources
from pathlib import Path

import check
import numpy as np

from scratch import Tensor, manual_seed, no_grad
from scratch.activations import silu
from scratch.data import TextWindows
from scratch.layers import rotary
from scratch.losses import cross_entropy
from scratch.models.bert import model as bert_model
from scratch.models.bert.counts import Counts
from scratch.models.bert.inside import one_by_one
from scratch.models.bert.masking import hide
from scratch.models.bert.pictures import draw_gaps
from scratch.models.bert.sample import load_weights as load_bert
from scratch.models.bert.train import evaluate as evaluate_gaps
from scratch.models.bert.train import hidden_places
from scratch.models.gpt.tasks import text
from scratch.models.llama import Llama, Mixtral
from scratch.models.llama import model as llama_model
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.experts import MixtureOfExperts
from scratch.models.llama.inside import expert_load
from scratch.models.llama.pictures import draw_experts
from scratch.models.llama.sample import load_weights as load_llama
from scratch.models.llama.train import summed_loss
from scratch.optim import AdamW, clip_grad_norm_
from scratch.schedules import cosine
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.viz import figure
from scratch.viz.style import COLOURS, DASHES, MARKERS, label, legend

# %% [markdown]
# ## 1. Four steps from 2017
#
# | | encoder–decoder, 2017 | GPT, 2019 | BERT, 2019 | Llama, 2023 | mixture, 2024 |
# |---|---|---|---|---|---|
# | stacks | two | the decoder | the encoder | the decoder | the decoder |
# | a place sees | target: what is before it; source: all | what is before it | all | what is before it | the same |
# | asked for | the next token | the next token | hidden tokens | the next token | the same, and balance |
# | places | waves, added | rows, added | rows, added | a rotation of q and k | the same |
# | norm | after the sum | before each part | after the sum | before; RMS | the same |
# | network | ReLU | GELU | GELU | a gate: SwiGLU | eight of them, two chosen |
# | keys and values | nh heads | nh | nh | nkv < nh, shared | the same |
#
# The lines that say so:

# %%
for function, word in ((bert_model.Output.forward, "return"), (llama_model.Attention.forward, "rotary"),
                       (llama_model.FeedForward.forward, "silu"), (MixtureOfExperts.gates, "return")):  # fmt: skip
    lines = inspect.getsource(function).splitlines()
    print(f"{function.__qualname__:22}", next(line.strip() for line in lines if word in line))

# %% [markdown]
# ## 2. A rotation for a place
#
# Take the features of a query two at a time as arrows in planes, and turn arrow i by the angle t ω_i at place t, keys
# likewise. What is left of a product of two arrows turned by t ω and s ω is a turn by (t − s) ω.
#
# **Fill in 1.** The rotation, with its gradient. Feature i is paired with i + hd/2:
#
# $$(a, b) \to (a \cos\theta - b \sin\theta,\ a \sin\theta + b \cos\theta), \qquad
# \theta_{t,i} = t \cdot 10000^{-2i/hd}$$
#
# A rotation's transpose is the rotation back.


# %%
def my_turn(x):
    """x: Tensor (T, hd), place t in row t → the same shape"""
    # T, half = x.shape[0], x.shape[1] // 2
    # theta = np.arange(T)[:, None] * 10000.0 ** (-np.arange(half) / half)
    # def turned(u, theta): ...
    # def backward(dy):
    #     return (...,)
    # return record(turned(x.data, theta), (x,), backward)
    return ...


# %%
def library_turn(x):
    return rotary(x, pairing="halves")


rng = np.random.default_rng(0)
check.operation(my_turn, library_turn, [[rng.standard_normal((5, 2))], [rng.standard_normal((7, 8))]])

# %% [markdown]
# **Predict 1.** One query and one key, the same arrow everywhere. Plot their product against the distance t − s: for
# the fastest pair alone, for the slowest alone, for all 32 pairs together. Which of the curves falls, and why?

# %%
hd, T = 64, 200
u = np.ones((1, 1, hd)) / np.sqrt(hd)
turned = np.stack([rotary(u, offset=t, pairing="halves").data[0, 0] for t in range(T)])
page, axes = figure(panel=(6.4, 3.2))
for k, (name, pairs) in enumerate({"pair 1": [0], "pair 12": [11], "all 32": list(range(32))}.items()):
    both = np.concatenate([pairs, np.array(pairs) + hd // 2]).astype(int)
    score = turned[:, both] @ turned[0, both] / (turned[0, both] ** 2).sum()
    axes[0, 0].plot(score, color=COLOURS[k], linestyle=DASHES[k], label=name)
label(axes[0, 0], "a query and a key that are equal", "distance in places", "product, 1 at distance 0")
legend(axes[0, 0])
page

# %% [markdown]
# One pair comes round and round: pair 1 every 6 places. Together they interfere: only at distance 0 are all in step,
# and what is near is heard better. A head that wants the place before turns its query back by one step in its weights.
# No place is learned, so no table ends.
#
# ## 3. A gate, and shared heads
#
# **Fill in 2.** SwiGLU's middle, silu(a) ∘ b, as one operation. silu(a) = a σ(a), silu′(a) = σ + silu (1 − σ).


# %%
def my_gated(a, b):
    """Tensors of one shape → silu(a) ∘ b"""
    # s = 1 / (1 + np.exp(-a.data))
    # def backward(dy):
    #     return da, db
    # return record(..., (a, b), backward)
    return ...


# %%
def library_gated(a, b):
    return silu(a) * b


check.operation(my_gated, library_gated, [[rng.standard_normal((3, 4)), rng.standard_normal((3, 4))],
                                          [np.array([-9.0, 0.0, 9.0]), np.array([1.0, 2.0, -3.0])]])  # fmt: skip

# %% [markdown]
# **Predict 2.** Llama 3 8B: 32 layers, 32 heads of 128 features, 8 heads of keys and values, 16-bit numbers. How many
# megabytes does its cache need for 8,192 tokens? How many with 32 heads of keys? And Llama 2 7B, with 32 of each, for
# its 4,096 tokens?

# %%
for name, layers, nkv, head, tokens in [
    ("Llama 2 7B", 32, 32, 128, 4096),
    ("Llama 3 8B", 32, 8, 128, 8192),
    ("the same with 32 heads of keys", 32, 32, 128, 8192),
    ("SmolLM2 135M", 30, 3, 64, 8192),
]:
    print(f"{name:31} {2 * layers * nkv * head * tokens * 2 / 2**20:7,.0f} MB")

# %% tags=["machine-dependent"]
manual_seed(0)
small = Llama(num_kv_heads=1, context_length=128)
tokens = rng.integers(0, 65, (2, 128))
decoder = Decoder(small, batch_size=2)
with no_grad():
    whole = small(tokens).data
apart = max(np.abs(decoder.read(tokens[:, t : t + 1]) - whole[:, t]).max() for t in range(128))
print(f"cached, token by token, against all at once: {apart:.1e} apart; a layer's keys {decoder.blocks[0].keys.shape}")
assert apart < 1e-5

# %% [markdown]
# A token of a large model costs the reading of all weights and of the cache. Sharing heads of keys makes the second
# small, at almost no loss (ablations on [Llama's page](../scratch/models/llama/README.md)).
#
# ## 4. Gaps
#
# An encoder sees both sides, so it cannot be asked what comes next: it would look. Hide some characters and ask for
# those. Of every 100, 15 are chosen; of these 80 % become [MASK], 10 % another character, 10 % stay.

# %%
task = text("shakespeare")
V = len(task.tokenizer)
line = task.tokenizer.encode("What is the matter, my lord? Is it not well?")[None]
x, places = hide(line, V, np.random.default_rng(5))
shown = ["_" if c == V else task.tokenizer.decode([c]) for c in x[0]]
print("".join(shown), "   asked for:", "".join("^" if p else "·" for p in places[0]), sep="\n")

# %% [markdown]
# **Predict 3.** Fill hidden characters by counting: how often was it which character between these neighbours? Put in
# order, in nats: no neighbour, the left one, left and right, two on each side, and a small BERT that sees 31 others,
# with its own gaps among them.

# %%
asked = hidden_places(task.validation, 32, V)
nats = {}
for n, name in enumerate(("no neighbour", "the left one", "left and right", "two and one", "two on each side")):
    nats[name] = Counts(task.train, V, n).choose(task.validation, asked).loss(task.validation, asked)
bert, _ = load_bert(Path(str(resources.files("scratch.models.bert") / "weights.safetensors")))
figures = evaluate_gaps(bert, task, task.validation)
nats["BERT"] = figures["loss"]
page, axes = figure(panel=(6.4, 2.8))
axes[0, 0].barh(list(nats), list(nats.values()), color=[COLOURS[0]] * 5 + [COLOURS[1]])
for i, value in enumerate(nats.values()):
    axes[0, 0].text(value, i, f" {value:.2f}", va="center")
axes[0, 0].invert_yaxis()
label(axes[0, 0], "hidden characters of the validation play", "nats a character", "")
page

# %%
print(f"BERT finds {figures['accuracy']:.0%} of them at the first guess")
draw_gaps(bert, task.tokenizer, "What is the matter, my lord?")

# %% [markdown]
# It is past counting with both neighbours, and not past counting with three or four. But a count is told the true
# neighbours, and one of BERT's four nearest is hidden from it in half of the gaps.
#
# **Predict 4.** Which letters does it hold possible in `my _ord, I am`, in `one _ord more`, and in `the k_ng is dead`?
# How far must it look to tell a lord from a word?

# %%
for line in ("my _ord, I am", "one _ord more", "the k_ng is dead"):
    gap = line.index("_")
    p = one_by_one(bert, task.tokenizer.encode(line.replace("_", " ")), V)[gap]  # the gap hides whatever stands there
    best = [c for c in np.argsort(-p)[:4] if c < V]
    print(f"{line:18}", ", ".join(f"{task.tokenizer.decode([c])!r} {p[c]:.2f}" for c in best))

# %% [markdown]
# `my` makes *lord* the likeliest; after `one`, anything that ends in -ord will do. It knows frames of words and what
# stands beside them, and not yet what the words mean.

# %% [markdown]
# ## 5. A mixture of experts
#
# The network holds two thirds of a block's weights or more, and every token pays for all of them. With eight networks
# and a router that picks two for each token there are many more weights for the same work.
#
# **Fill in 3.** The balancing loss, E Σ f_e P_e: f_e the share of all choices that fell on expert e, P_e the mean
# probability that the router gives to e.


# %%
def my_balance(p, chosen):
    """p (N, E), rows summing to 1; chosen (N, k), numbers of experts → one number"""
    return ...


# %%
def library_balance(p, chosen):
    layer = MixtureOfExperts(1, 1, p.shape[1], chosen.shape[1])
    layer.routing = type("Routing", (tuple,), {})((Tensor(p), chosen))
    return np.array(layer.load_balancing_loss().item())


p = rng.dirichlet(np.ones(4), 10)
check.function(my_balance, library_balance, [[p, np.argsort(-p, axis=1)[:, :2]], [np.full((4, 4), 0.25),
                                             np.array([[0, 1], [2, 3], [1, 0], [3, 2]])]])  # fmt: skip

# %% [markdown]
# **Predict 5.** Two small mixtures of 8 experts, 2 chosen, 150 steps on the plays: with the balancing loss and without.
# What will the busiest expert's share be, where an equal share is 0.125? And which loss on the text is lower?

# %% tags=["machine-dependent"]
page, axes = figure(1, 2, panel=(4.4, 3.0))
for k, balance in enumerate((0.0, 0.02)):
    manual_seed(0)
    model = Mixtral(V, 32, 48, 2, 4, 2, 48, num_experts=8)
    optimizer, schedule = AdamW(model.parameters(), betas=(0.9, 0.99)), cosine(5e-3, 150, warmup=15)
    batches, losses, busiest = TextWindows(task.train, 32, 16, seed=0), [], []
    for step in range(150):
        x, y = next(batches)
        total, count = summed_loss(model, x, y, balance)
        optimizer.zero_grad()
        (total / float(count)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = schedule(step)
        optimizer.step()
        busiest.append(max(np.bincount(m.routing.selected.reshape(-1)).max() / m.routing.selected.size
                           for m in model.mixtures()))  # fmt: skip
        with no_grad():
            losses.append(cross_entropy(model(x).reshape(-1, V), y.reshape(-1)).item() if step % 10 == 9 else np.nan)
    name = f"balance {balance}"
    axes[0, 0].plot(busiest, color=COLOURS[k], linestyle=DASHES[k], label=name)
    axes[0, 1].plot(losses, color=COLOURS[k], marker=MARKERS[k], linestyle="", label=name)
    print(f"{name}: busiest share {np.mean(busiest[-20:]):.2f}, loss {np.nanmean(losses[-40:]):.2f}, "
          f"least used {expert_load(model, task.validation).min():.3f}")  # fmt: skip
    assert 1 / 8 < np.mean(busiest[-20:]) < 1 and np.nanmean(losses[-40:]) < 3.2
axes[0, 0].axhline(1 / 8, color="black", linewidth=0.8, linestyle=":")
axes[0, 0].set_ylim(0)
label(axes[0, 0], "the busiest expert of any layer", "step", "share of the choices")
label(axes[0, 1], "cross-entropy", "step", "nats")
legend(axes[0, 0])
page

# %% [markdown]
# Two experts soon take everything: the favourites of the first steps are trained most, and so stay favourites. Without
# the balancing loss they keep the largest possible share, one half, for 80 steps; with it their share falls from step
# to step (in the shipped mixture, after 2,000 steps, the busiest has 0.18). The text's loss is no better for it: in a
# run this short, on a small text, most experts are weights without work either way. Balance costs a little now, for
# the use of all weights later.
#
# **Predict 6.** In the shipped mixture, trained for 2,000 steps: do experts share the *text* or the *alphabet*? Look at
# the first layer and at the last.

# %%
mixture, _ = load_llama(Path(str(resources.files("scratch.models.llama") / "weights_experts.safetensors")))
draw_experts(mixture, task)

# %% [markdown]
# In the first layer what is known is the character itself, so letters have experts of their own. Later ones split by
# what the place is about: capitals of names, ends of lines, beginnings of words. Mixtral's authors found the same:
# experts of syntax, not of subjects.
#
# ## 6. Published weights
#
# Arguments and arrays have the published names, so real networks load into these classes, number for number
# ([how](../docs/pretrained.md)). With the weights on your disk, `scratch chat "What is the capital of France?"` asks
# SmolLM2, a Llama of 135 million weights, and `scratch search "a question" --folder scratch` finds passages by meaning
# with MiniLM, a BERT of 23 million: a sentence's vector is the mean of its last states. Both say where to get them.
