"""The `deploy` step."""

from typing import Any, Dict  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    bundle: dsl.Input[dsl.Model],
    store: str,
    release: Dict[str, Any],  # noqa: UP006
    summary: dsl.Output[dsl.Markdown],
) -> int:
    """Put a bundle that passed the gate into the model store, where the endpoint finds it within seconds.

    The bundle is verified byte by byte before and after the copy. A bundle that is there already is not added again. On a cluster with
    the release operator it is then named in a ModelRelease, and the step waits for the verdict: it fails when the bundle is taken back.

    Args:
        bundle: The bundle that the gate promoted.
        store: Model store: a folder on this machine or on a mounted volume. Empty: nothing is deployed, the summary says so.
        release: The ModelRelease that gets it, such as {"name": "ctr", "store_uri": "pvc://models/ctr"}; empty: the endpoint watches the store itself.
        summary: What was deployed, where, and which version it follows.

    Returns:
        Version number in the store; 0 when there is no store.
    """
    from pathlib import Path

    from clickmill.bundle.manifest import verify
    from clickmill.bundle.store import Store
    from components.deploy import model_release
    from components.pages import facts, markdown
    from components.step import step
    from components.typed_settings import typed_settings

    with step("deploy") as running:
        wanted = typed_settings("release", model_release.ReleaseRequest, release) if release else None
        manifest = verify(Path(bundle.path))
        if not store:
            running.note("no model store was given, so nothing was deployed")
            page = markdown(
                "Not deployed", "The gate promoted this bundle, but no model store was given.", []
            )
            Path(summary.path).write_text(page)
            return 0
        models = Store(Path(store))
        before = models.latest_deployed()
        version = models.add(Path(bundle.path))
        running.note(f"version {version} is in {store}")
        about = {
            "version": version,
            "model": manifest.model.name,
            "digest": manifest.digest,
            "follows version": before.version if before else None,
            "store": store,
        }
        how = "The endpoint takes it up by itself."
        if wanted is not None:
            releases = model_release.Kubernetes(wanted.namespace)
            uri = f"{wanted.store_uri.rstrip('/')}/{version}"
            model_release.ask(releases, wanted, uri=uri, digest=manifest.digest)
            running.note(f"ModelRelease {wanted.name} names it")
            where = f"kubectl -n {releases.namespace} describe modelrelease {wanted.name}"
            about |= {"address": uri, "ModelRelease": f"{releases.namespace}/{wanted.name}", "look": where}
            how = "The release operator gives it traffic step by step."
            if wanted.wait_seconds:
                Path(summary.path).write_text(
                    markdown(
                        f"Being released: {manifest.name} version {version}", how, [facts("What", about)]
                    )
                )
                how = model_release.wait(
                    releases, wanted, manifest.digest, say=lambda words: print(words, flush=True)
                )
        Path(summary.path).write_text(
            markdown(
                f"Deployed: {manifest.name} version {version}",
                how,
                [facts("What", about)],
            )
        )
        return version
