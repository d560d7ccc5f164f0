"""A Hub on the loopback address: the real huggingface_hub client pushes to it and pulls from it over HTTP.

with LoopbackHub(Path("hub")) as hub:
    HfApi(endpoint=hub.endpoint, token=hub.token).create_repo("me/model")
"""

from hybridvit.hub.server import LoopbackHub

__all__ = ["LoopbackHub"]
