"""The recipe of a user who names none."""

from __future__ import annotations

from .fields import Recipe

_SMALL_CHANGES = ("lora", "ssf")


def default_recipe(num_images: int, pretrained: bool = True, method: str = "full") -> Recipe:
    """What to use when the user names no recipe: the fewer the images, the more passes and the gentler the change.

    Batches are small enough that an epoch has at least about 20 steps. Methods that train few weights change all depths
    alike, at ten times the rate.
    """
    batch_size = next((size for size in (128, 64, 32, 16) if num_images >= 20 * size), 8)
    epochs = 30 if num_images < 2_000 else 20 if num_images < 20_000 else 10
    if not pretrained:
        return Recipe(
            method=method,
            epochs=3 * epochs,
            batch_size=batch_size,
            lr=1e-3 * batch_size / 128,
            ema_decay=0.999,
            calibrate=True,
        )
    small = method in _SMALL_CHANGES
    return Recipe(
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        lr=(10 if small else 1) * 5e-4 * batch_size / 128,
        layer_decay=1.0 if small else 0.75,
        probe_epochs=100 if method == "probe" else 20,
        drop_path=0.1,
        ema_decay=0.99 if num_images < 2_000 else 0.999,
        calibrate=True,
    )
