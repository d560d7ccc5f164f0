"""Labelled images from wherever they are: checked before training, split without leaks, never written to.

`load_data` takes class folders, a table, or `PREFIX:...` for one of the other sources in `sources/`.
"""

from .files import image_files
from .image_set import Data, ImageSet, OnBad, Split
from .load import load_data, load_split
from .sources import folder_of
from .split import folds, split_stratified
from .split_file import split_table

IDX_PREFIX = "idx:"

__all__ = [
    "IDX_PREFIX", "Data", "ImageSet", "OnBad", "Split", "folder_of", "folds", "image_files", "load_data", "load_split",
    "split_stratified", "split_table",
]  # fmt: skip
