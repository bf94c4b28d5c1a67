"""A bundle as an object: what it says of itself, and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from clickmill.bundle import golden, priors, reference, requests, twin, warmup
from clickmill.bundle import manifest as manifests
from clickmill.bundle.calibration_report import REPORT, CalibrationReport
from clickmill.bundle.export import RANKING
from clickmill.bundle.graph import ClickGraph
from clickmill.bundle.manifest import Manifest
from clickmill.bundle.priors import Priors
from clickmill.bundle.twin import Twin
from clickmill.calibration import Calibration
from clickmill.contract import FeatureContract
from clickmill.contract import load as load_contract
from clickmill.errors import BundleCorrupt, BundleError
from clickmill.evaluation import Evaluation
from clickmill.features.texts import Column

if TYPE_CHECKING:
    from clickmill.training import TrainedModel

CONTRACT, CALIBRATION, METRICS = "contract.yaml", "calibration.json", "metrics.json"
TRAINING = "training"
"""The trained model in float32, as `TrainedModel.save` writes it: where the next run's warm start begins. Endpoints do not read it."""
SAVED_MODEL = "model/1"
"""`model/` is a base path of TensorFlow Serving, and 1 its version there."""


Engine = Literal["twin", "savedmodel"]
"""What runs the graph: ONNX Runtime the twin, TensorFlow the SavedModel."""


def load(
    path: str | Path, *, verify: bool = True, in_caller_thread: bool = False, engine: Engine = "savedmodel"
) -> Bundle:
    """Open a bundle. With `verify` every byte is checked first; without, only the manifest's own seal.

    `in_caller_thread` is how the graph will run (see ClickGraph): true for endpoints. With engine `twin` the twin answers, without
    TensorFlow, where the bundle has one. The graph is loaded at the first prediction. Raises BundleCorrupt, and BundleError when there is no bundle.
    """
    folder = Path(path)
    manifest = manifests.verify(folder) if verify else manifests.read(folder)
    return Bundle(folder, manifest, in_caller_thread=in_caller_thread, engine=engine)


class Bundle:
    """An immutable folder made by `write`. Files are read when they are asked for."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        in_caller_thread: bool = False,
        engine: Engine = "savedmodel",
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._in_caller_thread = in_caller_thread
        self.engine: Engine = engine if twin.ROWS in manifest.files else "savedmodel"
        """What answers `predict` and `rank`."""

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.model.name}, digest {self.digest[:12]})"

    @property
    def digest(self) -> str:
        """Identity of the bundle."""
        return self.manifest.digest

    @property
    def name(self) -> str:
        """Name of the contract, also of the model endpoints serve it under."""
        return self.manifest.name

    @property
    def saved_model(self) -> Path:
        """Folder of the SavedModel."""
        return self.path / SAVED_MODEL

    @cached_property
    def contract(self) -> FeatureContract:
        """What a request must look like."""
        return load_contract(self.path / CONTRACT)

    @cached_property
    def calibration(self) -> Calibration:
        """Prior correction and calibrator: already inside the graph, here to be looked at."""
        return self._json(CALIBRATION, Calibration)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The model on its test split."""
        return self._json(METRICS, Evaluation)

    @cached_property
    def calibration_report(self) -> CalibrationReport:
        """What calibration did, and why this calibrator."""
        return self._json(REPORT, CalibrationReport)

    @cached_property
    def priors(self) -> Priors | None:
        """Click rates of ads, for when the graph cannot be asked; None in bundles older than the file."""
        return priors.read(self.path)

    @cached_property
    def golden_rows(self) -> int:
        """Number of golden predictions."""
        return int(pq.read_metadata(self.path / golden.GOLDEN).num_rows)

    @cached_property
    def graph(self) -> ClickGraph:
        """The loaded SavedModel."""
        return ClickGraph(self.saved_model, in_caller_thread=self._in_caller_thread)

    @cached_property
    def twin(self) -> Twin:
        """The loaded ONNX twin. Raises BundleError where the bundle has none."""
        if twin.ROWS not in self.manifest.files:
            facts = self.manifest.export
            reason = (facts and facts.no_twin) or "it was written before bundles had one"
            raise BundleError(
                f"{self.path}: has no ONNX twin: {reason}. Run its SavedModel (`--engine savedmodel`)."
            )
        return Twin(self.path, in_caller_thread=self._in_caller_thread)

    @property
    def _answering(self) -> ClickGraph | Twin:
        return self.twin if self.engine == "twin" else self.graph

    def predict(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """{"pctr": (n,), "logit": (n,)} float32 for raw rows as `features.tensors` makes them; one run of the graph.

        Raises RequestError for a missing field or one of the wrong type.
        """
        return self._answering(raw)

    @property
    def ranks(self) -> bool:
        """Whether `rank` can be asked: the contract has a field of the candidates, and the bundle is not older than the form."""
        return self._answering.ranks

    def rank(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """As `predict` for the n candidates of one request, whose shared fields (`features.sides`) have one row.

        Raises RequestError for a missing field or one of the wrong type, BundleError where `ranks` is false.
        """
        return self._answering.rank(raw)

    def check_golden(self, tolerance: float = golden.TOLERANCE) -> int:
        """Ask the graph for its golden predictions again, by rows and by request; returns how many there are.

        Raises GoldenMismatch naming the row that moved most, what was expected and what came.
        """
        rows = golden.check(self.path, self.contract, self.predict, tolerance=tolerance)
        if self.ranks:
            raw = golden.read(self.path, self.contract)
            requests.check(self.path, raw, self.contract, self.predict, self.rank, tolerance=tolerance)
        return rows

    def trained(self) -> TrainedModel:
        """The model before export: what a warm start begins with. Raises BundleError where the bundle holds none."""
        from clickmill.training import TrainedModel

        if not (self.path / TRAINING).is_dir():
            raise BundleError(
                f"{self.path}: holds no `{TRAINING}` folder, so nothing can start from it; train from scratch (no warm start)"
            )
        return TrainedModel.load(self.path / TRAINING)

    def warm(self) -> None:
        """Run every warm-up request once: the first run of each batch size plans and allocates."""
        for request in warmup.read(self.saved_model):
            ask = self.rank if request.model_spec.signature_name == RANKING else self.predict
            ask(warmup.raw_of(request))

    def reference(self) -> pa.Table:
        """The drift reference: columns of the contract of up to 50,000 calibration rows, and their pctr."""
        return reference.read(self.path)

    def _json(self, name: str, kind: type[Any]) -> Any:
        path = self.path / name
        assert issubclass(kind, BaseModel), "bundles hold pydantic records"
        try:
            return kind.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise BundleCorrupt(f"{path}: cannot be read as {kind.__name__}: {error}") from error
