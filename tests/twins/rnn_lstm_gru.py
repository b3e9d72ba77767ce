"""The recurrent models in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class LanguageModel(nn.Module):
    def __init__(self, vocab_size: int, kind: str, embedding: int, hidden: int, layers: int = 1):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.recurrence = LAYERS[kind](embedding, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, vocab_size)

    def forward(self, tokens: torch.Tensor, state=None):
        h, state = self.recurrence(self.embedding(tokens), state)
        return self.output(h), state


class _Reader(nn.Module):
    def __init__(self, input_size: int, outputs: int, kind: str, hidden: int, layers: int = 1, both: bool = False):
        super().__init__()
        self.recurrence = LAYERS[kind](input_size, hidden, layers, batch_first=True, bidirectional=both)
        self.output = nn.Linear(hidden * (1 + both), outputs)

    def read(self, x: torch.Tensor, lengths: torch.Tensor):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = self.recurrence(packed)
        h = state[0] if isinstance(state, tuple) else state
        return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], h


class SequenceClassifier(_Reader):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        _, h = self.read(x, lengths)
        last = torch.cat([h[-2], h[-1]], dim=1) if self.recurrence.bidirectional else h[-1]
        return self.output(last)


class Tagger(_Reader):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.output(self.read(x, lengths)[0])


class _Seq2Seq(nn.Module):
    def __init__(self, vocab_size: int, embedding: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.encoder = nn.GRU(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(hidden, hidden)

    def encode(self, source: torch.Tensor):
        packed = pack_padded_sequence(self.embedding(source), (source != 0).sum(1), True, enforce_sorted=False)
        packed, h = self.encoder(packed)
        memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=source.shape[1])
        return memory, torch.tanh(self.bridge(torch.cat([h[0], h[1]], dim=1)))

    def look(self, scores: torch.Tensor, memory: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Scores (B, S) of one query → the context (B, M)."""
        weights = scores.masked_fill(source == 0, float("-inf")).softmax(dim=-1)
        return torch.einsum("bs,bsm->bm", weights, memory)

    def forward(self, source: torch.Tensor, target: torch.Tensor, forced: torch.Tensor | None = None) -> torch.Tensor:
        memory, s = self.encode(source)
        logits, own = [], target[:, 0]
        for t in range(target.shape[1]):
            token = target[:, t] if forced is None else torch.where(forced[:, t], target[:, t], own)
            scores, s = self.step(self.embedding(token), s, memory, source)
            own = scores.argmax(dim=-1)
            logits.append(scores)
        return torch.stack(logits, dim=1)


class Additive(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.query = nn.Linear(hidden, hidden // 2, bias=False)
        self.key = nn.Linear(hidden, hidden // 2)
        self.score = nn.Linear(hidden // 2, 1, bias=False)


class Multiplicative(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)


class BahdanauSeq2Seq(_Seq2Seq):
    def __init__(self, vocab_size: int, embedding: int, hidden: int):
        super().__init__(vocab_size, embedding, hidden)
        self.attention = Additive(hidden)
        self.decoder = nn.GRUCell(embedding + hidden, hidden)
        self.mix = nn.Linear(2 * hidden + embedding, hidden)
        self.output = nn.Linear(hidden, vocab_size)

    def step(self, y, s, memory, source):
        a = self.attention
        scores = a.score(torch.tanh(a.query(s)[:, None] + a.key(memory)))[..., 0]
        c = self.look(scores, memory, source)
        s = self.decoder(torch.cat([y, c], dim=1), s)
        return self.output(torch.tanh(self.mix(torch.cat([s, c, y], dim=1)))), s


class LuongSeq2Seq(_Seq2Seq):
    def __init__(self, vocab_size: int, embedding: int, hidden: int):
        super().__init__(vocab_size, embedding, hidden)
        self.attention = Multiplicative(hidden)
        self.decoder = nn.GRU(embedding, hidden, batch_first=True)
        self.mix = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, vocab_size)

    def step(self, y, s, memory, source):
        _, h = self.decoder(y[:, None], s[None])
        s = h[0]
        c = self.look(torch.einsum("bh,bsh->bs", s, self.attention.key(memory)), memory, source)
        return self.output(torch.tanh(self.mix(torch.cat([c, s], dim=1)))), s
