"""The same Hub for a test, and the same client of it, as the Hub's own tests have."""

from tests.hub.conftest import api, loopback_hub, run_client

__all__ = ["api", "loopback_hub", "run_client"]
