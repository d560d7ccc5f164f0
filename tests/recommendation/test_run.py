"""From a folder and names to a recommendation."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from huggingface_hub import constants

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.recommendation import RecommendationError, judging, prospects, run
from hybridvit.recommendation.run import JSON_FILE, PICTURE_FILE
from hybridvit.transfer.errors import DataError, RunDirectoryError
from tests.recommendation.examples import blind, recommended, seeing, striped

pytest.importorskip("matplotlib")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return striped(tmp_path / "data")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names whose weights are asked for."""
    names: list[str] = []
    create_model = judging.create_model

    def noted(name: str, *arguments: object, **options: object) -> Encoder:
        names.append(name)
        return create_model(name, *arguments, **options)  # pyright: ignore[reportArgumentType]

    for module in (judging, prospects):
        monkeypatch.setattr(module, "create_model", noted)
    return names


def test_a_model_that_tells_the_classes_apart_comes_first(data: Path, tmp_path: Path) -> None:
    models = [blind(tmp_path / "blind"), seeing(tmp_path / "seeing")]
    found = recommended(data, models, tmp_path / "out")
    assert [row.name for row in found.ranking.rows] == models[::-1]
    best, worst = found.ranking.rows
    assert best.linear.mean > 0.9
    assert worst.linear.mean < 0.5
    assert found.majority == pytest.approx(1 / 3, abs=0.05)
    assert found.command == f"hybridvit finetune --model {models[1]} --data {data} --device cpu"
    assert found.ranking.best.params == sum(each.numel() for each in hv.create_model(models[1]).parameters())
    facts = json.loads((tmp_path / "out" / JSON_FILE).read_text())
    assert facts == json.loads(json.dumps(found.to_dict()))
    assert (tmp_path / "out" / PICTURE_FILE).stat().st_size > 10_000
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2


def test_with_another_limit_no_feature_is_computed_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [seeing(tmp_path / "small"), seeing(tmp_path / "large", name="cct_4_3x2_32")]
    passes: list[int] = []
    embed = Encoder.embed
    monkeypatch.setattr(Encoder, "embed", lambda model, pixels: passes.append(len(pixels)) or embed(model, pixels))
    first = recommended(data, models, tmp_path / "out")
    assert [count for count in passes if count > 1] == [first.images] * 2  # and one at a time for the latency
    passes.clear()
    limit = 1000 * sum(row.latency or 0 for row in first.ranking.rows) / 2
    second = recommended(data, models, tmp_path / "out", latency_ms=limit)
    assert set(passes) == {1}
    assert [row.status for row in second.ranking.rows] == ["judged", "too slow"]
    assert second.ranking.rows[0].proxy == next(r.proxy for r in first.ranking.rows if r.name == models[0])


def test_what_is_too_slow_is_told_and_its_weights_are_not_fetched(
    data: Path, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "offline_if_unreachable", lambda: nullcontext(False))
    small = seeing(tmp_path / "small")
    found = recommended(data, ["mobilenetv4_conv_small_050", small], latency_ms=400, img_size=32)
    slow = found.ranking.rows[-1]
    assert slow.name == "mobilenetv4_conv_small_050.e3000_r224_in1k"
    assert slow.reason == "too slow: 2,239 ms"  # a millisecond a thousand parameters
    assert loaded == [small]
    assert found.words()[0].startswith(f"Best within 400 ms: {small}")
    assert found.command.endswith("--set image_size=32")


def test_too_many_parameters(data: Path, tmp_path: Path) -> None:
    models = [seeing(tmp_path / "small"), seeing(tmp_path / "large", name="cct_4_3x2_32")]
    found = recommended(data, models, max_params=0.3)
    assert [(row.status, row.name) for row in found.ranking.rows] == list(zip(("judged", "too large"), models))  # noqa: B905
    assert "M parameters" in (found.ranking.rows[1].reason or "")
    with pytest.raises(RecommendationError, match="name smaller models"):
        recommended(data, models, max_params=0.01)


def test_a_candidate_that_cannot_be_had_does_not_end_the_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    torn = seeing(tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    missing, good = f"local-dir:{tmp_path / 'missing'}", seeing(tmp_path / "good")
    found = recommended(data, ["levit_128s", torn, missing, "hf-hub:me/none", good], latency_ms=1e6)
    reasons = {row.name: row.reason or "" for row in found.ranking.rows[1:]}
    assert found.recommended.name == good
    assert "levit_128s.fb_dist_in1k is not in the cache and HF_HUB_OFFLINE is set" in reasons["levit_128s.fb_dist_in1k"]
    assert "model.safetensors" in reasons[torn]
    assert f"no directory {tmp_path / 'missing'}" in reasons[missing]
    assert "me/none is not in the cache" in reasons["hf-hub:me/none"]


def test_if_none_works_the_error_says_why_of_each_and_what_to_do(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecommendationError) as error:
        recommended(data, ["hf-hub:me/none", "hf-hub:me/other"], tmp_path / "out")
    first, *reasons, last = str(error.value).splitlines()
    assert first == "none of 2 candidates could be judged:"
    assert [line.split()[0] for line in reasons] == ["hf-hub:me/none:", "hf-hub:me/other:"]
    assert "--models local-dir:PATH" in last
    assert "hybridvit pull" in last
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecommendationError, match=r"too slow: .* ms\nraise latency_ms \(--latency-ms\)"):
        recommended(data, [seeing(tmp_path / "model")], latency_ms=1e-3)


def test_a_hub_that_does_not_answer_is_asked_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    models = ["levit_128s", *(f"hf-hub:me/none-{number}" for number in range(10))]
    found = recommended(data, [*models, seeing(tmp_path / "model")], progress=True)
    assert not constants.HF_HUB_OFFLINE
    reasons = [row.reason or "" for row in found.ranking.rows[1:]]
    assert len(reasons) == 11
    assert all(row.latency is None for row in found.ranking.rows[1:]), "no time is spent on what cannot be had"
    assert all("is not in the cache and the Hub cannot be reached; connect once" in reason for reason in reasons)
    assert "note: the Hub cannot be reached" in capsys.readouterr().err


def test_unsuitable_data_is_refused_before_any_model_is_built(tmp_path: Path, loaded: list[str]) -> None:
    with pytest.raises(DataError, match="too few to hold one out"):
        recommended(striped(tmp_path / "one", 1), [seeing(tmp_path / "model")])
    with pytest.raises(DataError, match="not found"):
        recommended(tmp_path / "none", [f"local-dir:{tmp_path / 'model'}"])
    assert loaded == []


def test_nothing_is_written_into_the_data(data: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    models = [seeing(tmp_path / "model")]
    with pytest.raises(RunDirectoryError, match="is in the data folder"):
        recommended(data, models, data / "out")
    recommended(data, models)
    assert sorted(data.rglob("*")) == before


def test_a_training_run_is_not_written_into(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").touch()
    with pytest.raises(RunDirectoryError, match="holds a training run"):
        recommended(data, [seeing(tmp_path / "model")], tmp_path / "run")


@pytest.mark.parametrize(
    ("option", "value"), [("latency_ms", 0), ("latency_ms", float("nan")), ("max_params", -1), ("candidates", 0)]
)
def test_limits_have_to_be_above_0(option: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{option} must be above 0, got {value}"):
        recommended(tmp_path, [], None, **{option: value})


def test_a_weight_file_is_loaded_to_know_what_it_is(data: Path, tmp_path: Path) -> None:
    seeing(tmp_path / "model")
    file, odd = tmp_path / "model" / "model.safetensors", tmp_path / "odd.safetensors"
    odd.write_bytes(b"nothing")
    found = recommended(data, [str(odd), str(file)])
    assert [(row.name, row.status) for row in found.ranking.rows] == [(str(file), "judged"), (str(odd), "failed")]
    assert found.recommended.linear.mean > 0.9
