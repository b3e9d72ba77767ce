"""Recurrence, told twice and tested equal:

    plain.py        one step by its equations, and a loop; read first
    sequence.py     a whole sequence as one operation: backpropagation through time, derived
    rnn.py          the steps of each kind, forward and back, in columns
    lstm.py
    gru.py

    cells.py        RNNCell, LSTMCell, GRUCell: the plain step with its weights
    layers.py       RNN, LSTM, GRU: layers, directions, initial states, lengths
"""

from scratch.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from scratch.layers.recurrent.layers import GRU, LSTM, RNN
from scratch.layers.recurrent.plain import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "gru_cell",
    "lstm_cell",
    "rnn_relu_cell",
    "rnn_tanh_cell",
]
