# %% [markdown]
# # Week 15: the Vision Transformer
#
# In an hour: an image as a sequence of patches, why that first step is a convolution, what the rest does not know
# about images (and what it costs), where an answer comes from, what positions learn, and how much can be learned
# without a single label.
#
# You need [week 4](week4_multihead.ipynb), and [week 11](week11_cnn.ipynb) for the comparison.
#
# **Clear all outputs first**, then go from top to bottom. **Predict** means: write your answer down before you run the
# next cell. **Fill in** means: a function that ends in `return ...`; the cell after it compares it with the library.

# %%
import inspect
from pathlib import Path

import check
import numpy as np

from scratch import Tensor, manual_seed
from scratch.data import Batches, hold_out, load_digits, random_shift
from scratch.layers import conv2d, interpolate
from scratch.losses import cross_entropy
from scratch.models.vit import MaskedAutoencoder, VisionTransformer, ablations, sample
from scratch.models.vit.inside import attention_distance, attention_maps, class_attention, position_similarity, rollout
from scratch.models.vit.masked import drawing, masked_loss, random_masks
from scratch.models.vit.model import Block, PatchEmbedding
from scratch.models.vit.pictures import draw_positions, draw_rollout, evenly
from scratch.models.vit.positions import resized
from scratch.models.vit.train import Settings, build
from scratch.optim import AdamW, clip_grad_norm_
from scratch.schedules import cosine
from scratch.tensor import record  # noqa: F401  what you fill in needs record
from scratch.training import evaluate
from scratch.viz import figure, heat_maps, image_grid, smoothed
from scratch.viz.style import COLOURS, DASHES, label, legend

# %% [markdown]
# ## 1. An image is a sequence
#
# A Transformer reads a sequence of vectors. A picture of 28 × 28 pixels is cut into 16 patches of 7 × 7, and each
# patch is a vector of 49 numbers:

# %%
digits = load_digits(flat=False)
x, y = digits.validation.arrays
embed = PatchEmbedding(28, 7, 1, 64)
print(inspect.getsource(PatchEmbedding.cut))
patches = embed.cut(x[:1])
print("image", x[:1].shape, "→ patches", patches.shape)
image_grid(patches.data.reshape(16, 7, 7), columns=4, limits=(0, 1), cell=0.6, title=f"a {y[0]}, patch by patch")

# %% [markdown]
# Then one matrix makes a vector of 64 features of each. That is all a Vision Transformer ever does *as a network for
# images*; from here on it could as well be reading words.
#
# **Fill in 1.** The patch embedding as one operation, with its gradients. Cut the images into rows of numbers, then
# y = X Wᵀ + b. Patches do not overlap, so going back each pixel gets its gradient from one place. The weight is kept
# as a convolution has it, (C, c, p, p), and the library's answer *is* a convolution with stride p.


# %%
def my_patch_embedding(x, weight, bias):
    """x: Tensor (B, c, H, W), weight: Tensor (C, c, p, p), bias: Tensor (C,) → Tensor (B, N, C)"""
    # C, c, p, _ = weight.shape
    # B, _, H, W = x.shape
    # h, w = H // p, W // p
    # X = x.data.reshape(B, c, h, p, w, p) ...          (B, h w, c p p)
    # def backward(dy):                                 (B, h w, C)
    #     ...
    #     return dx, dW, db                             as x, weight, bias
    # return record(y, (x, weight, bias), backward)
    return ...


# %%
def library_patch_embedding(x, weight, bias):
    y = conv2d(x, weight, bias, stride=weight.shape[2])
    return y.reshape(*y.shape[:2], -1).swapaxes(1, 2)


rng = np.random.default_rng(0)
cases = [
    [rng.standard_normal((1, 1, 2, 4)), rng.standard_normal((1, 1, 2, 2)), np.zeros(1)],
    [rng.standard_normal((3, 2, 6, 9)), rng.standard_normal((5, 2, 3, 3)), rng.standard_normal(5)],
]
check.operation(my_patch_embedding, library_patch_embedding, cases)

# %% [markdown]
# ## 2. What it does not know
#
# A convolution is built on neighbourhood: pixel (3, 4) meets (3, 5) at once and (20, 20) only many layers later. In a
# Transformer's block every token meets every token, by content:

# %%
print(inspect.getsource(Block.forward))

# %% [markdown]
# **Predict 1.** All patches of all images, training and test, are put into the same other order. How much worse does a
# convolutional network get, how much a Vision Transformer? And how good is a Transformer *without* positions, a bag of
# patches? And one in which the patches never see each other and only meet in a mean at the end?

# %% tags=["machine-dependent"]
SMALL = {"dim": 32, "depth": 2, "heads": 4}


def train(model, data, steps, lr=3e-3, loss_of=None):
    """The loss of each step."""
    losses, optimizer = [], AdamW(model.parameters(), weight_decay=0.1)
    batches, schedule = Batches(*data, batch_size=32, seed=0), cosine(lr, steps, warmup=steps // 10)
    for step in range(steps):
        x, *rest = next(batches)
        x = random_shift(x, 2, np.random.default_rng(step))
        loss = cross_entropy(model(x), rest[0]) if loss_of is None else loss_of(model, x, step)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = schedule(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


ways = {
    "as it is": ({}, build),
    "patches in another order": ({}, ablations.shuffled),
    "no positions": ({}, ablations.without_positions),
    "patches never meet": ({"pool": "mean"}, ablations.without_attention),
}
page, axes = figure(panel=(6.6, 3.6))
models = {}
for k, (name, (changes, make)) in enumerate(ways.items()):
    manual_seed(0)
    models[name] = make(Settings(**SMALL, **changes), 1, 10)
    losses = train(models[name], digits.train.arrays, 500)
    result = evaluate(models[name], *digits.validation.arrays)
    axes[0, 0].plot(smoothed(losses, 15), color=COLOURS[k], linestyle=DASHES[k], label=name)
    print(f"{name:26} validation loss {result['loss']:.3f}, accuracy {result['accuracy']:.1%}")
    assert result["accuracy"] > (0.5 if name in ("as it is", "patches in another order") else 0.3)
axes[0, 0].set_ylim(0)
label(axes[0, 0], "four small Vision Transformers", "step", "cross-entropy, smoothed (nats)")
legend(axes[0, 0])
page

# %% [markdown]
# Another order of the patches, fixed for all images, changes nothing to speak of: 63 and 66 % (of 500 images, standard
# error 2.2 % each), and loss curves that lie on top of each other. A convolution would suffer, for it was told that
# neighbours belong together ([week 11](week11_cnn.ipynb) shuffles pixels: −6 points). Nobody told the Transformer, so
# nothing that it was told becomes wrong. Without positions it is a bag of patches: 41 %, which says how much can be
# told from pieces of strokes alone. With positions but without looking at each other, 45 %.
#
# ## 3. Where an answer comes from
#
# The class token collects the answer. Its attention in the last block says where it looks *last*, but by then every
# token holds a mixture of all. **Rollout** follows the mixing through all blocks: with a residual connection a token
# keeps itself and adds what it looks at, so one block moves information by
#
# $$A_l = \tfrac12 I + \tfrac12\, \overline{P_l}, \qquad R = A_L \cdots A_2 A_1$$
#
# where $\overline{P_l}$ is the mean over the heads.
#
# **Fill in 2.** Rollout. Maps come as (depth, B, heads, T, T); the first block is the first to act.


# %%
def my_rollout(maps):
    """maps (depth, B, heads, T, T), rows sum to 1 → R (B, T, T)"""
    return ...


# %%
rng = np.random.default_rng(1)
cases = [
    [np.array([[[0.5, 0.5], [0, 1]], [[0, 1], [0.5, 0.5]]])[:, None, None]],
    [rng.dirichlet(np.ones(5), (3, 2, 4, 5))],
]
check.function(my_rollout, rollout, cases)

# %% [markdown]
# From here on we look at the shipped model, trained by `scratch train vit`: 64 features, four blocks, 2,000 steps.
#
# **Predict 2.** For a 1, a 0 and an 8: in which patches is the answer to be found? Will the last block's look be
# sharper than the rollout, or the other way round?

# %%
model, _ = sample.load_weights(Path(sample.__file__).with_name("weights.safetensors"))
draw_rollout(model, digits.validation)

# %%
maps = attention_maps(model, x[:100])
whole = rollout(maps)[:, 0, 1:]
last = class_attention(model, x[:100])[-1].mean(axis=1).reshape(100, -1)
ink = x[:100].reshape(100, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(100, -1)
for name, values in (("last block", last), ("rollout", whole)):
    shares = values / values.sum(axis=1, keepdims=True)
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(shares, ink, strict=True)])
    entropy = np.exp(-(shares * np.log(shares)).sum(axis=1)).mean()
    print(f"{name:10}  correlation with the ink {correlation:+.2f}, as if spread over {entropy:.1f} of 16 patches")

# %% [markdown]
# The last block's look is sharp, as if spread over 8 of 16 patches, and only partly where the ink is (correlation
# 0.39). What it picks up there was brought there by earlier blocks. Followed back through all of them, the answer
# comes from nearly everywhere (14.6 of 16: each block keeps half of every token where it is and averages the rest over
# four heads), but more from where the ink is (0.65). Neither is a proof that a patch *matters*: values and MLPs, which
# decide what is made of it, were left out.
#
# ## 4. What positions learn
#
# Sixteen rows of random numbers, N(0, 0.02²): nothing says that patch 5 lies beside patch 6.
#
# **Predict 3.** After training, whose position will be most like that of patch (1, 1): its neighbours', those of its
# row and column, or nobody's?

# %%
manual_seed(0)
fresh = VisionTransformer()
h, w = model.patch_embed.grid
i, j = np.divmod(np.arange(h * w), w)
row, column = i[:, None] == i, j[:, None] == j
for name, each in (("at first", fresh), ("trained", model)):
    similarity = position_similarity(each).reshape(h * w, h * w)
    means = [f"{similarity[which].mean():+.2f}" for which in (row & ~column, column & ~row, ~row & ~column)]
    print(f"{name:8}  mean cosine in the same row {means[0]}, in the same column {means[1]}, elsewhere {means[2]}")
draw_positions(model)

# %% [markdown]
# Patches of one row have found each other, without having been told that there are rows: +0.23 on average. Columns have
# not (−0.08). Perhaps since it matters more whether a loop is above or below than whether a stroke is a patch further
# left or right.
#
# Neighbours above and below as such are not closer than others. Large models on photographs learn neat maps in which
# each position is like its row *and* its column; 16 patches and 3,500 digits do not ask for more than this.
#
# How far heads look can be measured as well: the mean distance of what they attend to, in pixels.

# %%
print("looking evenly everywhere:", round(evenly(model), 1), "pixels")
print(attention_distance(model, x[:100]).round(1))

# %% [markdown]
# **Predict 4.** The images are enlarged to 42 × 42 pixels: 36 patches, for which there are no positions. They are
# interpolated from the 16 there are. Nothing is trained again. What is left of the accuracy? And if instead the digit
# keeps its size, and the frame around it is black?

# %%
larger = resized(model, 42)
enlarged = interpolate(Tensor(x), size=42, mode="bilinear").data
framed = np.pad(x, ((0, 0), (0, 0), (7, 7), (7, 7)))
for name, each, images in (("28 × 28", model, x), ("enlarged", larger, enlarged), ("framed", larger, framed)):
    result = evaluate(each, images, y)
    print(f"{name:9} {each.pos_embed.shape[1] - 1} patches, accuracy {result['accuracy']:.1%}")
heat_maps(enlarged[0], {"28 × 28, one row a patch": position_similarity(model)[1, 1],
                        "42 × 42, interpolated": position_similarity(larger)[1, 1]},
          title="how like position (1, 1) the others are", label="cosine")  # fmt: skip

# %% [markdown]
# 98 % become 72 % when the digit grows with the image: interpolated positions put each piece about where it was, but a
# patch of 7 × 7 pixels now holds a piece that is two thirds as long and half as thick again, and neither the first
# matrix nor the heads have seen such. In the frame the pieces are as always and their positions are not: the digit
# lies in the middle patches of a picture that used to be filled by it, and 27 % is left. Published models are trained
# on for a while at the new size; then interpolation is a good beginning.
#
# ## 5. Without labels
#
# Hide half of the patches and let the model draw them (a *masked autoencoder*). The encoder sees the others only; a
# small decoder gets its features, and a mask token for each hidden place. The loss is the mean squared error of the
# hidden pixels, each between 0 and 1. Two guesses need no network: black, and the mean of all images.
#
# **Predict 5.** Two models, patches of 7 × 7 with 12 of 16 hidden for 600 steps, and patches of 4 × 4 with 24 of 49
# hidden for 900. Where do their losses begin, where will they stay for long, and will drawings be sharp?

# %% tags=["machine-dependent"]
train_x = digits.train.inputs
moved = np.concatenate([random_shift(train_x, 2, np.random.default_rng(seed)) for seed in range(3)])
black, mean_image = np.square(moved).mean(), np.square(moved - moved.mean(axis=0)).mean()
print(f"black {black:.4f}, the mean image {mean_image:.4f}")


def pretrained(patch_size, hidden, steps):
    """(encoder, autoencoder, the loss of each step)"""

    def hidden_loss(model, x, step):
        count = (28 // patch_size) ** 2
        total, pixels = masked_loss(model, x, *random_masks(len(x), count, hidden, np.random.default_rng(step)))
        return total / float(pixels)

    manual_seed(0)
    encoder = VisionTransformer(**SMALL, patch_size=patch_size, pool="mean")
    autoencoder = MaskedAutoencoder(encoder)
    return encoder, autoencoder, train(autoencoder, (train_x,), steps, loss_of=hidden_loss)


coarse, _, coarse_losses = pretrained(7, 0.75, 600)
fine, autoencoder, fine_losses = pretrained(4, 0.5, 900)
page, axes = figure(panel=(6.6, 3.2))
for k, (name, losses) in enumerate({"7 × 7, three quarters hidden": coarse_losses,
                                    "4 × 4, half hidden": fine_losses}.items()):  # fmt: skip
    axes[0, 0].plot(smoothed(losses, 25), color=COLOURS[k], linestyle=DASHES[k], label=name)
    print(f"{name:28} {np.mean(losses[-50:]):.4f} after {len(losses):,} steps")
assert np.mean(fine_losses[-50:]) < mean_image < black and np.mean(coarse_losses[-50:]) < 0.08
axes[0, 0].axhline(mean_image, color="black", linewidth=1, linestyle=":", label="the mean image")
axes[0, 0].set_ylim(0.04, 0.12)
label(axes[0, 0], "drawing what is hidden", "step", "mean squared error, smoothed")
legend(axes[0, 0])
page

# %%
keep, hide = random_masks(8, 49, 0.5, np.random.default_rng(0))
seen, drawn = drawing(autoencoder, x[:8], keep, hide)
rows = np.concatenate([x[:8], np.nan_to_num(seen, nan=0.5), drawn])
image_grid(rows, columns=8, limits=(0, 1), title="image, what is seen of it, what is drawn")

# %% [markdown]
# Both losses fall within 150 steps to that of the mean image, 0.072, and stay. To get so far a model need not look at
# what it sees: the decoder knows the place of the hidden patch, and draws what is there on average. The coarse model
# is hardly below after 600 steps (0.0715). The fine one has begun to look: 0.0665. Its drawings carry strokes on by a
# few pixels, and they are blurred: where a stroke could go in several ways, the best guess in the squared error is the
# mean of all of them.
#
# **Predict 6.** Now 200 labels, twenty a digit. Both pre-trained encoders and two fresh ones are trained alike. Which
# gain, and how much?

# %% tags=["machine-dependent"]
few = hold_out(digits.train, 200, seed=0)[1]
for patch_size, encoder in ((7, coarse), (4, fine)):
    manual_seed(1)
    fresh = VisionTransformer(**SMALL, patch_size=patch_size, pool="mean")
    for name, each in (("fresh", fresh), ("pre-trained", encoder)):
        train(each, few.arrays, 200)
        accuracy = evaluate(each, x, y)["accuracy"]
        print(f"{patch_size} × {patch_size}, {name:12} accuracy with 200 labels {accuracy:.1%}")
        assert 0.15 < accuracy < 0.9

# %% [markdown]
# The coarse encoder gains 1 point, no more than chance allows (standard error 2.2 %). The fine one gains 12,
# though fresh it was the worse of the two. The loss on hidden patches told it before there was a single label: where
# it stands at the mean image's, nothing has been learned *from* the visible ones. The [model's
# page](../scratch/models/vit/README.md) has the whole run: 3,000 steps, down to 0.042, and then 93.8 % of the test
# digits with 350 labels, beside 66.9 % without pre-training.
#
# ## Where to go from here
#
# - The [page of this week](../docs/weeks/week15.md) has the derivations, a part to rebuild, and an experiment.
# - The [model's page](../scratch/models/vit/README.md) has what the full model reaches, and what each part is worth.
# - `scratch train vit` trains the full model; `scratch sample vit` shows where its answers come from.
# - Read [pretrained.py](../scratch/models/vit/published.py): the same blocks with published weights.
