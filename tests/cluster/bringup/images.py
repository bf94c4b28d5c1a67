"""Images without a registry: built by buildah, imported into the node's containerd when they are not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clickmill import __version__

from .places import ROOT, Places

__all__ = ["MONITORING", "PAUSE", "SERVING", "STEPS", "import_image", "import_images", "import_project"]

PAUSE = "localhost/clickmill/pause:1"
"""Holds a pod's network."""
SERVING = f"localhost/clickmill/serving:{__version__}"
MONITORING = f"localhost/clickmill/monitoring:{__version__}"
STEPS = f"localhost/clickmill/steps-python:{__version__}"
"""The project's own, by `make images`: endpoint and router; operator, live quality and drift; pipeline steps and trainings."""
_TARGETS = {SERVING: "serving", MONITORING: "monitoring", STEPS: "steps"}

_ROOMS = ("clickmill", "components", "monitoring", "pipelines", "serving")


def import_images(at: Places) -> None:
    """Bring pause and all of the project's images but that of pipeline steps into containerd."""
    if not _held(at, PAUSE):
        _build_pause(at)
        import_image(at, PAUSE)
    import_project(at, SERVING)
    import_project(at, MONITORING)


def import_project(at: Places, image: str) -> None:
    """Build one of the project's images and bring it into containerd; what is there with the same content is left alone."""
    target, digest = _TARGETS[image], code_digest()
    stamp = at.cache / "images" / f"{target}.digest"
    if not _held(at, image) or not stamp.exists() or stamp.read_text() != digest:
        build(target)
        import_image(at, image)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest)


def code_digest() -> str:
    """Of everything that goes into the project's images."""
    files = [ROOT / "pyproject.toml", *sorted((ROOT / "serving/images").iterdir())]
    for room in _ROOMS:
        files += sorted(p for p in (ROOT / room).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build(target: str) -> None:
    """`serving/images/build.sh` on a debootstrapped base, unless the environment names another. Raises CalledProcessError."""
    # The build asks the index that this machine asks, and trusts whom it trusts.
    shared = [p for p in ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt") if Path(p).exists()]
    arguments = ["--isolation chroot", *(f"--volume {path}:{path}:ro" for path in shared)]
    environment = {
        "BASE": "debootstrap",
        "TARGETS": target,
        "BUILDAH_ARGS": " ".join(arguments),
        **os.environ,
    }
    print(f"image of {target}: building", file=sys.stderr, flush=True)
    subprocess.run([str(ROOT / "serving/images/build.sh")], env=environment, check=True, stdout=sys.stderr)


def import_image(at: Places, name: str) -> None:
    """From buildah's store into containerd's, layer by layer uncompressed. Raises CalledProcessError."""
    from .node import ctr

    # not /tmp, which may be small: an image is a few GB
    at.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=at.cache) as folder:
        archive = Path(folder) / "image.tar"
        subprocess.run(
            ["buildah", "push", "--quiet", "--disable-compression", name, f"oci-archive:{archive}:{name}"],
            check=True,
            stdout=sys.stderr,
        )
        ctr(at, "images", "import", str(archive))


def _held(at: Places, name: str) -> bool:
    from .node import ctr

    return name in ctr(at, "images", "list", "--quiet").split()


def _build_pause(at: Places) -> None:
    """A static program of ten lines on nothing."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(__file__).with_name("pause")
        shutil.copytree(source, Path(folder) / "pause")
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/hold", "main.go"],
            cwd=Path(folder) / "pause",
            env=os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off"},
            check=True,
        )
        container = _buildah("from", "scratch")
        _buildah("add", "--quiet", container, f"{folder}/hold", "/pause")
        _buildah("config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
        _buildah("commit", "--quiet", "--rm", container, PAUSE)


def _buildah(*words: str) -> str:
    return subprocess.run(["buildah", *words], check=True, capture_output=True, text=True).stdout.strip()
