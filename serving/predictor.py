"""The model behind the endpoint: one bundle in service at a time, asked through V1, V2 or gRPC, by one set of rules.

A request takes its reference to the bundle once, at its start, and is validated, scored and labelled with that one;
a swap is one assignment, so whatever is in flight ends on the bundle it began on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import orjson

from clickmill.errors import RequestError
from clickmill.features.sides import by_rows
from clickmill.features.texts import arrays
from clickmill.prediction_log import Answered, Chances
from serving import named_tensor, ranked_tensors, v1, v2, v2_grpc
from serving.in_service import HEADER_DIGEST, HEADER_VERSION, InService, Raw, Scorer, Scores
from serving.kserve_parts import (
    PREDICT_HIST_TIME,
    InferOutput,
    InferRequest,
    InferResponse,
    InvalidInput,
    kserve,
    pb,
)
from serving.limits import Limits
from serving.log_sinks import LogSink
from serving.metrics import Metrics, process_metrics
from serving.named_tensor import NamedTensor
from serving.refusals import NotFinite, NotReady, UnknownModel
from serving.stages import Stage, about, timed
from serving.standby import Standby

if TYPE_CHECKING:
    from clickmill.bundle import Priors

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Answer:
    """Body of an HTTP answer; `json_length` where buffers follow the JSON."""

    body: bytes
    headers: dict[str, str]
    json_length: int | None = None


@dataclass(frozen=True)
class Question(Generic[Reply]):
    """A request that kept every rule: what is left is to score `raw` on the bundle it was checked against, and to write the reply."""

    served: InService
    raw: Raw
    rows: int
    reply: Callable[[Scores], Reply]
    request_id: str | None = None
    impression_ids: Sequence[str | None] | None = None
    """Of each row, where the caller sent them; they go to the prediction log and nowhere else."""
    ranks: bool = False
    """Whether `raw` has one row of the shared fields, and is scored by `Scorer.rank`."""


class BundleModel(kserve.Model):
    """KServe model over a bundle. Runs in our server and, more slowly, in a stock `kserve.ModelServer`."""

    def __init__(self, name: str, *, limits: Limits | None = None, metrics: Metrics | None = None) -> None:
        super().__init__(name, return_response_headers=True)
        self.limits = limits or Limits()
        self.metrics = metrics or process_metrics()
        self.draining = False
        self.log: LogSink | None = None
        self.standby: Standby | None = None
        """What rankings fall back on; there before the first bundle is."""
        self._in_service: InService | None = None
        self._predictions = self.metrics.predictions.labels(name)
        self._candidates = self.metrics.candidates.labels(name)
        self._predict_seconds = PREDICT_HIST_TIME.labels(model_name=name)
        self.metrics.ready.labels(name).set(0)

    @property
    def in_service(self) -> InService:
        """The bundle that answers now. Raises NotReady before the first one."""
        served = self._in_service
        if served is None:
            raise NotReady(
                f"model {self.name} is not ready: its bundle is still being loaded and warmed; try again"
            )
        return served

    def swap(self, scorer: Scorer, version: str, priors: Priors | None = None) -> None:
        """Put a verified and warm bundle in service, with its click rates. Raises nothing and blocks nobody."""
        former = self._in_service
        if priors is not None:
            self.standby = Standby.of(scorer.contract, priors, scorer.digest, version)
        self._in_service = InService(scorer, version, priors)
        self.ready = True
        metrics = self.metrics
        if former is not None:
            metrics.bundle_info.remove(self.name, former.scorer.digest, former.version)
        metrics.bundle_info.labels(self.name, scorer.digest, version).set(1)
        metrics.bundle_loaded.labels(self.name).set_to_current_time()
        metrics.reloads.labels(self.name).inc()
        metrics.ready.labels(self.name).set(not self.draining)

    def drain(self) -> None:
        """Say not ready from now on; requests are still answered."""
        self.draining = True
        self.metrics.ready.labels(self.name).set(0)

    async def healthy(self) -> bool:
        """Ready: a bundle is in service and the server does not drain."""
        return self._in_service is not None and not self.draining

    def load(self) -> bool:
        """Nothing to do when KServe asks: the watcher loads bundles."""
        return self._in_service is not None

    def start(self) -> None:
        """KServe would say ready here; the watcher says it, when a bundle is warm."""

    def get_input_types(self) -> list[dict[str, Any]]:
        """Inputs by the contract, for the model metadata."""
        return v2.input_types(self.in_service.scorer.contract)

    def get_output_types(self) -> list[dict[str, Any]]:
        """Outputs of every bundle."""
        return v2.output_types()

    def answer(self, question: Question[Reply]) -> Reply:
        """Score a question and write its reply. Raises NotFinite."""
        score = self.rank if question.ranks else self.score
        return self._replied(question, score(question.served, question.raw, question.rows))

    def reply(self, question: Question[Reply], scores: Scores) -> Reply:
        """Write the reply to a question whose scores come from a run shared with others. Raises NotFinite."""
        self._count(question.served, question.rows, scores)
        return self._replied(question, scores)

    def _replied(self, question: Question[Reply], scores: Scores) -> Reply:
        about(request_id=question.request_id)
        served, request_id = question.served, question.request_id
        with timed(Stage.REPLY):
            if question.ranks:
                self.note_ranking(served, question.raw, scores, request_id)
            else:
                self.note(served, question.raw, scores, request_id, question.impression_ids)
            return question.reply(scores)

    def note_ranking(
        self,
        served: InService,
        raw: Raw,
        scores: Scores,
        request_id: str | None,
        impression_ids: Sequence[str | None] | None = None,
        arm: str | None = None,
        chances: Callable[[int], Chances] | None = None,
    ) -> None:
        """As `note`, for a request of shared fields and candidates; its rows, and the chances of so many, are only made where they are logged."""
        request_id = request_id or uuid.uuid4().hex
        if self.log is not None and self.log.wants(request_id):
            n = len(scores["pctr"])
            rows = by_rows(raw, served.ranking_form.shared, n)
            self.note(
                served, rows, scores, request_id, impression_ids, arm, None if chances is None else chances(n)
            )

    def note(
        self,
        served: InService,
        raw: Raw,
        scores: Scores,
        request_id: str | None,
        impression_ids: Sequence[str | None] | None = None,
        arm: str | None = None,
        chances: Chances | None = None,
    ) -> None:
        """Offer an answer to the prediction log, where there is one; a request that names no id gets one."""
        if self.log is None:
            return
        request_id = request_id or uuid.uuid4().hex
        if not self.log.wants(request_id):
            return
        answered = Answered(
            request_id=request_id,
            time_us=time.time_ns() // 1000,
            model=self.name,
            bundle=served.scorer.digest,
            raw=arrays(raw),
            pctr=scores["pctr"],
            logit=scores["logit"],
            impression_ids=impression_ids,
            arm=arm,
            chances=chances,
        )
        self.log.offer(answered, served.scorer.contract)

    def ask_v1(self, body: bytes, request_id: str | None = None) -> Question[Answer]:
        """Read and check a V1 JSON body. Raises RequestError and NotReady."""
        served = self.in_service
        rows, raw = v1.read(v1.parse_json(body), served.scorer.contract, self.limits)
        name = served.impression_id
        ids = [_id(row.get(name)) for row in rows] if self.log is not None and name else None

        def reply(scores: Scores) -> Answer:
            return Answer(orjson.dumps(v1.predictions(scores["pctr"], scores["logit"])), served.headers)

        return Question(served, raw, len(rows), reply, request_id, ids)

    def ask_v2(self, body: bytes, json_length: int | None, version: str | None = None) -> Question[Answer]:
        """Read and check a V2 body, JSON or binary. Raises RequestError, NotReady and UnknownModel (version)."""
        served = self.of_version(version)
        request = v2.parse(body, json_length)
        ranks = ranked_tensors.is_ranking(request.signature)
        form = served.sides if ranks else served.form
        raw, rows = v2.checked(request.tensors, form, self.limits, data=".data")

        def reply(scores: Scores) -> Answer:
            text, length = v2.answer(
                request,
                scores,
                model_name=self.name,
                model_version=served.version,
                digest=served.scorer.digest,
            )
            return Answer(text, served.headers, length)

        ids = None if ranks else self._ids(served, request.tensors)
        return Question(served, raw, rows, reply, request.id, ids, ranks)

    def ask_grpc(self, request: pb.ModelInferRequest) -> Question[pb.ModelInferResponse]:
        """Read and check a V2 gRPC message. Raises RequestError, NotReady and UnknownModel (version)."""
        served = self.of_version(request.model_version)
        v2.requested([output.name for output in request.outputs])
        named = v2_grpc.tensors_of(request)
        ranks = ranked_tensors.is_ranking(v2_grpc.signature_of(request))
        raw, rows = v2.checked(named, served.sides if ranks else served.form, self.limits)

        def reply(scores: Scores) -> pb.ModelInferResponse:
            return v2_grpc.answer(
                request,
                scores,
                model_name=self.name,
                model_version=served.version,
                digest=served.scorer.digest,
            )

        ids = None if ranks else self._ids(served, named)
        return Question(served, raw, rows, reply, request.id or None, ids, ranks)

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """KServe's own path (stock server, CloudEvents). Raises kserve's InvalidInput where we raise RequestError."""
        served = self.in_service
        if response_headers is not None:
            response_headers.update(served.headers)
        try:
            if isinstance(payload, InferRequest):
                return self._stock_v2(served, payload)
            rows, raw = v1.read(payload, served.scorer.contract, self.limits)
            scores = self.score(served, raw, len(rows))
            return v1.predictions(scores["pctr"], scores["logit"])
        except RequestError as error:
            raise InvalidInput(str(error)) from error

    async def postprocess(
        self,
        result: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> Any:
        """Nothing to add."""
        return result

    def of_version(self, version: str | None) -> InService:
        """The bundle in service if it is of this version or digest, or no version is asked for. Raises NotReady, UnknownModel."""
        served = self.in_service
        if version and version not in (served.version, served.scorer.digest):
            raise UnknownModel(f"model {self.name} serves version {served.version} now, not {version}")
        return served

    def _ids(self, served: InService, named: list[NamedTensor]) -> list[str | None] | None:
        """The impressions' ids among the tensors, for the log."""
        if self.log is None or served.impression_id is None:
            return None
        found = next((tensor for tensor in named if tensor.name == served.impression_id), None)
        return None if found is None else [_id(value) for value in found.values.tolist()]

    def score(
        self, served: InService, raw: Raw, rows: int, ask: Callable[[Raw], Scores] | None = None
    ) -> Scores:
        """Scores of checked rows, counted and timed; `ask` stands in for the scorer's `predict`. Raises NotFinite."""
        start = time.perf_counter()
        with timed(Stage.SCORE):
            scores = (ask or served.scorer.predict)(raw)
        self.observe_run(time.perf_counter() - start)
        self._count(served, rows, scores)
        return scores

    def rank(self, served: InService, raw: Raw, rows: int) -> Scores:
        """As `score`, for the n candidates of one request, whose shared fields have one row. Raises NotFinite.

        A bundle that takes no request as such (it is older, or no field tells its candidates apart) is asked by rows.
        """

        def without_form(raw: Raw) -> Scores:
            return served.scorer.predict(by_rows(raw, served.ranking_form.shared, rows))

        return self.score(served, raw, rows, served.scorer.rank if served.scorer.ranks else without_form)

    def observe_run(self, seconds: float) -> None:
        """Note how long a run of the graph took."""
        self._predict_seconds.observe(seconds)

    def _count(self, served: InService, rows: int, scores: Scores) -> None:
        about(bundle=served.scorer.digest, rows=rows)
        pctr = scores["pctr"]
        if not np.isfinite(pctr).all():
            broken = int((~np.isfinite(pctr)).sum())
            self.metrics.not_finite.labels(self.name).inc(broken)
            raise NotFinite(f"{broken} of {rows} predictions of bundle {served.version} are not finite")
        self._candidates.observe(rows)
        self._predictions.inc(rows)
        self.metrics.pctr.observe(pctr, self.name, served.scorer.digest[:12])

    def _stock_v2(self, served: InService, request: InferRequest) -> InferResponse:
        named = []
        for item in request.inputs:
            data = item.data
            if data is None or item._raw_data is not None:
                buffer = item._raw_data or b""
                named += named_tensor.from_buffers(
                    [(len(named), item.name, item.datatype, tuple(item.shape), buffer)]
                )
            elif data and type(data[0]) is bytes:  # BYTES off gRPC; text off JSON is str
                named.append(
                    NamedTensor(item.name, item.datatype, tuple(item.shape), named_tensor.objects(data))
                )
            else:
                named.append(named_tensor.from_list(item.name, item.datatype, item.shape, data))
        raw, rows = v2.checked(named, served.form, self.limits)
        scores = self.score(served, raw, rows)
        outputs = [InferOutput(name, [len(scores[name])], "FP32", scores[name]) for name in v2.OUTPUTS]
        return InferResponse(
            response_id=request.id or "",
            model_name=self.name,
            model_version=served.version,
            infer_outputs=outputs,
            requested_outputs=request.request_outputs,
            use_binary_outputs=request.use_binary_outputs,
        )


def _id(value: Any) -> str | None:
    """An impression's id as the log keeps it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None else str(value)


__all__ = [
    "HEADER_DIGEST",
    "HEADER_VERSION",
    "Answer",
    "BundleModel",
    "InService",
    "Question",
    "Raw",
    "Scorer",
    "Scores",
]
