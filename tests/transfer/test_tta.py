"""Test-time augmentation: averages of probabilities over views."""

from pathlib import Path

import pytest
import torch

import hybridvit as hv
from hybridvit.transfer.tta import averaged, views_of
from tests.transfer.samples import draw, folder_of, tiny


@pytest.mark.parametrize(("views", "count"), [("none", 1), ("flip", 2), ("crops", 12)])
def test_probabilities_are_averaged(views: str, count: int) -> None:
    model, images = tiny().eval(), torch.randn(2, 1, 16, 16)
    with torch.inference_mode():
        seen = views_of(images, views)  # pyright: ignore[reportArgumentType]
        assert {tuple(view.shape) for view in seen} == {(2, 1, 16, 16)}
        assert len(seen) == count
        expected = torch.stack([model(view).softmax(1) for view in seen]).mean(0)
        found = averaged(model, views)(images)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found.softmax(1), expected)
        several = averaged(model, views, multi_label=True)(images).sigmoid()  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(several, torch.stack([model(view).sigmoid() for view in seen]).mean(0))


def test_a_mirrored_image_gets_the_same_answer() -> None:
    model, images = tiny().eval(), torch.randn(2, 1, 16, 16)
    answer = averaged(model, "flip")
    torch.testing.assert_close(answer(images.flip(3)), answer(images))


def test_crops_are_the_corners_and_the_centre() -> None:
    images = torch.zeros(1, 1, 16, 16)
    images[..., 0, 0], images[..., -1, -1] = 1.0, 2.0
    crops = views_of(images, "crops")[2:7]
    corners = [(view.flatten()[0] > 0.2).item() + 2 * (view.flatten()[-1] > 0.4).item() for view in crops]
    assert corners == [1, 0, 0, 2, 0]


def test_predict_and_evaluate_take_it(tmp_path: Path) -> None:
    model = tiny()
    model.labels = ("a", "b", "c")
    data = folder_of(tmp_path / "data", {"a": 2, "b": 2, "c": 2})
    image = draw(tmp_path / "image.png", seed=3, side=16)
    plain, flipped = (hv.predict(model, image, topk=3, tta=tta)[0] for tta in ("none", "flip"))
    assert plain != flipped
    assert sum(each.probability for each in flipped) == pytest.approx(1, abs=1e-5)
    assert hv.evaluate(model, data).loss != hv.evaluate(model, data, tta="crops").loss
    with pytest.raises(ValueError, match="tta must be one of none, flip, crops, got 'ten'"):
        hv.predict(model, image, tta="ten")  # pyright: ignore[reportArgumentType]


def test_the_commands_pass_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from hybridvit.cli import app

    seen: list[str] = []

    def noted(*_: object, tta: str, **options: object) -> tuple[()]:
        seen.append(tta)
        return ()

    monkeypatch.setattr("hybridvit.transfer.predict.predict_files", noted)
    assert CliRunner().invoke(app, ["predict", str(tmp_path), "--model", "m", "--tta", "flip"]).exit_code == 0
    monkeypatch.setattr("hybridvit.transfer.evaluation.evaluate", noted)
    CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path), "--model", "m", "--tta", "crops"])
    assert seen == ["flip", "crops"]
