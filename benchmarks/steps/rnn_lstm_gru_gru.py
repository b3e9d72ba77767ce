"""Character model: 65 characters, embedding 64, GRU of 256, length 64, batch 32, Adam: a training step."""

from benchmarks.steps.rnn_lstm_gru_lstm import REFERENCE, contenders

__all__ = ["CONTENDERS", "REFERENCE"]

CONTENDERS = contenders("GRU")
