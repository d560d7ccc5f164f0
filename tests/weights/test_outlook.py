"""What weights will make, told without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.weights import resolve
from hybridvit.weights.outlook import Outlook, outlook
from hybridvit.weights.sources import WeightsNotFoundError
from tests.weights.examples import tiny


def of(model: Encoder, licence: str) -> Outlook:
    return Outlook(model.spec, model.preprocess, licence)


def test_it_is_what_the_load_gives(tmp_path: Path) -> None:
    saved = hv.save_pretrained(tiny(), tmp_path / "saved")
    assert outlook(f"local-dir:{saved}") == of(hv.create_model(f"local-dir:{saved}"), "mit")
    assert outlook("cct_2_3x2_32.fmnist") == of(hv.create_model("cct_2_3x2_32.fmnist", pretrained=True), "apache-2.0")
    (saved / "model.safetensors").unlink()
    assert outlook(f"local-dir:{saved}") is not None


def test_of_a_repository_of_timm_s(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architecture": "levit_128s",
                "num_classes": 7,
                "pretrained_cfg": {"input_size": [3, 256, 256], "mean": [0.5] * 3, "std": [0.5] * 3, "license": "mit"},
            }
        )
    )
    ahead = outlook(f"local-dir:{tmp_path}")
    assert ahead is not None
    assert ahead.spec.num_classes == 7
    assert ahead.preprocess is not None
    assert (ahead.preprocess.input_size, ahead.licence) == ((256, 256), "mit")


def test_where_only_the_weights_tell_there_is_none(tmp_path: Path) -> None:
    saved = hv.save_pretrained(tiny(), tmp_path / "saved")
    assert outlook(str(saved / "model.safetensors")) is None
    (saved / "config.json").write_text("{}")
    assert outlook(f"local-dir:{saved}") is None
    with pytest.raises(WeightsNotFoundError, match="no directory"):
        outlook(f"local-dir:{tmp_path / 'none'}")


def test_of_a_repository_the_config_alone_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    asked: list[str] = []
    with LoopbackHub(tmp_path / "hub") as hub:
        hv.push_to_hub(model, "me/model", endpoint=hub.endpoint, token=hub.token)
        options = {"endpoint": hub.endpoint, "token": hub.token, "cache_dir": tmp_path / "cache"}
        hub_files = resolve.hub_files
        monkeypatch.setattr(resolve, "hub_files", lambda name, **_: hub_files(name, **options))
        got = resolve.HubFiles.get
        monkeypatch.setattr(resolve.HubFiles, "get", lambda files, name: asked.append(name) or got(files, name))
        ahead = outlook("hf-hub:me/model")
    assert ahead == of(model, "mit")
    assert asked == ["config.json"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name == "model.safetensors"]
