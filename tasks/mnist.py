"""MNIST: 70,000 hand-written digits of 28 x 28 pixels, read from the four idx files."""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.task import Dataset

from .idx import check_images, check_title, find_folder, load_images


@dataclass(frozen=True)
class Mnist:
    """Ten classes, shape (1, 28, 28): channel, row, column (LeCun, Bottou, Bengio and Haffner 1998).

    Not part of the package: the four idx files (packed with gzip or not) are read from `folder`, else from
    $NEUROSIM_DATA/mnist or $NEUROSIM_DATA. `train` and `validation` come from the 60,000 training images, `test` from
    the 10,000 test images; the seed fixes the (stratified) choice. `scale` is "unit" (pixel / 255) or "symmetric"
    ([-1, 1]).
    """

    name: str = "mnist"
    train: int = 50000
    validation: int = 10000
    test: int = 10000
    scale: str = "unit"
    folder: str | None = None

    def __post_init__(self) -> None:
        check_images(self.name, self.train, self.validation, self.test, self.scale)

    def load(self, seed: int) -> Dataset:
        folder = find_folder("MNIST", self.folder, ("mnist",), (), "put its four idx files into a folder")
        check_title("MNIST", folder)
        return load_images(self.name, folder, (self.train, self.validation, self.test), self.scale, seed)
