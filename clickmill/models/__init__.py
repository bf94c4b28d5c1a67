"""Models: from encoder outputs to one logit per impression, one file per paper; no training in here.

Imports `clickmill.features`, `clickmill.contract` and `clickmill.errors`. Keras is loaded only when a model is built.
"""

from typing import TYPE_CHECKING, Any

from clickmill.models.config import DeepConfig, EmbeddingConfig, ModelConfig
from clickmill.models.dcn import DCNConfig
from clickmill.models.dcn_v2 import DCNv2Config
from clickmill.models.dien import DIENConfig
from clickmill.models.din import DINConfig
from clickmill.models.dlrm import DLRMConfig
from clickmill.models.fm import FMConfig
from clickmill.models.lr import LRConfig
from clickmill.models.registry import MODELS, ModelEntry, build, configure
from clickmill.models.wide_deep import WideDeepConfig

if TYPE_CHECKING:
    from clickmill.models.request import request_form

__all__ = [
    "MODELS",
    "DCNConfig",
    "DCNv2Config",
    "DIENConfig",
    "DINConfig",
    "DLRMConfig",
    "DeepConfig",
    "EmbeddingConfig",
    "FMConfig",
    "LRConfig",
    "ModelConfig",
    "ModelEntry",
    "WideDeepConfig",
    "build",
    "configure",
    "request_form",
]


def __getattr__(name: str) -> Any:
    if name == "request_form":
        from clickmill.models.request import request_form

        return request_form
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
