"""Which model suits some images: judged by its features and its latency, before anything is trained."""

from .failures import RecommendationError
from .ranking import Ranking, Row
from .result import Recommendation
from .run import recommend

__all__ = ["Ranking", "Recommendation", "RecommendationError", "Row", "recommend"]
