"""Measurements whose results are committed with the documentation."""
