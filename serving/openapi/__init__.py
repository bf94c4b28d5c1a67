"""The REST side as an OpenAPI 3.1 document, and as a page to read. May import `clickmill` and the light parts of `serving` (no kserve, no TensorFlow).

Whatever speaks of fields is made from the contract of the bundle, whatever speaks of limits from `serving.limits`.
"""

from serving.openapi.document import document
from serving.openapi.page import page

__all__ = ["document", "page"]
