"""A Hub that does not answer costs one wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from hybridvit.hub import LoopbackHub
from hybridvit.weights.transport import offline_if_unreachable


def test_inside_nobody_is_asked_if_the_hub_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with offline_if_unreachable() as unreachable:
        assert unreachable
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_nothing_changes_if_it_answers_or_is_not_to_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub(tmp_path) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        with offline_if_unreachable() as unreachable:
            assert not unreachable
            assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with offline_if_unreachable() as unreachable:
        assert not unreachable
    assert constants.HF_HUB_OFFLINE
