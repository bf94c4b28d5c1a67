"""Names of the operator on a cluster: group, kind, labels, annotations. Charts and docs spell them as here."""

from __future__ import annotations

GROUP = "clickmill.dev"
VERSION = "v1alpha1"
KIND = "ModelRelease"
PLURAL = "modelreleases"

KSERVE = ("serving.kserve.io", "v1beta1", "inferenceservices")
ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")
CONFIG_MAPS = ("", "v1", "configmaps")
SERVICES = ("", "v1", "services")

FINALIZER = f"{GROUP}/release"
RELEASE = f"{GROUP}/release"
"""Label of what belongs to a ModelRelease: its name."""
BUNDLE = f"{GROUP}/bundle"
"""Annotation of an InferenceService: digest of the bundle it was told to serve."""
BEFORE = f"{GROUP}/revision-before"
"""Annotation of an InferenceService in mode Knative: the revision it had when it was told to serve another bundle."""
APPLIED = f"{GROUP}/applied"
"""Annotation of a route: digest of what the operator last wrote, so that an edit by hand shows."""
APPLIED_AT = f"{GROUP}/applied-at"
"""Annotation of a route: when."""
APPLIED_FOR = f"{GROUP}/applied-for"
"""Annotation of a route: the state of the release that it was written for."""
SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Annotation by which KServe tells pods what to load."""

SPEC = "spec"
"""Who decides where a person wrote the spec."""

__all__ = [
    "APPLIED",
    "APPLIED_AT",
    "APPLIED_FOR",
    "BEFORE",
    "BUNDLE",
    "CONFIG_MAPS",
    "FINALIZER",
    "GROUP",
    "KIND",
    "KSERVE",
    "PLURAL",
    "RELEASE",
    "ROUTES",
    "SERVICES",
    "SOURCE_URI",
    "SPEC",
    "VERSION",
]
