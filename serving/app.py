"""KServe's HTTP application around one model: health, readiness, metadata and metrics, with our answers to errors."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from clickmill.errors import ClickmillError
from serving import openapi
from serving.kserve_parts import (
    DataPlane,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ModelRepositoryExtension,
    ServerNotReady,
    metrics_handler,
    register_v1_endpoints,
    register_v2_endpoints,
)
from serving.predictor import BundleModel
from serving.refusals import MalformedRequest, NotReady, UnknownModel, body_of, refusal_of


class BundleDataPlane(DataPlane):
    """KServe's data plane, telling the truth about readiness: the stock one is always ready."""

    async def ready(self) -> bool:
        """Every model has a warm bundle, and the server does not drain."""
        models = self.model_registry.get_models().values()
        return bool(models) and all([await model.healthy() for model in models])

    def decode(self, *arguments: Any, **options: Any) -> Any:
        """The payload of a CloudEvent and its attributes. Raises InvalidInput for one that cannot be read.

        The stock reader raises whatever it stumbles over (no data, headers of half an event, JSON that breaks off): it reads nothing
        but the request, so that the request is what is wrong.
        """
        try:
            return super().decode(*arguments, **options)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(f"the CloudEvent cannot be read: {type(error).__name__}: {error}") from error

    def metadata(self) -> dict[str, Any]:
        """Server metadata; the binary tensor extension is what we add, the repository extension what we do not offer."""
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Metadata with the version in service. Raises ModelNotFound and NotReady."""
        found = await super().model_metadata(model_name)
        model = self.get_model_from_registry(model_name)
        assert isinstance(model, BundleModel)
        return {**found, "platform": "tensorflow_savedmodel", "versions": [model.in_service.version]}


def build(data_plane: DataPlane) -> FastAPI:
    """An application of its own: KServe's is a global that gathers the routes of every server of the process."""
    app = FastAPI(title="Clickmill endpoint", openapi_url=None, docs_url=None, redoc_url=None)
    root = APIRouter()
    root.add_api_route("/", data_plane.live)
    root.add_api_route("/metrics", metrics_handler, methods=["GET"], response_model=None)
    root.add_api_route("/openapi.json", lambda: JSONResponse(_described(data_plane)))
    root.add_api_route("/docs", lambda: HTMLResponse(openapi.as_page(_described(data_plane))))
    app.include_router(root)
    repository = ModelRepositoryExtension(data_plane.model_registry)
    register_v1_endpoints(app, data_plane, repository)
    register_v2_endpoints(app, data_plane, repository)
    for kind in (
        ClickmillError,
        InvalidInput,
        ModelNotFound,
        ModelNotReady,
        ServerNotReady,
        NotImplementedError,
    ):
        app.add_exception_handler(kind, _answer)
    return app


def _described(data_plane: DataPlane) -> dict[str, Any]:
    """The OpenAPI document of the bundle in service. Raises NotReady before the first one."""
    (model,) = data_plane.model_registry.get_models().values()
    assert isinstance(model, BundleModel)
    scorer = model.in_service.scorer
    return openapi.describe(scorer.contract, model_name=model.name, limits=model.limits, digest=scorer.digest)


async def _answer(request: Request, error: Exception) -> Response:
    """One form of refusal for KServe's errors and ours. KServe's handlers log a trace for every poll before ready."""
    if isinstance(error, InvalidInput):
        error = MalformedRequest(str(error))
    elif isinstance(error, ModelNotFound):
        error = UnknownModel(str(error))
    elif isinstance(error, ModelNotReady | ServerNotReady):
        error = NotReady(str(error))
    elif isinstance(error, NotImplementedError):
        error = UnknownModel(str(error))  # KServe's metadata and health do not know versions
    import orjson

    return JSONResponse(status_code=refusal_of(error).http, content=orjson.loads(body_of(error)))
