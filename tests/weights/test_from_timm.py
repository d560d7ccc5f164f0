"""Entries from timm's registry and figures from its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybridvit.families import family_names, load_family
from hybridvit.weights import from_timm
from hybridvit.weights.from_timm import reported, results, timm_entries, with_reported
from hybridvit.weights.writing import read
from hybridvit.zoo_path import zoo_path

AGAIN = "run `python -m hybridvit.weights.from_timm`"
TABLE = """model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation
a.b,288,81.5,18.5,95.25,4.75,"1,014.45",1.000,bicubic
a.b,224,80.5,19.5,95.0,5.0,"1,014.45",0.900,bicubic
"""


@pytest.mark.parametrize("family", family_names())
def test_entries_are_what_timm_says_now(family: str) -> None:
    written = read(zoo_path() / f"{family}.toml")
    expected = timm_entries(list(load_family(family).sizes)) if "timm" in load_family(family).layouts else {}
    ours = {name: entry for name, entry in written.items() if from_timm.is_timms(name, entry, expected)}
    plain = {name: {key: value for key, value in entry.items() if value != {}} for name, entry in expected.items()}
    for name, entry in plain.items():
        entry |= {key: value for key, value in written.get(name, {}).items() if key in ("reported", "measured")}
    assert json.loads(json.dumps(ours)) == json.loads(json.dumps(plain)), AGAIN


def test_where_files_lie() -> None:
    found = timm_entries(
        ["gcvit_tiny", "fastvit_mci0", "vit_huge_patch14_gap_224", "davit_base_fl", "vitamin_small_224"]
    )
    gcvit = found["gcvit_tiny.in1k"]
    assert gcvit["source"].startswith("url:https://github.com/")
    assert (gcvit["sha256"], gcvit["licence"]) == ("ac783954", "cc-by-nc-sa-4.0")
    assert found["fastvit_mci0.apple_mclip"]["source"] == "hf:apple/mobileclip_s0_timm", "rather than the address"
    assert found["vit_huge_patch14_gap_224.in1k_ijepa"]["prefix"] == "encoder.module."
    assert "sha256" not in found["vit_huge_patch14_gap_224.in1k_ijepa"]
    assert found["davit_base_fl.msft_florence2"]["covers"] == ["stages."]
    assert found["vitamin_small_224.datacomp1b_clip"]["layout"] == "open_clip"


def test_figures_are_those_at_the_own_size_or_tell_another(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    rows = results(tmp_path / "results.csv")["a.b"]
    assert reported(rows, (288, 288)) == {"top1": 81.5, "top5": 95.25, "source": "timm-results"}
    assert reported(rows, (256, 256)) == {"top1": 80.5, "top5": 95.0, "img_size": 224, "source": "timm-results"}


def test_without_a_table_figures_stay(tmp_path: Path) -> None:
    old: dict[str, Any] = {"a.b": {"reported": {"top1": 1.0, "source": "timm-results"}}, "a.c": {}}

    def fresh() -> dict[str, dict[str, Any]]:
        return {name: {"preprocess": {}} for name in ("a.b", "a.c", "a.new")}

    kept = with_reported(fresh(), old, None)
    assert [entry.get("reported") for entry in kept.values()] == [old["a.b"]["reported"], None, None]
    (tmp_path / "results.csv").write_text(TABLE)
    anew = with_reported(fresh(), old, results(tmp_path / "results.csv"))
    assert anew["a.b"]["reported"]["top1"] == 80.5


def test_what_is_not_timms_stays(tmp_path: Path) -> None:
    """Figures of others, what was measured and notes in its entries, and entries whose files lie under another name."""
    (tmp_path / "results.csv").write_text(TABLE)
    kept = {"reported": {"top1": 1.0, "source": "paper"}, "measured": {"top1": 2.0}, "note": "seen"}
    (entry,) = with_reported({"a.b": {"preprocess": {}}}, {"a.b": kept}, results(tmp_path / "results.csv")).values()
    assert entry == {"preprocess": {}} | kept
    assert not from_timm.is_timms("a.mine", {"source": "hf:timm/a.b"}, {"a.b": {}})
    assert from_timm.is_timms("a.gone", {"source": "hf:timm/a.gone"}, {"a.b": {}})


def test_the_script_notes_which_table_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reported.json", "vit_parallel.toml"):
        (tmp_path / name).write_text((zoo_path() / name).read_text())
    (tmp_path / "labels").mkdir()
    (tmp_path / "results.csv").write_text(TABLE)
    monkeypatch.setattr(from_timm, "zoo_path", lambda: tmp_path)
    monkeypatch.setattr(from_timm, "family_names", lambda: ["vit_parallel"])
    from_timm.main([])
    assert (tmp_path / "vit_parallel.toml").read_text() == (zoo_path() / "vit_parallel.toml").read_text()
    from_timm.main(["--results", str(tmp_path / "results.csv"), "--commit", "abc", "--date", "2026-01-02"])
    noted = json.loads((tmp_path / "reported.json").read_text())["timm-results"]
    assert (noted["version"], noted["date"], "/blob/abc/" in noted["url"]) == ("abc", "2026-01-02", True)


def test_a_table_needs_its_commit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_timm.main(["--results", "results.csv"])
    assert "--results, --commit and --date belong together" in capsys.readouterr().err
