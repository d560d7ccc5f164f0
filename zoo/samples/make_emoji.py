"""Make zoo/samples/emoji, a small labelled image folder, from the npm package `emoji-datasource-google`.

    npm pack emoji-datasource-google@16.0.0
    tar xzf emoji-datasource-google-16.0.0.tgz
    python zoo/samples/make_emoji.py package

The choice and the split depend on the package alone: the same images come out each time, pixel for pixel.
"""

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

VERSION = "16.0.0"
VAL_IMAGES = 20
MAX_TRAIN_IMAGES = 60
# Cosine similarity of two thumbnails of one class above which the later image counts as a copy of the earlier one.
# At this value the pairs that differ in a detail are caught (camera and camera with flash, the two camels, child and
# boy, a person with another gesture), and a few unlike ones with them (egg and onion).
NEAR_DUPLICATE = 0.86


@dataclass(frozen=True)
class ClassRule:
    """Which emoji make a class: whole subcategories of emoji.json, less some by name.

    Those show something else (a fuel pump is no vehicle), something of another class as well (a bed with a person in
    it), or the drawing of another one in other colours.
    """

    subcategories: tuple[str, ...]
    excluded: frozenset[str] = frozenset()


CLASSES = {
    "animal": ClassRule(
        (
            "animal-amphibian",
            "animal-bird",
            "animal-bug",
            "animal-mammal",
            "animal-marine",
            "animal-reptile",
        ),
        frozenset({"black_bird", "feather", "feet", "microbe", "pig_nose", "spider_web", "wing"}),
    ),
    "food": ClassRule(
        (
            "food-asian",
            "food-fruit",
            "food-prepared",
            "food-sweet",
            "food-vegetable",
        ),
        frozenset({"takeout_box"}),
    ),
    "object": ClassRule(
        ("computer", "household", "light & video", "musical-instrument", "office", "tool"),
        frozenset({"elevator"}),
    ),
    "person": ClassRule(
        (
            "person",
            "person-activity",
            "person-fantasy",
            "person-gesture",
            "person-resting",
            "person-role",
            "person-sport",
        ),
        frozenset({"bath", "horse_racing", "mermaid", "merman", "mountain_bicyclist", "sleeping_accommodation"}),
    ),
    "place": ClassRule(
        ("hotel", "place-building", "place-geographic", "place-other", "place-religious"),
        frozenset({"barber", "bellhop_bell", "bricks", "hotsprings", "luggage", "rock", "wood"}),
    ),
    "vehicle": ClassRule(
        ("transport-air", "transport-ground", "transport-water"),
        frozenset(
            {
                "anchor",
                "busstop",
                "construction",
                "fuelpump",
                "motorway",
                "octagonal_sign",
                "oil_drum",
                "parachute",
                "railway_track",
                "ring_buoy",
                "rotating_light",
                "seat",
                "traffic_light",
                "vertical_traffic_light",
                "wheel",
            }
        ),
    ),
}
GENDER_WORDS = {"FEMALE", "MALE", "MAN", "MEN", "WOMAN", "WOMEN", "MRS", "MOTHER"}


def is_variant(emoji: dict) -> bool:
    """Whether it is another emoji with a gender or turned around. (Skin tones have no entries of their own.)"""
    words = set(emoji["name"].upper().split()) | set(emoji["short_name"].upper().replace("-", "_").split("_"))
    return bool(words & GENDER_WORDS) or emoji["name"].endswith("FACING RIGHT")


def load(path: Path) -> Image.Image:
    """The drawing as RGBA, with the colour of fully transparent pixels, which nobody sees, set to black."""
    pixels = np.array(Image.open(path).convert("RGBA"))
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def thumbnail(image: Image.Image) -> np.ndarray:
    """A unit vector: the drawing at 16x16, colour centred on grey and weighted by opacity, and the opacity itself."""
    pixels = np.asarray(image.resize((16, 16), Image.Resampling.BOX).convert("RGBa"), dtype=np.float64) / 255
    colour, opacity = pixels[..., :3], pixels[..., 3:]
    vector = np.concatenate([colour - opacity / 2, opacity / 2], axis=-1).ravel()
    return vector / np.linalg.norm(vector)


def without_near_duplicates(images: dict[str, Image.Image]) -> dict[str, Image.Image]:
    """The images that differ, also when mirrored, from every one kept before them."""
    kept: dict[str, Image.Image] = {}
    seen: list[np.ndarray] = []
    for name, image in images.items():
        views = (thumbnail(image), thumbnail(ImageOps.mirror(image)))
        similarities = [view @ other for other in seen for view in views]
        if max(similarities, default=0.0) <= NEAR_DUPLICATE:
            kept[name] = image
            seen.append(views[0])
    return kept


def candidates(label: str, emoji: list[dict], package: Path) -> dict[str, Image.Image]:
    rule = CLASSES[label]
    return {
        entry["short_name"]: load(package / "img/google/64" / entry["image"])
        for entry in emoji
        if entry["subcategory"] in rule.subcategories
        and entry["short_name"] not in rule.excluded
        and entry["has_img_google"]
        and not is_variant(entry)
    }


def shuffled(images: dict[str, Image.Image]) -> dict[str, Image.Image]:
    """The images in an order that looks random and never changes."""
    return {name: images[name] for name in sorted(images, key=lambda name: hashlib.sha256(name.encode()).digest())}


def choose(package: Path) -> dict[str, dict[str, Image.Image]]:
    """Class name -> image name -> image, shuffled."""
    found = json.loads((package / "package.json").read_text())["version"]
    if found != VERSION:
        raise SystemExit(f"{package} is version {found}; the sample folder is made from {VERSION}.")
    emoji = json.loads((package / "emoji.json").read_text())
    emoji.sort(key=lambda entry: entry["sort_order"])
    return {label: shuffled(without_near_duplicates(candidates(label, emoji, package))) for label in CLASSES}


def write(images: dict[str, Image.Image], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / f"{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package: the folder that holds emoji.json")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "emoji")
    arguments = parser.parse_args()

    chosen = choose(arguments.package)
    for split in ("train", "val"):
        shutil.rmtree(arguments.out / split, ignore_errors=True)
    for label, images in chosen.items():
        names = list(images)
        val, train = names[:VAL_IMAGES], names[VAL_IMAGES : VAL_IMAGES + MAX_TRAIN_IMAGES]
        write({name: images[name] for name in val}, arguments.out / "val" / label)
        write({name: images[name] for name in train}, arguments.out / "train" / label)
        print(f"{label:8} {len(train)} train, {len(val)} val, of {len(images)} distinct images")


if __name__ == "__main__":
    main()
