"""The one container image in which every step runs, named in one place."""

import os
import re

from clickmill import __version__
from clickmill.errors import UsageError

DEFAULT_IMAGE = f"clickmill/steps-python:{__version__}"
"""Holds Python, the library, `components` and kfp. The name says python because kfp.local warns about any other."""

IMAGE = os.environ.get("CLICKMILL_IMAGE", DEFAULT_IMAGE)
"""What the components carry unless `pipelines.ctr.compile_pipeline(image=...)` says otherwise; the variable is read once, at import."""

_REFERENCE = re.compile(r"[a-z0-9][\w.\-/:]*(@sha256:[0-9a-f]{64})?")


def checked(image: str) -> str:
    """`image` as it came. Raises UsageError when it is no image reference."""
    if not _REFERENCE.fullmatch(image):
        raise UsageError(
            f"image {image!r}: not a container image reference; write for example 'registry.example/ads/{DEFAULT_IMAGE}'"
        )
    return image
