"""Look into a model: its parts, what they cost, and where it looks."""

from .class_activation import class_maps, overlay

__all__ = ["class_maps", "overlay"]
