"""Hybrid CNN-Transformer image models on one shared encoder."""

__version__ = "0.1.0"
