"""Weights: where they come from, how they are read, saved, described and shared."""
