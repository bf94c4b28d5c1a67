"""The cluster's programs, built from Go modules into the cache: one table of versions, nothing built twice.

Each is built as its own module builds it: with that module's requirements, replacements and checksums, so the binary is
the one its authors test. Where the modules come from is the affair of the environment's Go settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KSERVE", "KUBERNETES", "PROGRAMS", "Module", "Program", "build", "missing", "module_source"]


@dataclass(frozen=True)
class Module:
    """A Go module at a version, and what its go.mod has to be told when it is built from outside."""

    path: str
    version: str
    staging: str | None = None
    """Version of the modules that its go.mod takes from ./staging, which is not in the published module."""
    ldflags: str = ""


@dataclass(frozen=True)
class Program:
    """A program of a module."""

    name: str
    module: Module
    package: str
    """Import path, or `./FOLDER` beside this file: a main of our own that uses the module."""


HELM = Module("helm.sh/helm/v3", "v3.22.0", ldflags="-X helm.sh/helm/v3/internal/version.version=v3.22.0")
KUBECONFORM = Module("github.com/yannh/kubeconform", "v0.8.0")
ETCD = Module("go.etcd.io/etcd/server/v3", "v3.6.4")
KUBERNETES = Module(
    "k8s.io/kubernetes",
    "v1.34.4",
    staging="v0.34.4",
    # Without it every component calls itself v0.0.0-master and refuses to talk to the others.
    ldflags="-X k8s.io/component-base/version.gitVersion=v1.34.4"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34",
)
KSERVE = Module("github.com/kserve/kserve", "v0.20.0")
COREDNS = Module("github.com/coredns/coredns", "v1.13.1")
METRICS_SERVER = Module("sigs.k8s.io/metrics-server", "v0.9.0")

PROGRAMS = (
    Program("helm", HELM, "helm.sh/helm/v3/cmd/helm"),
    Program("kubeconform", KUBECONFORM, "github.com/yannh/kubeconform/cmd/kubeconform"),
    Program("etcd", ETCD, "go.etcd.io/etcd/server/v3"),
    Program("kube-apiserver", KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver"),
    Program("kube-scheduler", KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler"),
    Program("kube-controller-manager", KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Program("kubelet", KUBERNETES, "k8s.io/kubernetes/cmd/kubelet"),
    Program("kube-proxy", KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy"),
    Program("kserve-manager", KSERVE, "github.com/kserve/kserve/cmd/manager"),
    Program("coredns", COREDNS, "./dns"),
    Program("metrics-server", METRICS_SERVER, "sigs.k8s.io/metrics-server/cmd/metrics-server"),
)
"""In the order of their building: what chart and manifests are checked with comes first."""


def missing(cache: Path, programs: Iterable[Program] = PROGRAMS) -> list[Program]:
    """Those of `programs` that the cache lacks at their version."""
    return [p for p in programs if not _stored(cache, p).exists()]


def build(cache: Path, programs: Sequence[Program] = PROGRAMS) -> None:
    """Bring every one of `programs` into `cache/bin`; what is there at its version is left alone.

    Each appears whole, by rename, as soon as it is built. Raises subprocess.CalledProcessError when a build fails.
    """
    for program in programs:
        if not _stored(cache, program).exists():
            begun = time.monotonic()
            _build(cache, program)
            said = f"{program.name} {program.module.version}: built in {time.monotonic() - begun:.0f} s"
            print(said, file=sys.stderr, flush=True)
        _offer(cache, program)


def module_source(module: Module) -> Path:
    """Folder with the module's files (manifests among them), fetched when absent."""
    return Path(_downloaded(module)["Dir"])


def _stored(cache: Path, program: Program) -> Path:
    name = f"{program.name}-{program.module.version}"
    if program.package.startswith("./"):  # its version is the module's and its own text's
        main = Path(__file__).parent / program.package / "main.go"
        name += "-" + hashlib.sha256(main.read_bytes()).hexdigest()[:8]
    return cache / "programs" / name


def _offer(cache: Path, program: Program) -> None:
    """Let `bin/NAME` be this version, in one step, whoever else does the same at the moment."""
    link = cache / "bin" / program.name
    target = Path("..") / "programs" / _stored(cache, program).name
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{program.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.rename(link)


def _build(cache: Path, program: Program) -> None:
    module = program.module
    folder = cache / "modules" / f"{module.path.replace('/', '_')}-{module.version}"
    if not (folder / "go.mod").exists():
        _write_module(folder, module)
    if program.package.startswith("./"):
        shutil.copytree(Path(__file__).parent / program.package, folder / program.package, dirs_exist_ok=True)
    stored = _stored(cache, program)
    stored.parent.mkdir(parents=True, exist_ok=True)
    half = stored.with_name(f".{stored.name}.{os.getpid()}")
    command = ["go", "build", "-mod=mod", "-trimpath", f"-ldflags=-s -w {module.ldflags}", "-o", str(half)]
    try:
        subprocess.run(
            [*command, program.package], cwd=folder, env=os.environ | {"CGO_ENABLED": "0"}, check=True
        )
        half.rename(stored)
    finally:
        half.unlink(missing_ok=True)


def _write_module(folder: Path, module: Module) -> None:
    """A module that requires `module` the way it requires its own parts.

    A requirer does not inherit `replace` lines, and without its indirect requirements Go would choose other versions
    than its authors did. So both are copied, and go.sum with them.
    """
    downloaded = _downloaded(module)
    read = subprocess.run(
        ["go", "mod", "edit", "-json", downloaded["GoMod"]], capture_output=True, text=True, check=True
    )
    described = json.loads(read.stdout)
    lines = ["module build", f"go {described['Go']}", f"require {module.path} {module.version}"]
    local = set()
    for replaced in described.get("Replace") or []:
        old, new = replaced["Old"], replaced["New"]
        if "Version" not in new:  # a folder of its repository
            local.add(old["Path"])
            continue
        lines.append(
            f"replace {old['Path']} {old.get('Version', '')} => {new['Path']} {new['Version']}".replace(
                "  ", " "
            )
        )
    for required in described.get("Require") or []:
        path, version = required["Path"], required["Version"]
        if version == "v0.0.0" or path in local:
            if module.staging is None:
                continue
            version = module.staging
        lines.append(f"require {path} {version}")
    if module.staging is not None:
        lines += [f"replace {path} => {path} {module.staging}" for path in sorted(local)]
    folder.mkdir(parents=True, exist_ok=True)
    sums = Path(downloaded["Dir"]) / "go.sum"
    if sums.exists():
        shutil.copyfile(sums, folder / "go.sum")
        (folder / "go.sum").chmod(0o644)
    (folder / "go.mod").write_text("\n".join(lines) + "\n")


def _downloaded(module: Module) -> dict[str, str]:
    said = subprocess.run(
        ["go", "mod", "download", "-json", f"{module.path}@{module.version}"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return json.loads(said.stdout)
