"""Folders of labelled images for the studies of transfer learning, made from packages that anybody can install.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0    # each unpacked into a folder
    python -m benchmarks.transfer_data emoji --google DIR --twitter DIR --out DIR
    apt-get download openclipart-png && dpkg-deb -x openclipart-png_*.deb DIR
    python -m benchmarks.transfer_data clipart --png DIR/usr/share/openclipart/png --out DIR

Which images are held out depends on their content alone, so that copies are on one side and the same come out each
time.

`emoji`: OUT/google/{train,test}/CLASS and OUT/twitter/test/CLASS, the 1,906 emoji of nine categories in the drawings of
two vendors; the 706 that are held out are the same in both. `clipart`: OUT/{train,test}/CLASS, seven categories of
Open Clipart without copies, 100 images each to train on and as many more as there are, at most 100, to test on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybridvit.transfer.images import BadImage, load_image

HELD_OUT = 706
CLIPART_CLASSES = ("animals", "computer", "food", "people", "recreation", "signs_and_symbols", "transportation")
CLIPART_TRAIN = CLIPART_TEST = 100
MAX_PIXELS = 4_000_000


def by_content(files: Iterable[Path]) -> list[Path]:
    """In an order that depends on what the files hold alone; copies follow each other."""
    return sorted(files, key=lambda path: (digest(path), path.name))


def digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def emoji(packages: dict[str, Path], out: Path) -> dict[str, int]:
    """Images by split, written below `out`; packages: vendor -> unpacked npm package."""
    vendor, first = next(iter(packages.items()))
    listed = json.loads((first / "emoji.json").read_text(encoding="utf-8"))
    classes = {entry["image"]: entry["category"] for entry in listed if entry["category"] != "Component"}
    drawings = [first / "img" / vendor / "64" / name for name in classes]
    held_out = {path.name for path in by_content(drawings)[:HELD_OUT]}
    counts: dict[str, int] = {}
    for number, (vendor, package) in enumerate(packages.items()):
        for name, category in classes.items():
            split = "test" if name in held_out else "train"
            if number and split == "train":
                continue
            place = out / vendor / split / category.replace(" & ", "_and_").lower()
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package / "img" / vendor / "64" / name, place / name)
            counts[f"{vendor}/{split}"] = counts.get(f"{vendor}/{split}", 0) + 1
    return counts


def clipart(png: Path, out: Path) -> dict[str, int]:
    """Images by split, written below `out`; png: the folder of categories."""
    counts = {"train": 0, "test": 0}
    taken: set[bytes] = set()
    for category in CLIPART_CLASSES:
        for number, path in enumerate(usable(by_content((png / category).rglob("*.png")), taken)):
            if number == CLIPART_TRAIN + CLIPART_TEST:
                break
            split = "train" if number < CLIPART_TRAIN else "test"
            place = out / split / category
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / f"{number:03d}-{path.name}")
            counts[split] += 1
    return counts


def usable(files: Iterable[Path], taken: set[bytes]) -> Iterator[Path]:
    """Those that decode, are no larger than MAX_PIXELS and no copy of another; their hashes are added to `taken`."""
    for path in files:
        content = digest(path)
        if content in taken:
            continue
        taken.add(content)
        try:
            load_image(path, max_pixels=MAX_PIXELS)
        except BadImage as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    emoji_parser, clipart_parser = kinds.add_parser("emoji"), kinds.add_parser("clipart")
    for name in ("--google", "--twitter"):
        emoji_parser.add_argument(name, type=Path, required=True)
    clipart_parser.add_argument("--png", type=Path, required=True)
    for each in (emoji_parser, clipart_parser):
        each.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} exists; name another place")
    if given.kind == "emoji":
        counts = emoji({"google": given.google, "twitter": given.twitter}, given.out)
    else:
        counts = clipart(given.png, given.out)
    for split, count in counts.items():
        print(f"{given.out / split}: {count} images")


if __name__ == "__main__":
    main()
