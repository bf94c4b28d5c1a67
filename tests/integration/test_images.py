"""The serving image's own process, as its own user, on a root it cannot write. Needs root, buildah, and an image of `make images`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from clickmill import __version__
from clickmill.bundle import Store, golden
from serving.ports import claim
from serving.rows import example_row
from tests.serving.small_bundle import CONTRACT
from tests.serving.twin_bundle import write_twin_bundle

pytestmark = pytest.mark.integration

IMAGE = os.environ.get("CLICKMILL_SERVING_IMAGE", f"localhost/clickmill/serving:{__version__}")

# As a kubelet does it with readOnlyRootFilesystem: one mount namespace, the image's root read-only, an emptyDir at /tmp, the store
# read-only at /mnt/models, and the image's own user, environment and command. $1 is the root; what follows is `env` and the command.
RUN = """
set -e
root=$1; store=$2; user=$3; shift 3
mount --bind "$root" "$root"
mkdir -p "$root/mnt/models"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=256m,mode=1777 tmpfs "$root/tmp"
mount --bind -o ro "$store" "$root/mnt/models"
mount -o remount,ro,bind "$root"
! chroot --userspec="$user" "$root" /bin/sh -c 'touch /x /opt/x /mnt/models/x /home/x' 2>/dev/null
exec chroot --userspec="$user" "$root" /usr/bin/env -i "$@"
"""


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def image() -> dict:
    if os.geteuid() != 0 or not shutil.which("buildah"):
        pytest.skip("needs root and buildah")
    if subprocess.run(["buildah", "inspect", "--type", "image", IMAGE], capture_output=True).returncode:
        pytest.skip(f"{IMAGE} is not here; `make images` builds it")
    return json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]


def test_the_image_answers_as_a_user_without_rights_on_a_root_it_cannot_write(image, tmp_path: Path):
    store = Store(tmp_path / "store")
    bundle = write_twin_bundle(tmp_path / "bundle")
    store.add(bundle)
    # pytest's folder is for its user alone
    served = Path("/tmp") / f"clickmill-image-{os.getpid()}"
    shutil.copytree(store.root, served)
    served.chmod(0o755)
    port, grpc_port = claim("127.0.0.1", 0, "--http-port"), claim("127.0.0.1", 0, "--grpc-port")
    container = buildah("from", "--pull-never", IMAGE)
    log = (tmp_path / "log").open("w+")
    process = None
    try:
        root = buildah("mount", container)
        command = [*image["Entrypoint"], "/mnt/models", "--host", "127.0.0.1"]
        command += ["--http-port", str(port), "--grpc-port", str(grpc_port)]
        namespace = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", RUN, "run"]
        process = subprocess.Popen(
            [*namespace, root, str(served), image["User"], *image["Env"], *command], stdout=log, stderr=log
        )
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        asked = example_row(bundle, CONTRACT.inputs)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/small:predict", json={"instances": [asked]})
        expected = pq.read_table(bundle / golden.GOLDEN)["logit"][0].as_py()
        assert answer.json()["predictions"][0]["logit"] == pytest.approx(expected, abs=1e-5)
    finally:
        if process is not None:
            # the death of `unshare` would not reach it: the kernel forgets the signal when chroot changes the user
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in map(int, children):
                os.kill(child, signal.SIGKILL)
            process.wait()
        log.close()
        buildah("umount", container)
        buildah("rm", container)
        shutil.rmtree(served)
