"""The speller: published weights on our GRU give the sounds that the wheel's own code gives, word for word."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from scratch import no_grad
from scratch.data import load_shakespeare
from scratch.models.rnn_lstm_gru import phonemes
from tests.conftest import SPELLER_WEIGHTS_ARE_HERE

needs_weights = pytest.mark.skipif(not SPELLER_WEIGHTS_ARE_HERE, reason=f"{phonemes.INSTALL} (make parity does)")


def their_speller():
    """g2p-en's class without what surrounds it: its module would download dictionaries when imported."""
    file = phonemes.find_weights().parent / "g2p.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a backslash in one of its strings
        tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (init,) = (node for node in tree.body[0].body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    init.body = [line for line in init.body if "cmudict" not in ast.unparse(line) and "homo" not in ast.unparse(line)]
    space = {"np": np, "os": __import__("os"), "dirname": str(file.parent)}
    exec(compile(tree, "g2p.py", "exec"), space)
    return space["G2p"]()


def words(count: int) -> list[str]:
    """Words of Shakespeare's, drawn by chance, and some that he had not."""
    known = sorted(set(re.findall(r"[a-z']*[a-z]", load_shakespeare().test.lower())))
    drawn = list(np.random.default_rng(0).choice(known, count - 4, replace=False))
    own = ["backpropagation", "pneumonoultramicroscopicsilicovolcanoconiosis", "x", "wxwxwx"]
    return [str(word) for word in drawn] + own


@pytest.mark.torch  # which needs no PyTorch, but the wheel that `make parity` installs beside it
@needs_weights
def test_two_hundred_words_sound_as_in_the_wheel():
    theirs = their_speller()
    assert tuple(theirs.phonemes) == phonemes.SOUNDS and tuple(theirs.graphemes) == phonemes.LETTERS
    asked = words(200)
    assert len(set(asked)) == 200 and max(map(len, asked)) == 45
    ours = [list(spoken.sounds) for spoken in phonemes.pronounce(phonemes.load_speller(), asked)]
    assert ours == [theirs.predict(word) for word in asked]
    assert max(map(len, ours)) == phonemes.LONGEST
    assert phonemes.WHEEL not in sys.modules, "the package is read, never imported"


@pytest.mark.torch
@needs_weights
def test_states_and_scores_are_the_wheels():
    theirs, model = their_speller(), phonemes.load_speller()
    word = "recurrence"
    x = theirs.encode(word)
    all_h = theirs.gru(x, len(word) + 1, theirs.enc_w_ih, theirs.enc_w_hh, theirs.enc_b_ih, theirs.enc_b_hh)
    with no_grad():
        h = model.encode(*phonemes.numbered([word]))
        scores, after = model(np.array([phonemes.START]), h)
    np.testing.assert_allclose(h.data, all_h[:, -1], atol=1e-5)
    start = theirs.dec_emb[[phonemes.START]]
    expected = theirs.grucell(start, all_h[:, -1], theirs.dec_w_ih, theirs.dec_w_hh, theirs.dec_b_ih, theirs.dec_b_hh)
    np.testing.assert_allclose(after.data, expected, atol=1e-5)
    np.testing.assert_allclose(scores.data, expected @ theirs.fc_w.T + theirs.fc_b, atol=1e-4)
    assert model.count_parameters() == 834_890


@needs_weights
def test_the_command_says_how_words_are_spoken(capsys):
    phonemes.main(["hello", "Transformer numpy"])
    assert capsys.readouterr().out.splitlines() == [
        "hello         95 %  HH EH1 L OW0",
        "Transformer   89 %  T R AE0 N S F AO1 R M ER0",
        "numpy         99 %  N AH1 M P IY0",
    ]


def test_words_together_are_spoken_as_alone():
    model, asked = phonemes.Speller(8), ["a", "word", "longer"]
    for parameter in model.parameters():
        parameter.data *= 5  # so that words differ
    together = phonemes.pronounce(model, asked)
    for word, spoken in zip(asked, together, strict=True):
        (alone,) = phonemes.pronounce(model, [word])
        assert spoken.sounds == alone.sounds
        np.testing.assert_allclose(spoken.probability, alone.probability, rtol=1e-4)
    assert len({spoken.sounds for spoken in together}) > 1
    assert phonemes.pronounce(model, []) == []


def test_the_probability_is_the_product_of_the_sounds():
    model = phonemes.Speller(4)
    for parameter in model.parameters():
        parameter.data[...] = 0
    model.output.bias.data[5] = np.log(73)  # half for sound 5, at every step
    (spoken,) = phonemes.pronounce(model, ["word"])
    assert spoken.sounds == (phonemes.SOUNDS[5],) * phonemes.LONGEST
    np.testing.assert_allclose(spoken.probability, (73 / 146) ** phonemes.LONGEST, rtol=1e-5)
    model.output.bias.data[phonemes.END] = np.log(72 + 73)  # more for the end
    (spoken,) = phonemes.pronounce(model, ["word"])
    assert spoken.sounds == ()
    np.testing.assert_allclose(spoken.probability, 145 / (145 + 73 + 72), rtol=1e-5)


def test_words_as_numbers():
    table, lengths = phonemes.numbered(["Ab", "Zoë's"])
    np.testing.assert_array_equal(table, [[3, 4, 2, 0, 0, 0], [28, 17, 7, 1, 21, 2]])
    np.testing.assert_array_equal(lengths, [3, 6])
    for word in ("", "42", "'"):
        with pytest.raises(ValueError, match="a word has letters from a to z, got"):
            phonemes.numbered(["good", word])


def test_missing_and_foreign_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps g2p-en==2\.1\.0"):
        phonemes.load_speller()
    with pytest.raises(FileNotFoundError, match=r"none\.npz: expected the speller's arrays"):
        phonemes.load_speller(tmp_path / "none.npz")
    for content in (b"", b"no arrays", b"PK\x03\x04 no more"):
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.npz: expected the speller's arrays"):
            phonemes.load_speller(tmp_path / "w.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"one\.npy: expected the speller's arrays"):
        phonemes.load_speller(tmp_path / "one.npy")
    np.savez(tmp_path / "w.npz", enc_emb=np.zeros((29, 256)))
    with pytest.raises(ValueError, match=r"w\.npz: .*missing: encoder\.weight_ih_l0"):
        phonemes.load_speller(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", enc_emb=np.array([{}]))  # a pickle, which would run code
    with pytest.raises(ValueError, match="'enc_emb.npy' is no array of numbers: .*O"):
        phonemes.load_speller(tmp_path / "w.npz")


def test_the_arrays_of_the_wheel_and_ours_have_a_name_each():
    names = {f"{part}_{w}_{side}" for part in ("enc", "dec") for w in "wb" for side in ("ih", "hh")}
    assert set(phonemes.KEYS) == names | {"enc_emb", "dec_emb", "fc_w", "fc_b"}
    assert sorted(phonemes.KEYS.values()) == sorted(phonemes.Speller(4).state_dict())
    assert Path(phonemes.__file__).name == "phonemes.py"
