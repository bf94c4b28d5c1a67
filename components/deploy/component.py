"""The `deploy` step."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    bundle: dsl.Input[dsl.Model],
    store: str,
    summary: dsl.Output[dsl.Markdown],
) -> int:
    """Put a bundle that passed the gate into the model store, where the endpoint finds it within seconds.

    The bundle is verified byte by byte before and after the copy. A bundle that is there already is not added again.

    Args:
        bundle: The bundle that the gate promoted.
        store: Model store: a folder on this machine or on a mounted volume. Empty: nothing is deployed, the summary says so.
        summary: What was deployed, where, and which version it follows.

    Returns:
        Version number in the store; 0 when there is no store.
    """
    from pathlib import Path

    from clickmill.bundle.manifest import verify
    from clickmill.bundle.store import Store
    from components.pages import facts, markdown
    from components.step import step

    with step("deploy") as running:
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
        Path(summary.path).write_text(
            markdown(
                f"Deployed: {manifest.name} version {version}",
                "The endpoint takes it up by itself.",
                [facts("What", about)],
            )
        )
        return version
