"""The REST side as an OpenAPI 3.1 document, and as a page to read. May import `clickmill` and the light parts of `serving` (no kserve, no TensorFlow).

Whatever speaks of fields is made from the contract of the bundle, whatever speaks of limits from `serving.limits`.
"""

from serving.openapi.document import describe
from serving.openapi.page import as_page

__all__ = ["as_page", "describe"]
