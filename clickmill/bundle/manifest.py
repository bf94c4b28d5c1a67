"""The manifest: what a bundle is made of, byte for byte, and where it came from.

    digest = sha256 over the lines "<sha256>  <path>\\n" of all files but manifest.json, by path
    seal   = sha256 over the manifest's own canonical JSON without the seal

The lines are those of coreutils, so the digest can be checked with no Clickmill at hand:

    find * -type f ! -path manifest.json | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from clickmill.errors import BundleCorrupt, BundleError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_BLOCK = 1 << 20
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Record(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    pass


class FileEntry(_Record):
    """One file of the bundle."""

    sha256: str = _SHA256
    """Of the file's bytes, in hex."""
    bytes: int = Field(ge=0)
    """Length of the file."""


class ModelFacts(_Record):
    """What was trained, and how."""

    name: str
    """Name in the registry of models (lr, fm, wide_deep, dcn_v2)."""
    config: dict[str, Any]
    """Hyperparameters of the model."""
    training: dict[str, Any]
    """Settings of the training run."""


class ExportFacts(_Record):
    """How the embedding rows are stored in the graph, and what that cost."""

    rows: str
    """float32, bfloat16 or int8."""
    table_bytes: int = Field(ge=0)
    """All tables as stored."""
    float32_bytes: int = Field(ge=0)
    """The same tables in float32."""
    ne_float32: float | None = None
    """NE on the test split with float32 rows; None where the rows are float32."""
    relative_ne_loss: float | None = None
    """NE of the rows as stored over that of float32 rows, minus 1."""
    no_twin: str | None = None
    """Why there is no ONNX twin; None where there is one."""


class SplitFacts(_Record):
    """Which rows a split holds."""

    start: AwareDatetime | None
    """Event time of its first row (UTC)."""
    end: AwareDatetime | None
    """Event time of its last row (UTC)."""
    rows: int = Field(ge=0)
    clicks: int = Field(ge=0)


class Lineage(_Record):
    """Where the bundle came from: enough to make it again."""

    data_digest: str
    """Digest of the prepared dataset."""
    contract_digest: str
    """Digest of the feature contract."""
    parent: str | None
    """Digest of the champion this bundle challenged; None for the first of its line."""
    training: str | None = None
    """Identity of the training run: sha256 over data, contract, model, settings and what it started from."""
    started_from: str | None = None
    """Identity of the training whose weights it began with: the `training` of another bundle; None when from scratch."""
    code_version: str
    """Version of the package, with the git commit where one is known: 0.1.0+g7839a89."""
    seed: int
    """Seed of the training run."""
    negatives_kept: float = Field(gt=0, le=1)
    """Share of non-clicks the train rows had kept, the source's own sampling included."""
    positive_weight: float = Field(gt=0)
    """Weight of a click in the loss (w+)."""
    splits: dict[str, SplitFacts]
    """The rows of train, validation, calibration and test."""


class Manifest(_Record):
    """The record at the root of a bundle (`manifest.json`)."""

    format_version: int = FORMAT_VERSION
    """Layout of the folder; a reader refuses a version it does not know."""
    name: str
    """Name of the contract, also of the model endpoints serve it under."""
    created: AwareDatetime
    """When the bundle was written (UTC)."""
    digest: str = _SHA256
    """sha256 over the sorted list of files: the identity of the bundle."""
    files: dict[str, FileEntry]
    """Every file but the manifest, by path relative to the bundle, with forward slashes."""
    model: ModelFacts
    export: ExportFacts | None = None
    """How the rows are stored in the graph; None in bundles older than this key."""
    lineage: Lineage
    versions: dict[str, str]
    """Libraries the bundle was written with: python, tensorflow, keras, numpy."""
    metrics: dict[str, float | None]
    """Summary on the test split: the figures a list of bundles shows."""

    def to_bytes(self) -> bytes:
        """The canonical file: sorted keys, two spaces, the seal last. The same manifest gives the same bytes."""
        body = self.model_dump(mode="json")
        return _pretty({**body, "seal": _seal(body)})


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """Identity of a set of files: sha256 over their sorted `sha256sum` lines.

    >>> digest_of({})
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    lines = (f"{entry.sha256}  {path}\n" for path, entry in sorted(files.items(), key=_byte_order))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def take_stock(folder: Path) -> dict[str, FileEntry]:
    """Hash every file under `folder` but the manifest. Raises BundleCorrupt for symlinks and odd files."""
    return {path: _entry(folder / path) for path in walk(folder) if path != MANIFEST}


def walk(folder: Path) -> Iterator[str]:
    """Paths of all regular files under `folder`, relative, with forward slashes.

    Raises BundleCorrupt for a symbolic link, a device or a socket: a bundle holds its own bytes.
    """
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_symlink():
            raise BundleCorrupt(
                f"{entry.path}: is a symbolic link to {os.readlink(entry.path)}; a bundle holds its own bytes. "
                "Copy the bundle again from where it was written."
            )
        if entry.is_dir(follow_symlinks=False):
            for inner in walk(Path(entry.path)):
                yield f"{entry.name}/{inner}"
        elif entry.is_file(follow_symlinks=False):
            yield entry.name
        else:
            raise BundleCorrupt(
                f"{entry.path}: is not a regular file; remove it and verify the bundle again."
            )


def read(folder: str | Path) -> Manifest:
    """The manifest of a bundle, checked against its own seal and digest; the other files are not read.

    Raises BundleError when the folder holds no bundle or a newer format, BundleCorrupt when the manifest was altered.
    """
    path = Path(folder) / MANIFEST
    if path.is_symlink():
        raise BundleCorrupt(f"{path}: is a symbolic link; a bundle holds its own bytes. {_AGAIN}")
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{folder}: holds no bundle: there is no {MANIFEST}. Give the folder `clickmill run` wrote, "
            "the one with manifest.json and model/ in it."
        ) from error
    try:
        body = json.loads(raw.decode())
    except ValueError as error:
        raise BundleCorrupt(f"{path}: is not valid JSON ({error}). {_AGAIN}") from error
    if not isinstance(body, dict):
        raise BundleCorrupt(f"{path}: must be a JSON object; got {type(body).__name__}. {_AGAIN}")
    version = body.get("format_version")
    seal = body.pop("seal", None)
    if seal != _seal(body):
        raise BundleCorrupt(f"{path}: was altered after it was written: its seal does not fit. {_AGAIN}")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: has format version {version}, this Clickmill reads version {FORMAT_VERSION}. "
            "Install the Clickmill the bundle names under `lineage.code_version`."
        )
    try:
        manifest = Manifest.model_validate(body)
    except ValidationError as error:
        raise BundleCorrupt(f"{path}: is no manifest: {error}. {_AGAIN}") from error
    if raw != manifest.to_bytes():
        raise BundleCorrupt(
            f"{path}: was reformatted after it was written: its bytes are not canonical. {_AGAIN}"
        )
    for name in manifest.files:
        _refuse_escape(path, name)
    if manifest.digest != digest_of(manifest.files):
        raise BundleCorrupt(f"{path}: its digest does not fit its own list of files. {_AGAIN}")
    return manifest


def verify(folder: str | Path) -> Manifest:
    """Read every byte of a bundle and compare it with the manifest.

    Raises BundleCorrupt, which lists every missing, altered and foreign file, and BundleError when there is no bundle.
    """
    folder = Path(folder)
    manifest = read(folder)
    problems = []
    present = set(walk(folder)) - {MANIFEST}
    for path, entry in sorted(manifest.files.items()):
        if path not in present:
            problems.append(f"{path}: missing")
            continue
        size = (folder / path).stat().st_size
        if size != entry.bytes:
            problems.append(f"{path}: altered: {size:,} bytes, the manifest says {entry.bytes:,}")
        elif sha256_of(folder / path) != entry.sha256:
            problems.append(f"{path}: altered: its sha256 is not the one in the manifest")
    problems += [f"{path}: foreign: not in the manifest" for path in sorted(present - set(manifest.files))]
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise BundleCorrupt(
            f"{folder}: {len(problems)} of its files are not those that were written:\n{listed}\n{_AGAIN}"
        )
    return manifest


def sha256_of(path: Path) -> str:
    """sha256 of a file in hex, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


_AGAIN = "Never mend a bundle: copy it again from where it was written, or write a new one."


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)


def _byte_order(item: tuple[str, FileEntry]) -> bytes:
    return item[0].encode()


def _pretty(body: Mapping[str, Any]) -> bytes:
    last = {"seal": body["seal"]}
    rest = {key: value for key, value in body.items() if key != "seal"}
    ordered = {**json.loads(json.dumps(rest, sort_keys=True)), **last}
    return (json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _seal(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_escape(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and name != "" and "\\" not in name and "\0" not in name
    if not plain or name.startswith("/") or ".." in parts or name == MANIFEST:
        raise BundleCorrupt(
            f"{path}: lists {name!r}, which is not a plain path inside the bundle. "
            "Do not load it: ask whoever sent it where it came from."
        )
