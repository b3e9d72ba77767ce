"""Llama: the training loop, samples, experiments, attention maps and expert statistics."""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from scratch.activations import log_softmax
from scratch.data import CharTokenizer, TextWindows
from scratch.experiments import llama as experiments
from scratch.experiments.swap import swapped
from scratch.layers import Identity, LayerNorm, split_heads
from scratch.models.gpt.tasks import Text
from scratch.models.llama import Llama, Mixtral, experts, inside, pictures, sample
from scratch.models.llama import model as llama_model
from scratch.models.llama import train as llama
from scratch.models.llama.generate import generate, stream
from scratch.models.llama.train import PRESETS, Settings, build, evaluate, report, summed_loss
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata
from tests.test_llama import TINY, awake

SHIPPED = resources.files("scratch.models.llama") / "weights.safetensors"
EXPERTS = resources.files("scratch.models.llama") / "weights_experts.safetensors"
SHORT: dict = {"num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "embed_dim": 8, "ffn_dim": 12, "context_length": 8,
               "steps": 6, "batch_size": 5, "warmup_steps": 2, "eval_every": 3, "clip_norm": 0.5, "lr": 0.02,
               "final_lr": 0.002, "weight_decay": 0.3}  # fmt: skip
WIDER: dict = {"embed_dim": 16, "num_heads": 4, "num_kv_heads": 2}
# 2 steps up, then half a cosine from lr at step 2 to final_lr at step 6
RATES = [0.01, 0.02, *(0.002 + 0.009 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]


def some_text() -> Text:
    parts = (np.random.default_rng(seed).integers(0, 5, n) for seed, n in enumerate((300, 70, 90)))
    return Text(CharTokenizer("abcde"), *parts)


def start(folder, monkeypatch, settings: Settings, dtype=np.float32, task=some_text) -> Run:
    """A run on a small text, without pictures."""
    monkeypatch.setattr(llama, "load_task", lambda settings: task())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr(llama, "build", lambda *a: build(*a).to(dtype))
    run = Run.create("llama", settings, folder=folder)
    try:
        llama.train(settings, run)
    finally:
        run.close()
    return run


# -- the loop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "num_experts"), [(2, 0), (1, 3), (2, 3)])
def test_the_training_loop_is_the_loop_that_it_says(shards, num_experts, tmp_path, monkeypatch):
    """Windows of the text, the mean over all targets, load balancing, clipping, weight decay of matrices only."""
    task, settings = some_text(), Settings(**SHORT, num_experts=num_experts, load_balancing_weight=0.5, shards=shards)
    manual_seed(0)
    model = build(settings, 5).to(np.float64)
    assert isinstance(model, Mixtral) == bool(num_experts)
    groups = [{"params": [p for p in model.parameters() if (p.ndim == 1) == thin], "weight_decay": 0.0 if thin else 0.3}
              for thin in (False, True)]  # fmt: skip
    optimizer = AdamW(groups, betas=(0.9, 0.99))
    batches, losses, norms = TextWindows(task.train, 8, 5, 0), [], []
    for n in range(6):
        x, y = next(batches)
        loss = -(log_softmax(model(x), dim=-1) * np.eye(5)[y]).sum() / 40.0
        if num_experts:
            loss = loss + model.load_balancing_loss() * 0.5
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = RATES[n]
        optimizer.step()
        losses.append(loss.item())
    assert max(norms) > 0.5  # or clipping would not be seen

    run = start(tmp_path / "run", monkeypatch, settings, np.float64)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-7, atol=1e-9, err_msg=name)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    assert figures["loss at step 0"] == pytest.approx(losses[0], rel=1e-9)
    best = build(settings, 5).to(np.float64)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    assert figures["test loss"] == pytest.approx(mean_nll(best, task.test), rel=1e-6)
    assert ("busiest expert's load" in figures) == bool(num_experts)


def mean_nll(model: Llama, tokens: np.ndarray, size: int = 8) -> float:
    """−mean ln p of all tokens but the first, in windows of `size` side by side."""
    total = 0.0
    for i in range(0, len(tokens) - 1, size):
        x, y = tokens[i : i + size], tokens[i + 1 : i + size + 1]
        total -= log_softmax(model(x[None, : len(y)]), dim=-1).data[0, np.arange(len(y)), y].sum()
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("num_experts", [0, 3])
def test_a_resumed_run_ends_with_the_same_bits(num_experts, tmp_path, monkeypatch):
    settings = Settings(**SHORT, num_experts=num_experts, save_every=2)
    start(tmp_path / "whole", monkeypatch, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == 4:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    llama.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


def test_a_set_without_a_test_part_reports_its_validation_loss(rng):
    text, model = some_text(), awake(rng, build(Settings(**SHORT, num_experts=2), 5))
    whole = Text(text.tokenizer, text.train, text.validation, text.test[:0])
    loss_of = ShardedLoss(model, summed_loss, 1)
    figures = report(model, loss_of, whole)
    assert figures["validation loss"] == evaluate(model, loss_of, whole, whole.validation)
    assert figures["busiest expert's load"] == pytest.approx(1)  # two experts, both selected for every token
    assert "test loss" not in figures and model.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 10}, "embed_dim.*num_heads.*10.*4"),
        ({"embed_dim": 100}, "embed_dim.*num_heads.*100.*4"),  # heads of 25 features, which are no pairs
        ({"num_kv_heads": 3}, "num_heads.*num_kv_heads.*4.*3"),
        ({"num_kv_heads": 0}, "num_kv_heads.*1.*0"),
        ({"steps": 0}, "steps.*1.*0"),
        ({"lr": math.nan}, "lr.*nan"),
        ({"lr": 1e-5}, "lr.*final_lr.*1e-05.*0.0001"),
        ({"beta2": 1.0}, "beta2.*1.0"),
        ({"num_experts": 4, "num_experts_per_token": 5}, "num_experts_per_token.*num_experts.*5.*4"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_every_preset_builds_its_model():
    for name in PRESETS:
        settings = with_preset(Settings, PRESETS, name)
        model = build(settings, 20)
        assert len(model.blocks) == settings.num_layers
        assert isinstance(model, Mixtral) == (name == "experts")
    tiny = build(with_preset(Settings, PRESETS, "tiny_shakespeare"), 65)
    assert tiny.count_parameters() == 795_904  # the GPT has as many, and 8,192 for its positions


# -- writing ------------------------------------------------------------------------------------------------------


def test_cached_and_recomputed_texts_are_the_same_also_beyond_the_context(rng):
    model, prompts = awake(rng, Llama(**TINY)), [rng.integers(0, 11, n) for n in (1, 5, 8, 13)]
    cached = generate(model, prompts, 12, temperature=0)
    plain = generate(model, prompts, 12, temperature=0, cache=False)
    for prompt, text, other in zip(prompts, cached, plain, strict=True):
        np.testing.assert_array_equal(text, other)
        np.testing.assert_array_equal(text[: len(prompt)], prompt)
        assert len(text) == len(prompt) + 12
        (alone,) = generate(model, [prompt], 2, temperature=0)
        np.testing.assert_array_equal(alone, text[: len(prompt) + 2])
    drawn = [generate(model, prompts, 12, rng=np.random.default_rng(3), cache=cache) for cache in (True, False)]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True)) and model.training


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "prompt"),
        ([[1], []], {}, "prompt 1 "),
        ([[1, 2], [3, 11]], {}, "prompt 1 .*0 to 10.*11.*1"),
        ([[1]], {"temperature": -1}, "temperature.*-1"),
        ([[1]], {"top_k": 0}, "top_k.*1.*0"),
        ([[1]], {"top_p": 1.5}, "top_p.*1.5"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens.*-1"),
    ],
)
def test_generation_refuses_what_makes_no_sense(prompts, options, message):
    with pytest.raises(ValueError, match=message):
        stream(Llama(**TINY), prompts, **{"max_new_tokens": 2, **options})


def sampled(capsys, *words: str) -> str:
    capsys.readouterr()
    sample.main(words)
    return capsys.readouterr().out


def test_a_sample_goes_on_with_a_text(tmp_path, monkeypatch, capsys):
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT, num_experts=2))
    monkeypatch.setattr(sample, "load_task", lambda settings: some_text())
    model, task = sample.load_run(run.folder)
    assert not model.training
    came = sampled(capsys, "--run", str(run.folder), "--prompt", "abc", "--tokens", "20", "--temperature", "0")
    (expected,) = generate(model, [[0, 1, 2]], 20, temperature=0)
    assert came == task.tokenizer.decode(expected) + "\n"
    options = ["--temperature", "1.2", "--top-k", "3", "--top-p", "0.9", "--seed", "4"]
    came = sampled(capsys, "--run", str(run.folder), "--prompt", "abc", "b", "--tokens", "9", *options)
    drawn = generate(model, [[0, 1, 2], [1]], 9, temperature=1.2, top_k=3, top_p=0.9, rng=np.random.default_rng(4))
    assert came.splitlines() == [task.tokenizer.decode(drawn[0]), "-" * 40, task.tokenizer.decode(drawn[1])]
    sampled(capsys, "--run", str(run.folder), "--prompt", "abcab", "--tokens", "0", "--pictures", str(tmp_path / "p"))
    assert sorted(f.name for f in (tmp_path / "p").iterdir()) == ["experts.png", "heads.png", "usage.png"]
    for words, message in [
        (["--prompt", "abx"], "'x'.* 2"),
        (["--tokens", "-1"], "--tokens.*0.*-1"),
        (["--experts"], "--run.*--weights.*--experts"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample.main(["--run", str(run.folder), *words])


@pytest.mark.parametrize("file", [SHIPPED, EXPERTS])
def test_the_shipped_weights_give_the_loss_on_their_card(file):
    """In 16 bits; the card was written from the run in 32."""
    if not file.is_file():
        pytest.skip("the weights are not there yet")
    card, preset = load_metadata(file), "experts" if file is EXPERTS else "default"
    assert shipped(file, "llama", Settings)[0] == with_preset(Settings, PRESETS, preset)
    assert f"scratch train llama --preset {preset} --seed 0" in card["made by"]
    model, task = sample.load_weights(file)
    loss = evaluate(model, ShardedLoss(model, summed_loss, 2), task, task.test)
    assert abs(float(re.search(r"test loss ([\d.]+)", card["figures"])[1]) - loss) < 2e-3


# -- inside -------------------------------------------------------------------------------------------------------


def test_maps_are_the_weights_that_the_model_uses(rng):
    model = awake(rng, Llama(**TINY)).to(np.float64)
    tokens = rng.integers(0, 11, 7)
    maps = inside.attention_maps(model, tokens)
    assert maps.shape == (2, 4, 7, 7) and model.training
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-12)
    assert (np.triu(maps, 1) == 0).all()
    block = model.blocks[0]
    x = block.norm1(model.token_embedding(tokens[None]))
    v = split_heads(block.attention.v_proj(x), 2).data[0]
    mixed = np.concatenate([maps[0, h] @ v[h // 2] for h in range(4)], axis=1)
    np.testing.assert_allclose(block.attention(x).data[0], mixed @ block.attention.out_proj.weight.data.T, rtol=1e-9)
    with pytest.raises(ValueError, match=r"\(1, 7\)"):
        inside.attention_maps(model, tokens[None])


def test_pictures_show_what_the_functions_return(tmp_path, monkeypatch, rng):
    drawn = {}
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: drawn.setdefault(path.stem, figure) and path)
    log = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5}, {"step": 2, "validation_loss": 1.4}]
    text = some_text()
    task = Text(CharTokenizer("my lord,abc"), *(np.asarray(p) for p in (text.train, text.validation, text.test)))
    model = awake(rng, Mixtral(**TINY, num_experts=3))
    files = pictures.draw_all(tmp_path, log, model, task)
    assert [f.name for f in files] == ["curves.png", "heads.png", "experts.png", "usage.png"]
    shares = inside.expert_load(model, task.validation)
    heights = [bar.get_height() for bar in drawn["usage"].axes[1].patches]
    np.testing.assert_allclose(heights, shares[1], rtol=1e-6)
    counts = inside.expert_token_counts(model, task.validation)
    order = [list("my lord,abc").index(c.get_text()) if c.get_text() != "␣" else 2
             for c in drawn["experts"].axes[0].get_xticklabels()]  # fmt: skip
    expected = 2 * counts[0][:, order] / counts[0][:, order].sum(axis=0)
    np.testing.assert_allclose(np.asarray(drawn["experts"].axes[0].images[0].get_array()), expected)


# -- experiments --------------------------------------------------------------------------------------------------


def test_each_variant_changes_what_it_says(rng):
    tokens, made, logits = rng.integers(0, 5, (3, 8)), {}, {}
    constant = np.full((1, 8), 2)
    for name, (changes, swaps) in experiments.ABLATIONS.items():
        manual_seed(0)
        with swapped(llama_model, experts, llama, **swaps):
            model = made[name] = llama.build(Settings(**{**SHORT, **WIDER, **changes}), 5).to(np.float64)
        for p in model.parameters():
            p.data *= 10 if p.ndim == 2 else 1
        gradients = []
        for shards in (1, 2):  # replicas must be what the model is
            model.zero_grad()
            ShardedLoss(model, summed_loss, shards)(tokens, tokens).backward()
            gradients.append([p.grad for p in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None), name
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)
        logits[name] = model(tokens).data
    for name in made:
        assert np.array_equal(logits[name], logits["baseline"]) == (name == "baseline"), name
    spread = {name: np.ptp(model(constant).data, axis=1).max() for name, model in made.items()}
    assert spread["no positions"] < 1e-12 and spread["learned position embedding instead of rotary"] > 1e-3
    learned = made["learned position embedding instead of rotary"]
    assert learned.position_embedding.weight.shape == (8, 16)
    assert isinstance(learned.blocks[0].attention.rotary, Identity)
    x = rng.standard_normal((2, 3, 16))
    assert abs(made["LayerNorm instead of RMSNorm"].norm(x).data.mean()) < 1e-12
    norms = [part for part in made["LayerNorm instead of RMSNorm"].modules() if isinstance(part, LayerNorm)]
    assert len(norms) == 5 and {norm.eps for norm in norms} == {1e-5}
    sizes = [made[name].blocks[0].feed_forward.count_parameters() for name in ("GELU instead of SwiGLU", "baseline")]
    assert sizes[0] == sizes[1]
    weights = made["GELU instead of SwiGLU"].blocks[0].feed_forward.down_proj.weight.data
    assert weights.std() == pytest.approx(10 * 0.02 / 2, rel=0.15)
    mixture = made["gates not normalised"].mixtures()[0]
    assert (mixture.gates(mixture.routing).data.sum(axis=1) < 1).all()
    assert made["interleaved pairs"].blocks[0].attention.rotary.pairing == "interleaved"
    assert type(build(Settings(**SHORT), 5).blocks[0].feed_forward) is llama_model.FeedForward


def test_every_variant_is_a_run_of_its_own_and_its_metrics_are_in_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "BASE", {**SHORT, **WIDER})
    monkeypatch.setattr(llama, "load_task", lambda settings: some_text())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr("sys.argv", ["llama", "--parent", str(tmp_path), "--steps", "2"])
    experiments.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in table[1:]] == list(experiments.ABLATIONS)
    for row, (changes, _) in zip(table[1:], experiments.ABLATIONS.values(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] != "nan" and cells[3] != "nan" and (cells[4] != "nan") == ("num_experts" in changes), row
