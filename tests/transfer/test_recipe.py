"""Recipes: read with clear errors, written so that they read back equal."""

import re
from pathlib import Path

import pytest

from hybridvit.transfer.errors import RecipeError
from hybridvit.transfer.recipe import Recipe, default_recipe, list_recipes, load_recipe


def test_every_shipped_recipe_reads_back_from_its_own_text(tmp_path: Path) -> None:
    assert "fmnist_cct_2" in list_recipes()
    for name in list_recipes():
        recipe = load_recipe(name)
        path = tmp_path / f"{name}.toml"
        path.write_text(recipe.to_toml())
        assert load_recipe(path) == recipe


def test_every_field_is_documented_and_limited() -> None:
    recipe = Recipe()
    documented = set(re.findall(r"[a-z_]+", Recipe.__doc__ or ""))
    assert set(recipe.to_dict()) <= documented
    for name, value in recipe.to_dict().items():
        if isinstance(value, bool):
            assert recipe.replace(**{name: not value}) != recipe
            with pytest.raises(RecipeError, match=f"{name} must be true or false, got 1"):
                recipe.replace(**{name: 1})
        elif not isinstance(value, str):
            with pytest.raises(RecipeError, match=name):
                recipe.replace(**{name: type(value)(-1)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochz = 3", "no field 'epochz'. Did you mean 'epochs'"),
        ("epochs = 0", "epochs must be between 1 and inf, got 0"),
        ("epochs = 2.5", "epochs must be a whole number, got 2.5"),
        ("epochs = true", "epochs must be a whole number, got True"),
        ("lr = 'high'", "lr must be a number, got 'high'"),
        ("lr = nan", "lr must be between"),
        ("augment = 'strong'", "augment must be one of none, flip"),
        ("method = 'adapter'", "method must be one of full, probe, lora, ssf, knn, got 'adapter'"),
        ("calibrate = 1", "calibrate must be true or false, got 1"),
        ("finish_epochs = 2", "finish_size and finish_epochs need each other: set both, or neither"),
        ("precision = 'fp8'", "precision must be one of fp32, bf16, fp16"),
        ("epochs = = 3", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'fmnist_cct_2'.*Shipped recipes: .*fmnist_cct_2"):
        load_recipe("fmnist_cct2")
    with pytest.raises(RecipeError, match="not found"):
        load_recipe(tmp_path / "none.toml")


def test_about_is_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('epochs = 3\nlr = 1\n[about]\nmodel = "vit_tiny"\n')
    assert load_recipe(path) == Recipe(epochs=3, lr=1.0)


def test_default_suits_the_number_of_images() -> None:
    few, many = default_recipe(200), default_recipe(100_000)
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size
    assert few.probe_epochs > 0
    assert default_recipe(200, pretrained=False).probe_epochs == 0
    lora, probe = default_recipe(200, method="lora"), default_recipe(200, method="probe")
    assert lora.lr == pytest.approx(10 * few.lr)
    assert lora.layer_decay == 1
    assert probe.probe_epochs > few.probe_epochs
    assert (lora.method, probe.method, default_recipe(200, False, "ssf").method) == ("lora", "probe", "ssf")


def test_the_page_has_every_field_as_the_docstring_says_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "finetune.md").read_text()
    documented = re.findall(r"^ {8}([a-z_]+): ((?:.|\n {12})*)", Recipe.__doc__ or "", flags=re.M)
    values = Recipe().to_dict()
    rows = []
    for name, text in documented:
        default = f'"{values[name]}"' if isinstance(values[name], str) else str(values[name]).replace("False", "false")
        words = re.sub(r'"([a-z0-9]+)"', r"`\1`", " ".join(text.split()))
        rows.append(f"| `{name}` | {default} | {words} |")
    assert "\n".join(rows) in page
    assert len(rows) == len(values)
