"""What surrounds GPT: its tasks, the training loop, samples, experiments, and inspection."""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from scratch import Tensor
from scratch.activations import gelu, log_softmax, relu
from scratch.data import CharTokenizer, TextWindows, load_shakespeare
from scratch.experiments import gpt as experiments
from scratch.experiments import swapped
from scratch.models.gpt import GPT, inside, pictures, sample, tasks
from scratch.models.gpt import model as gpt_model
from scratch.models.gpt import train as gpt
from scratch.models.gpt.decoder import Decoder
from scratch.models.gpt.generate import generate
from scratch.models.gpt.tasks import IGNORED, Questions, Text
from scratch.models.gpt.train import PRESETS, Settings, build, evaluate, exact_match, summed_loss
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata, save_file

SHIPPED = resources.files("scratch.models.gpt") / "weights.safetensors"
TINY: dict = {"vocab_size": 11, "context_length": 8, "num_layers": 2, "num_heads": 2, "embed_dim": 12}
SHORT: dict = {"num_layers": 2, "num_heads": 2, "embed_dim": 8, "context_length": 8, "steps": 6, "batch_size": 5,
               "warmup_steps": 2, "eval_every": 3, "clip_norm": 0.5, "lr": 0.02, "final_lr": 0.002,
               "weight_decay": 0.3}  # fmt: skip
# 2 steps up, then half a cosine from lr at step 2 to final_lr at step 6
RATES = [0.01, 0.02, *(0.002 + 0.009 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]


def awake(rng: np.random.Generator, model: GPT, size: float = 0.3) -> GPT:
    """Weights large enough that every part matters."""
    for name, parameter in model.named_parameters():
        wide = "embedding" in name
        parameter.data[...] = rng.standard_normal(parameter.shape) * (1.0 if wide else size)
    return model


def some_text() -> Text:
    tokenizer = CharTokenizer("abcde")
    parts = (np.random.default_rng(seed).integers(0, 5, n) for seed, n in enumerate((300, 70, 90)))
    return Text(tokenizer, *parts)


def some_sums() -> Questions:
    """One-digit sums: 3+4=7, the last digit of the sum alone."""
    a, b = np.arange(100) // 10, np.arange(100) % 10
    rows = np.stack([a, np.full(100, 10), b, np.full(100, 11), (a + b) % 10], axis=1)
    rows = np.random.default_rng(0).permutation(rows)
    return Questions(CharTokenizer("0123456789+="), 4, rows[40:], rows[20:40], rows[:20])


def start(folder, monkeypatch, settings: Settings, dtype=np.float32, task=some_text) -> Run:
    """A run on a small task, without pictures."""
    monkeypatch.setattr(gpt, "load_task", lambda settings: task())
    monkeypatch.setattr(gpt, "build", lambda *arguments: build(*arguments).to(dtype))
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("gpt", settings, folder=folder)
    try:
        gpt.train(settings, run)
    finally:
        run.close()
    return run


# -- tasks ------------------------------------------------------------------------------------------------------


def told(task: Questions, row: np.ndarray) -> str:
    return task.tokenizer.decode(row)


def test_six_digits_are_sorted_and_no_question_is_in_two_parts():
    task = tasks.sort_digits()
    parts = (task.train, task.validation, task.test)
    assert [len(part) for part in parts] == [990_000, 5_000, 5_000]
    assert len(np.unique(np.concatenate(parts)[:, :6] @ 10 ** np.arange(6))) == 1_000_000
    for row in (*task.train[:50], *task.test[:50]):
        text = told(task, row)
        assert re.fullmatch(r"\d{6}>\d{6}", text) and text[7:] == "".join(sorted(text[:6]))
    assert str(task).startswith("990,000 / 5,000 / 5,000 questions such as ")


def test_sums_are_right_with_their_last_digit_first():
    task = tasks.add_numbers()
    parts = (task.train, task.validation, task.test)
    assert [len(part) for part in parts] == [8_000, 1_000, 1_000]
    seen = set()
    for row in np.concatenate(parts):
        a, b, total = re.fullmatch(r"(\d\d)\+(\d\d)=(\d{3})", told(task, row)).groups()
        assert int(a) + int(b) == int(total[::-1])
        seen.add((a, b))
    assert len(seen) == 10_000


def test_only_the_answer_is_a_target():
    task = tasks.add_numbers()
    x, y = task.shifted(task.test[:3])
    for row, given, asked in zip(task.test, x, y, strict=False):
        assert given.tolist() == row[:-1].tolist()
        assert asked.tolist() == [IGNORED] * 5 + row[6:].tolist()
    assert task.test[0, 0] >= 0  # shifted works on a copy


def test_what_goes_round_can_be_foretold_from_the_second_round_on():
    task = tasks.repeats(rows=400)
    periods = set()
    for row, asked in zip(task.train, task.shifted(task.train)[1], strict=True):
        period = int(np.flatnonzero(row[1:] == row[0])[0]) + 1
        assert len(set(row[:period])) == period and (row[period:] == row[:-period]).all()
        assert asked.tolist() == [IGNORED] * period + row[period + 1 :].tolist()
        periods.add(period)
    assert periods == set(range(6, 17)) and task.given == 17 and len(task.tokenizer) == 32
    assert not np.array_equal(task.train[0], task.train[1])


def test_texts_are_cut_into_the_plays_parts(monkeypatch):
    task = tasks.text("shakespeare")
    assert str(task) == "865,114 / 118,766 / 110,828 characters, 63 different"
    assert task.tokenizer.decode(task.train[:200]) == load_shakespeare().train[:200]
    monkeypatch.setattr(tasks, "load_tiny_shakespeare", lambda: ("hello", "yes"))
    task = tasks.text("tiny_shakespeare")
    assert task.tokenizer.vocabulary == sorted(set("helloyes"))
    assert (len(task.train), len(task.validation), len(task.test)) == (5, 3, 0)
    assert str(task) == "5 / 3 characters, 6 different"


# -- the loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "dropout"), [(2, 0.0), (1, 0.2)])
def test_the_training_loop_is_the_loop_that_it_says(shards, dropout, tmp_path, monkeypatch):
    """Windows of the text, the mean over all targets, clipping, decay of matrices alone, warm-up and a cosine."""
    task = some_text()
    manual_seed(0)
    model = GPT(5, 8, 8, 2, 2, dropout=dropout).to(np.float64)
    groups = [{"params": [p for p in model.parameters() if (p.ndim == 1) == thin], "weight_decay": 0.0 if thin else 0.3}
              for thin in (False, True)]  # fmt: skip
    optimizer = AdamW(groups, betas=(0.9, 0.99))
    batches = TextWindows(task.train, 8, 5, 0)
    norms, losses = [], []
    for n in range(6):
        x, y = next(batches)
        with stream(0, n):
            log_p = log_softmax(model(x), dim=-1)
        loss = -(log_p * np.eye(5)[y]).sum() / 40.0
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = RATES[n]
        optimizer.step()
        losses.append(loss.item())
    assert max(norms) > 0.5  # or clipping would not be seen

    settings = Settings(**SHORT, dropout=dropout, bias=True, shards=shards)
    run = start(tmp_path / "run", monkeypatch, settings, np.float64)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-8, atol=1e-9, err_msg=name)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    assert figures["loss at step 0"] == pytest.approx(losses[0], rel=1e-9)
    best = GPT(5, 8, 8, 2, 2).to(np.float64)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    assert figures["test loss"] == pytest.approx(mean_nll(best, task.test), rel=1e-6)


def mean_nll(model: GPT, tokens: np.ndarray, size: int = 8) -> float:
    """−mean ln p of all tokens but the first, in windows of `size` side by side."""
    total = 0.0
    for i in range(0, len(tokens) - 1, size):
        x, y = tokens[i : i + size], tokens[i + 1 : i + size + 1]
        total -= log_softmax(model.eval()(x[None, : len(y)]), dim=-1).data[0, np.arange(len(y)), y].sum()
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("step", [0, 4])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, tmp_path, monkeypatch):
    """Two shards with dropout in 32 bits; it breaks off after the update of `step`."""
    settings = Settings(**SHORT, dropout=0.1, save_every=2)
    start(tmp_path / "whole", monkeypatch, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    gpt.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


def test_questions_are_evaluated_by_their_answers(tmp_path, monkeypatch, rng):
    task, model = some_sums(), awake(rng, GPT(12, 4, 12, 2, 2, dropout=0.5))
    figures = evaluate(model, ShardedLoss(model, summed_loss, 2), task, task.validation)
    assert model.training
    log_p = log_softmax(model.eval()(task.validation[:, :4]), dim=-1).data[:, 3]
    answers = task.validation[:, 4]
    expected = {"loss": -log_p[np.arange(20), answers].mean(), "exact_match": (log_p.argmax(1) == answers).mean()}
    assert figures == pytest.approx(expected, rel=1e-5)
    assert exact_match(model, task, task.validation, batch_size=7) == expected["exact_match"]
    run = start(tmp_path / "run", monkeypatch, Settings(**{**SHORT, "data": "add", "shards": 1}), task=some_sums)
    results = json.loads((run.folder / RESULTS).read_text())["figures"]
    share = results["test exact match"]
    assert results["standard error"] == pytest.approx(math.sqrt(share * (1 - share) / 20))


def test_a_set_without_a_test_part_reports_its_validation_loss(tmp_path, monkeypatch):
    text = some_text()
    whole = Text(text.tokenizer, text.train, text.validation, text.test[:0])
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT), np.float64, task=lambda: whole)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    logged = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    assert figures["validation loss"] == pytest.approx(
        min(r["validation_loss"] for r in logged if "validation_loss" in r)
    )
    assert "test loss" not in figures


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 10}, "embed_dim must be a multiple of num_heads, got 10 and 4"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": math.nan}, "lr must be at least 0, got nan"),
        ({"lr": math.inf}, "lr must be a number of at least final_lr, got inf"),
        ({"lr": 1e-5}, "lr must be a number of at least final_lr, got 1e-05 and 0.0001"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
        ({"beta2": 1.0}, "beta2 must be from 0 to below 1, got 1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**changes)


def test_every_preset_builds_its_model():
    for name in PRESETS:
        settings = with_preset(Settings, PRESETS, name)
        model = build(settings, 20)
        assert len(model.blocks) == settings.num_layers and model.context_length == settings.context_length
        longest = {"sort": 12, "add": 8, "repeat": 32}.get(settings.data, 1)
        assert settings.context_length >= longest
    with pytest.raises(ValueError, match="context_length.*8.*add.*7"):
        gpt.load_task(Settings(data="add", context_length=7))


# -- inside -----------------------------------------------------------------------------------------------------


def test_maps_are_the_weights_that_the_model_uses(rng):
    model = awake(rng, GPT(**TINY, dropout=0.3)).to(np.float64)
    tokens = rng.integers(0, 11, 7)
    maps = inside.attention_maps(model, tokens)
    assert maps.shape == (2, 2, 7, 7) and model.training
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-12)
    assert (np.triu(maps, 1) == 0).all()
    model.eval()
    attention = model.blocks[0].attention
    x = model.blocks[0].norm1(model.embed(tokens[None]))
    q, k, v = (proj(x).data[0] for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
    for head in range(2):
        part = slice(6 * head, 6 * head + 6)
        e = np.exp(q[:, part] @ k[:, part].T / math.sqrt(6)) * np.tri(7)
        np.testing.assert_allclose(maps[0, head], e / e.sum(axis=1, keepdims=True), rtol=1e-9)
    mixed = np.concatenate([maps[0, h] @ v[:, 6 * h : 6 * h + 6] for h in range(2)], axis=1)
    np.testing.assert_allclose(attention(x).data[0], attention.out_proj(Tensor(mixed)).data, rtol=1e-9)


def test_the_lens_ends_with_the_models_answer(rng):
    model, tokens = awake(rng, GPT(**TINY, dropout=0.3)).to(np.float64), rng.integers(0, 11, 7)
    lens, p = inside.logit_lens(model, tokens), inside.next_token(model, tokens)
    assert lens.shape == (3, 7, 11) and model.training
    np.testing.assert_allclose(lens[-1], p, rtol=1e-12)
    model.eval()
    np.testing.assert_allclose(p, np.exp(log_softmax(model(tokens[None]), dim=-1).data[0]), rtol=1e-9)
    x = model.embed(tokens[None])
    for i, block in enumerate([lambda x: x, *model.blocks]):
        x = block(x)
        expected = log_softmax(model.lm_head(model.norm(x)), dim=-1).data[0]
        np.testing.assert_allclose(lens[i], np.exp(expected), rtol=1e-9)


def test_scores_find_heads_that_were_built_by_hand():
    """Block 1 attends to the previous position and writes its token into other features; block 2 attends to positions
    that follow the present token. Position 0 has no previous one and attends to itself."""
    V = T = 12
    C = 3 * V  # token, position, previous token: one-hot each
    model = GPT(V, T, num_layers=2, num_heads=1, embed_dim=C, bias=False)
    for parameter in model.parameters():
        parameter.data[...] = 1.0 if parameter.ndim == 1 else 0.0
    eye = np.eye(V, dtype=np.float32)
    model.token_embedding.weight.data[:, :V] = eye
    model.position_embedding.weight.data[:, V : 2 * V] = eye
    previous, induction = (block.attention for block in model.blocks)
    previous.q_proj.weight.data[:V, V : 2 * V] = 20 * np.eye(V, k=1)  # query of t: position t − 1
    previous.k_proj.weight.data[:V, V : 2 * V] = 20 * eye  # key: its position
    previous.v_proj.weight.data[:V, :V] = eye  # value: its token
    previous.out_proj.weight.data[2 * V : 3 * V, :V] = eye
    induction.q_proj.weight.data[:V, :V] = 20 * eye  # query: the present token
    induction.k_proj.weight.data[:V, 2 * V : 3 * V] = 20 * eye  # key: the previous token
    scores = inside.head_scores(model, 6, rows=20)
    assert scores.previous.shape == scores.induction.shape == (2, 1)
    assert scores.previous[0, 0] > 0.99
    assert scores.induction[1, 0] == pytest.approx(5.5 / 6, abs=1e-3)  # the first of six is in two minds
    assert scores.previous[1, 0] < 0.3 and scores.induction[0, 0] < 0.05


def test_scores_are_means_over_repeated_texts(rng):
    model = awake(rng, GPT(**TINY)).to(np.float64)
    rows = inside.repeated(11, 4, 3, seed=5)
    assert rows.shape == (3, 8) and (rows[:, :4] == rows[:, 4:]).all() and all(len(set(row)) == 4 for row in rows)
    scores = inside.head_scores(model, 4, rows=3, seed=5)
    maps = np.stack([inside.attention_maps(model, row) for row in rows])  # (3, num_layers, nh, 8, 8)
    previous = np.mean([maps[:, :, :, t, t - 1] for t in range(1, 8)], axis=(0, 1))
    induction = np.mean([maps[:, :, :, t, t - 3] for t in range(4, 8)], axis=(0, 1))
    np.testing.assert_allclose(scores.previous, previous, rtol=1e-9)
    np.testing.assert_allclose(scores.induction, induction, rtol=1e-9)


def test_what_cannot_be_looked_into(rng):
    model = GPT(**TINY)
    for look in (inside.attention_maps, inside.next_token, inside.logit_lens):
        for wrong in (rng.integers(0, 11, (2, 3)), np.zeros(0, int)):
            with pytest.raises(ValueError, match=r"\(T,\).*shape"):
                look(model, wrong)
        with pytest.raises(ValueError, match="T ≤ 8"):
            look(model, rng.integers(0, 11, 9))
    for period in (1, 5):
        with pytest.raises(ValueError, match=f"period from 2 to 4, got {period}"):
            inside.head_scores(model, period)


def test_pictures_show_what_the_functions_return(tmp_path, monkeypatch, rng):
    drawn = {}
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: drawn.setdefault(path.stem, figure) and path)
    log = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5}, {"step": 2, "validation_loss": 1.4,
                                                               "validation_exact_match": 0.25}]  # fmt: skip
    task = tasks.repeats(rows=200)
    model = awake(rng, GPT(32, 32, 12, 2, 2))
    files = pictures.draw_all(tmp_path, log, model, task)
    assert [f.name for f in files] == ["curves.png", "lens.png", "next_token.png", "heads.png", "induction.png"]
    assert model.training
    row = task.test[0, :32]  # as far as the context goes
    panel, lens = drawn["lens"].axes[0], inside.logit_lens(model, row)
    np.testing.assert_allclose(panel.images[0].get_array(), lens.max(axis=-1), rtol=1e-5)
    said = [text.get_text() for text in panel.texts]
    assert said == list(task.tokenizer.decode(lens.argmax(axis=-1).reshape(-1)))
    right = (lens.argmax(axis=-1)[:, :-1] == row[1:]).sum()
    assert len(panel.patches) == right
    p = inside.next_token(model, row)
    shades = np.asarray(drawn["next_token"].axes[0].images[0].get_array())
    np.testing.assert_allclose(shades, -np.sort(-p, axis=1)[:, :5].T, rtol=1e-5)
    assert len(drawn["heads"].axes) == 4 and drawn["heads"].axes[3].get_title(loc="left") == "block 2, head 2"
    scores = inside.head_scores(model, 12)
    heights = [bar.get_height() for bar in drawn["induction"].axes[1].patches]
    np.testing.assert_allclose(heights, np.concatenate([scores.previous[1], scores.induction[1]]), rtol=1e-6)


def test_a_grid_of_tokens_refuses_what_it_cannot_show():
    from scratch import viz

    page = viz.token_grid(["a ", "\nb"], [[0.1, 0.9], [1, 0]], ["1", "2"], ["x", " "], right=[[0, 1], [0, 0]])
    assert [t.get_text() for t in page.axes[0].texts] == ["a", "␣", "↵", "b"] and len(page.axes[0].patches) == 1
    for tokens, p, labels, message in [
        (["ab"], [[0.5, 1.5]], "xy", "probabilities (R, T) from 0 to 1"),
        (["ab"], [[0.5, 0.5]], "x", "1 row and 2 column labels"),
        (["a"], [[0.5, 0.5]], "xy", "tokens for all (1, 2) cells"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            viz.token_grid(tokens, p, ["r"], list(labels))


# -- samples ----------------------------------------------------------------------------------------------------


def sampled(capsys, *words: str) -> str:
    capsys.readouterr()
    sample.main(words)
    return capsys.readouterr().out


def test_a_sample_goes_on_with_a_text(tmp_path, monkeypatch, capsys):
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT))
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
    assert len(sampled(capsys, "--run", str(run.folder), "--prompt", "a", "--count", "3").splitlines()) == 5
    sampled(capsys, "--run", str(run.folder), "--prompt", "abcabc", "--tokens", "0", "--pictures", str(tmp_path / "p"))
    assert sorted(f.name for f in (tmp_path / "p").iterdir()) == ["heads.png", "lens.png", "next_token.png"]


def test_characters_are_shown_as_they_come(tmp_path, monkeypatch):
    """The second one is drawn only after the first one has been written."""
    order = []
    monkeypatch.setattr(sample, "write", lambda text: order.append(text))
    monkeypatch.setattr(sample, "say", lambda text="": order.append("end"))

    def flowing(*arguments, **options):
        for token in (1, 2):
            order.append(f"draw {token}")
            yield np.array([token])

    monkeypatch.setattr(sample, "stream", flowing)
    sample.go_on(GPT(5, 8, 4, 1, 1), CharTokenizer("abcde"), ["ab"], 2, {})
    assert order == ["ab", "draw 1", "b", "draw 2", "c", "end"]


def test_a_sample_answers_questions(tmp_path, monkeypatch, capsys):
    run = start(tmp_path / "run", monkeypatch, Settings(**{**SHORT, "data": "add"}), task=some_sums)
    monkeypatch.setattr(sample, "load_task", lambda settings: some_sums())
    model, task = sample.load_run(run.folder)
    came = sampled(capsys, "--run", str(run.folder), "--prompt", "3+4=", "9+9=")
    answers = generate(model, task.tokenizer.encode("3+4=9+9=").reshape(2, 4), 1, temperature=0)
    assert came == "".join(
        f"{q} → {task.tokenizer.decode(a[4:])}\n" for q, a in zip(["3+4=", "9+9="], answers, strict=True)
    )
    assert len(sampled(capsys, "--run", str(run.folder), "--count", "5").splitlines()) == 5
    for words, message in [(["--prompt", "3+4"], "a question has 4 characters, such as "),
                           (["--count", "21"], "--count expected 1 to 20, got 21")]:  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            sample.main(["--run", str(run.folder), *words])


def test_what_can_not_be_sampled(tmp_path, monkeypatch):
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT))
    monkeypatch.setattr(sample, "load_task", lambda settings: some_text())
    for words, message in [
        (["--prompt", ""], "prompt 0 is empty"),
        (["--prompt", "abx"], "the character 'x' at position 2 is not in the vocabulary of 5"),
        (["--tokens", "-1"], "--tokens expected a number of at least 0, got -1"),
        (["--count", "0"], "--count expected a number of at least 1, got 0"),
        (["--seed", "-1"], "--seed expected a number of at least 0, got -1"),
        (["--prompt", "a", "--temperature", "-1"], "temperature must be a number of at least 0"),
        (["--weights", "w.safetensors"], "give --run or --weights, not both"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            sample.main(["--run", str(run.folder), *words])
    (run.folder / CHECKPOINT).unlink()
    with pytest.raises(ValueError, match="was stopped before its first evaluation"):
        sample.load_run(run.folder)
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"model": "mlp"})
    with pytest.raises(ValueError, match="expected weights of gpt, found 'mlp'"):
        sample.load_weights(tmp_path / "w.safetensors")


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the weights are not there yet")
def test_the_shipped_weights_give_the_loss_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card = load_metadata(SHIPPED)
    assert shipped(SHIPPED, "gpt", Settings)[0] == Settings()
    assert "scratch train gpt --preset default --seed 0" in card["made by"]
    model, task = sample.load_weights(SHIPPED)
    loss = evaluate(model, ShardedLoss(model, summed_loss, 2), task, task.test)["loss"]
    assert abs(float(re.search(r"test loss ([\d.]+)", card["figures"])[1]) - loss) < 2e-3


# -- experiments --------------------------------------------------------------------------------------------------


def test_each_variant_changes_what_it_says(rng):
    tokens = rng.integers(0, 5, (3, 8))
    changed, first = tokens.copy(), tokens.copy()
    changed[:, -1] = (changed[:, -1] + 1) % 5
    first[:, 0] = (first[:, 0] + 1) % 5
    constant, x = np.full((1, 8), 2), Tensor(rng.standard_normal((2, 3, 8)))
    baseline = None
    for name, (changes, swaps) in experiments.ABLATIONS.items():
        manual_seed(0)
        with swapped(gpt_model, gpt, **swaps):
            model = gpt.build(Settings(**{**SHORT, **changes}), 5).to(np.float64)
            if name != "embedding from N(0, 1)":
                for p in model.parameters():
                    p.data *= 10 if p.ndim == 2 else 1
            logits = model(tokens).data
            baseline = logits if baseline is None else baseline
            assert np.array_equal(logits, baseline) == (name in ("baseline", "no warm-up")), name
            gradients = []
            for shards in (1, 2):  # replicas are copies of the variant
                model.zero_grad()
                ShardedLoss(model, summed_loss, shards)(tokens, tokens).backward()
                gradients.append([p.grad for p in model.parameters()])
            for one, other in zip(*gradients, strict=True):
                if one is None or other is None:
                    assert one is other is None, name
                    continue
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)
            moved = np.abs(model(changed).data - logits)
            assert (moved[:, 0].max() > 1e-9) == (name == "no causal mask"), name
            if name == "no attention":
                assert np.array_equal(model(first).data[:, 1:], logits[:, 1:])
            by_position = np.ptp(model(constant).data, axis=1).max()
            assert (by_position < 1e-12) == (name == "no position embedding"), name
            assert (model.lm_head.weight is model.token_embedding.weight) == (name != "untied output layer"), name
            assert model.blocks[0].attention.num_heads == (1 if name == "one head" else 2), name
            block, ffn = model.blocks[0], model.blocks[0].feed_forward
            activation = relu if name == "ReLU instead of GELU" else gelu
            np.testing.assert_allclose(ffn(x).data, ffn.down_proj(activation(ffn.up_proj(x))).data)
            if name in EXPECTED:
                np.testing.assert_allclose(block(x).data, EXPECTED[name](block, x).data, rtol=1e-12)
    assert gpt_model.Block.__name__ == "Block" and gpt.GPT is GPT


EXPECTED = {
    "no norms": lambda b, x: (y := x + b.attention(x)) + b.feed_forward(y),
    "post-norm": lambda b, x: b.norm2((y := b.norm1(x + b.attention(x))) + b.feed_forward(y)),
    "no residual connections": lambda b, x: b.feed_forward(b.norm2(b.attention(b.norm1(x)))),
    "no feed-forward network": lambda b, x: x + b.attention(b.norm1(x)),
}


def test_every_variant_is_a_run_of_its_own_and_its_metrics_are_in_the_table(tmp_path, monkeypatch, capsys):
    small = {**SHORT, "eval_every": 2}
    monkeypatch.setattr(experiments, "BASE", small)
    monkeypatch.setattr(experiments, "load_task", lambda settings: some_text())
    monkeypatch.setattr(gpt, "load_task", lambda settings: some_text())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr("sys.argv", ["gpt", "--parent", str(tmp_path), "--steps", "2"])
    experiments.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in table[1:]] == list(experiments.ABLATIONS)
    for row, (name, (changes, _)) in zip(table[1:], experiments.ABLATIONS.items(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] != "nan" and cells[3] != "nan" and (cells[4] == "nan") == (name != "no causal mask"), row
        settings = next(
            json.loads((folder / "settings.json").read_text())
            for folder in tmp_path.iterdir()
            if json.loads((folder / "settings.json").read_text())["preset"] == name
        )["settings"]
        assert settings == {**settings, **changes, "steps": 2}
    weights = GPT(5, 8, 8, 2, 2, bias=False).state_dict()
    plain = GPT(5, 8, 8, 2, 2, bias=False)
    plain.load_state_dict(weights)
    expected = mean_nll(plain, some_text().test)
    assert experiments.test_loss(Settings(**SHORT), weights) == pytest.approx(expected, rel=1e-5)
    assert Decoder(plain).read([[1]]).shape == (1, 5)
