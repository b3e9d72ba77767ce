"""A few words of pickle assembly, protocol 2 as torch.save writes it, and the archives around it.

So what PyTorch writes, and what an attacker would, can be tested where PyTorch is not installed.
"""

from __future__ import annotations

import base64
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np

from scratch.weights import pth_stream


def named(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def dict_of(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def storage(size: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    return tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), integer(size)) + b"Q"


def tensor(size: int, shape: tuple, strides: tuple, offset: int = 0, kind: str = "FloatStorage", key="0") -> bytes:
    place = storage(size, kind, key), integer(offset), tuple_of(*map(integer, shape)), tuple_of(*map(integer, strides))
    return call(named("torch._utils", "_rebuild_tensor_v2"), *place, b"\x89", call(named("collections", "OrderedDict")))


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


SIX = np.arange(6, dtype="<f4")


def pth(body: bytes, *storages: bytes, order: bytes | None = b"little", root: str = "archive") -> bytes:
    parts = {"data.pkl": program(body), **{f"data/{i}": raw for i, raw in enumerate(storages)}, "version": b"3\n"}
    if order is not None:
        parts["byteorder"] = order
    return archive({f"{root}/{name}": content for name, content in parts.items()})


def archive(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for part, content in parts.items():
            file.writestr(part, content)
    return buffer.getvalue()


def stream(body: bytes, *storages: tuple[str, bytes, int], keys: list | None = None, magic: int = pth_stream.MAGIC):
    """The same as PyTorch wrote it before 1.6; storages are (key, numbers, how many)."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = [key for key, _, _ in storages] if keys is None else keys
    head = pickle.dumps(magic, 2) + pickle.dumps(1001, 2) + pickle.dumps(system, 2)
    numbers = b"".join(count.to_bytes(8, "little") + raw for _, raw, count in storages)
    return head + program(body) + pickle.dumps(keys, 2) + numbers


# By torch 2.13.0, with base = arange(12.).reshape(3, 4): torch.save({"epoch": 7, "model": Linear(2, 1, bias=False)
# .state_dict(), "views": [base.T, base[1:, 1:3]], "half": tensor([1.5, -0.0078125], dtype=bfloat16)}); compressed.
MADE_BY_PYTORCH = zlib.decompress(base64.b64decode(
    "eNqllUlv00AUxyfOWgNtWgpdgFL2sKXZmoWt1ELm4ANtEFKEhCI3mdYWTt0XT1tAqqiEWokLEhw4Ii58BZAQh34ALtxBQuqJE1+BN3YabIe2"
    "Kh3laRRn/u/9ZvJ/4yklGCIkFiMdI076iNqsafoSHaurTE0uPDZkqZs89IxVYQVIohJGAV0waxoElKj9rWHWqQFCrWYaBq0x3Zy3xHvNOm3S"
    "+h29xkQIXixDqBLBpctUn9MYhGvMxHrJ6iLTDUusNunMom7Uq4zOW2azupQRIZJIVKKosHClOkch6khE2TBVdt95KEKsEsA1KeiqBHGuLSyC"
    "qAgMDkwrRAkowjocVAQlsA6HXmocoptBTxni1gr0VrpQUG1QpvIdQ5/9++EKPw7oX4EjdvEl2rRwO3BUCViWNWPvdkmnyxYMPILBhIaQWlRz"
    "INIwpInKQQbDvHhICa7DMWQIrcNxp/gJBiNlOLkl0lrLR6eVMEIi6ylUIetpZ/kZBmfLcI5W8E8jmmrMwnlH2joIyT6JdL59FhdsjAwkNPsM"
    "LnIMYQ0uKYE1uOzkvMLgahmSi8kpJRrbFD5c/4oSHlPbemOAjLW9kZw1mw2VVVvHIkuXfRbZcaR50U+/v7/gmDy2LzpMCn+LthxQVQ19br5B"
    "55ksZfdSd2vkcxxgYhl+CVhC2BGgl0y0AWaeMmpyO8vS9f+puzUMnTGDcoa1m5tDvBsiOzJ0k1uerhxLydK1fQBgygmMDU7wKlP4wUvGdiG4"
    "4SVIy1KR7KM+jlXOcBs/GKsY7zE2MH5ikEm8izBGMVKTnPPJyuytFO/wXTj7vZwZWYp3cG5MkC88Z9z49Zn3VGjHnD0uB7T9vq//Pyvy6t/e"
    "zT3Y3X8jJPO3AewtWbSpYwc8U/n9WtXrspTcI0yqmCvlisVirlDKj6dyxUJ2PJUujKezpQI+S5UyxWwmP54vccrGx3AwgRwJmzLAYduc7nsj"
    "3kHuf4/41e4LYMCjPC6Q7W4afxJ3Ew97krx2J+m4Ofx53I3Y68nTFySdF4Bf7u6ibo/8bZD4etevdTvbqx0M+bRpv9btYK92w6/N+LVu//V4"
    "tP1h4ne8X+y2xYhH/MYl/rdhp5RI5MqWvYNX28ou33xXcOZixJlRx1/F5HmLwXlzhCOOpste76z9A+4q7ik="
))  # fmt: skip
