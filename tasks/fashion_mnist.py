"""Fashion-MNIST: 70,000 pictures of clothes of 28 x 28 pixels, read from the four idx files."""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.task import Dataset

from .idx import check_images, check_title, find_folder, load_images

SUBFOLDERS = ("fashion_mnist", "fashion-mnist")
DEBIAN = ("/usr/share/datasets/fashion-mnist",)  # where Debian's package dataset-fashion-mnist puts the files
HELP = "install Debian's package dataset-fashion-mnist, put the four idx files into a folder"


@dataclass(frozen=True)
class FashionMnist:
    """Ten classes, shape (1, 28, 28): channel, row, column (Xiao, Rasul and Vollgraf 2017).

    Not part of the package: the four idx files (packed with gzip or not) are read from `folder`, else from
    $NEUROSIM_DATA/fashion_mnist, $NEUROSIM_DATA/fashion-mnist or $NEUROSIM_DATA, else from where Debian's package
    dataset-fashion-mnist puts them. `train` and `validation` come from the 60,000 training images, `test` from the
    10,000 test images; the seed fixes the (stratified) choice. `scale` is "unit" (pixel / 255) or "symmetric" ([-1,
    1]).
    """

    name: str = "fashion_mnist"
    train: int = 50000
    validation: int = 10000
    test: int = 10000
    scale: str = "unit"
    folder: str | None = None

    def __post_init__(self) -> None:
        check_images(self.name, self.train, self.validation, self.test, self.scale)

    def load(self, seed: int) -> Dataset:
        folder = find_folder("Fashion-MNIST", self.folder, SUBFOLDERS, DEBIAN, HELP)
        check_title("Fashion-MNIST", folder)
        return load_images(self.name, folder, (self.train, self.validation, self.test), self.scale, seed)
