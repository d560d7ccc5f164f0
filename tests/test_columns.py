"""Plain columns: widths shared by all tables, and folded to the terminal."""

from __future__ import annotations

import pytest

from hybridvit.columns import columns

HEADER = ("model", "size", "family")
TABLES = {"one": [("abcdefghij", "1", "klmnopqrst")], "two": [("a", "1024", "k")]}


def test_all_tables_have_the_same_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert columns(HEADER, TABLES) == {
        "one": ["model      size family", "abcdefghij    1 klmnopqrst"],
        "two": ["model      size family", "a          1024 k"],
    }


def test_outer_columns_are_folded_where_the_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "18")
    assert columns(HEADER, TABLES)["one"] == [
        "model    size fami",
        "              ly",
        "abcdefgh    1 klmn",
        "ij            opqr",
        "              st",
    ]
