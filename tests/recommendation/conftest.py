"""As for training: small models gain nothing from threads."""

from tests.transfer.conftest import _one_thread

__all__ = ["_one_thread"]
