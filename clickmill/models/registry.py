"""The zoo by name. A model enrols here and nowhere else; tests/clickmill/models/test_laws.py runs over this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from clickmill.errors import UsageError
from clickmill.features import FeatureSpace
from clickmill.models import dcn, dcn_v2, dien, din, dlrm, fm, lr, wide_deep
from clickmill.models.config import ModelConfig, RowDefaults

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ModelEntry:
    """One model: its configuration, its builder, where it comes from."""

    name: str
    config: type[ModelConfig]
    build: Callable[[FeatureSpace, Any, int], keras.Model]
    paper: str
    summary: str
    row_defaults: Callable[[FeatureSpace], RowDefaults] = lambda space: RowDefaults()
    """How its embedding rows are trained by default."""


MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            "lr",
            lr.LRConfig,
            lr.build,
            "McMahan et al., KDD 2013",
            "Logistic regression: one weight per value. The baseline.",
        ),
        ModelEntry(
            "fm",
            fm.FMConfig,
            fm.build,
            "Rendle, ICDM 2010",
            "Factorization machine: all pairs of fields.",
            fm.row_defaults,
        ),
        ModelEntry(
            "wide_deep",
            wide_deep.WideDeepConfig,
            wide_deep.build,
            "Cheng et al., DLRS 2016, arXiv:1606.07792",
            "Wide & Deep: linear memory beside a deep tower.",
        ),
        ModelEntry(
            "dcn",
            dcn.DCNConfig,
            dcn.build,
            "Wang et al., ADKDD 2017, arXiv:1708.05123",
            "Deep & Cross: crosses of a vector each beside a deep tower.",
        ),
        ModelEntry(
            "dcn_v2",
            dcn_v2.DCNv2Config,
            dcn_v2.build,
            "Wang et al., WWW 2021, arXiv:2008.13535",
            "Deep & Cross v2: explicit crosses beside a deep tower.",
        ),
        ModelEntry(
            "dlrm",
            dlrm.DLRMConfig,
            dlrm.build,
            "Naumov et al., 2019, arXiv:1906.00091",
            "DLRM: products of all pairs of vectors between two towers.",
        ),
        ModelEntry(
            "din",
            din.DINConfig,
            din.build,
            "Zhou et al., KDD 2018, arXiv:1706.06978",
            "Deep Interest Network: the history weighed by the candidate.",
        ),
        ModelEntry(
            "dien",
            dien.DIENConfig,
            dien.build,
            "Zhou et al., AAAI 2019, arXiv:1809.03672",
            "Deep Interest Evolution Network: the history as a sequence, towards the candidate.",
        ),
    )
}
"""The models by name, the simplest first."""


def configure(name: str, config: ModelConfig | dict[str, Any] | None = None) -> ModelConfig:
    """The typed configuration of a model from a mapping, or its defaults. Raises UsageError for an unknown model or key."""
    if name not in MODELS:
        raise UsageError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    wanted = MODELS[name].config
    if isinstance(config, wanted):
        return config
    if isinstance(config, ModelConfig):
        raise UsageError(f"model `{name}` takes a {wanted.__name__}; got a {type(config).__name__}")
    try:
        return wanted.model_validate(config or {})
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()
        )
        known = ", ".join(wanted.model_fields) or "none"
        raise UsageError(f"configuration of model `{name}`: {told}. It knows: {known}") from error


def build(
    name: str, space: FeatureSpace, config: ModelConfig | dict[str, Any] | None = None, *, seed: int = 0
) -> keras.Model:
    """A model with fresh weights: inputs as the encoder gives them, output (b,) float32 logits = f(x) + g(position).

    The same seed gives the same weights. Raises UsageError for an unknown model or configuration.
    """
    typed = configure(name, config)
    return MODELS[name].build(space, typed, seed)
