"""Models: from encoder outputs to one logit per impression, one file per paper; no training in here.

Imports `clickmill.features`, `clickmill.contract` and `clickmill.errors`. Keras is loaded only when a model is built.
"""

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
]
