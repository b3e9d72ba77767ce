"""Full data sets that are not in the package: their files, addresses and sums. files/README.md tells what was checked.

A file is trusted by the SHA-256 of its unpacked content, so that any packing of it will do: Debian packs the same
images into other bytes. A download is compared with the size and SHA-256 of the published, packed file first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file of a data set: as it is published, and what is inside."""

    name: str  # as published and as kept; with .gz it may also lie unpacked, without
    size: int  # of the published file, in bytes
    sha256: str
    content_size: int  # unpacked; the same two again for a file that is not packed
    content_sha256: str


@dataclass(frozen=True)
class Source:
    """Where a data set's files come from and where they may lie."""

    name: str
    files: tuple[File, ...]
    addresses: tuple[str, ...]  # tried in this order, each with the file's name in place of {}
    folders: tuple[str, ...]  # below the data folder; downloads go into the first
    installed: tuple[Path, ...] = ()  # where a system's package puts the files
    package: str = ""

    @property
    def size(self) -> int:
        """Bytes that a download of all files takes."""
        return sum(file.size for file in self.files)


FASHION_MNIST = Source(
    name="fashion_mnist",
    files=(
        File(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    addresses=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{}",  # the publisher's; it has no https
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{}",
    ),
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    installed=(Path("/usr/share/datasets/fashion-mnist"),),
    package="dataset-fashion-mnist",
)

MNIST = Source(
    name="mnist",
    files=(
        File(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    # LeCun's own page often answers 403; these two copies are what PyTorch and TensorFlow read.
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/{}",
        "https://storage.googleapis.com/cvdf-datasets/mnist/{}",
    ),
    folders=("mnist", "MNIST/raw"),
)

TINY_SHAKESPEARE = Source(
    name="tiny_shakespeare",
    files=(
        File(
            "tinyshakespeare.txt",
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
    addresses=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    folders=("tiny_shakespeare", ""),
)

SOURCES = {source.name: source for source in (FASHION_MNIST, MNIST, TINY_SHAKESPEARE)}
