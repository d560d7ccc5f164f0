"""Fine-tuning of all weights, but those of the layers that the recipe freezes."""

from .base import Method


class Full(Method):
    """Trains what is not frozen."""
