"""Where the zoo's data is: weight entries, recipes, small weights, sample images."""

from pathlib import Path


def zoo_path() -> Path:
    """The directory of the zoo's data files.

    An installed wheel carries it inside the package; a checkout has it beside the package.

    Raises:
        FileNotFoundError: neither place has it, as when the package's directory was copied without its data.
    """
    package = Path(__file__).resolve().parent
    candidates = (package / "zoo", package.parent / "zoo")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"hybridvit's zoo data is missing: looked in {' and '.join(map(str, candidates))}. "
        "Reinstall the package (pip install --force-reinstall hybridvit) or restore zoo/ in the checkout."
    )
