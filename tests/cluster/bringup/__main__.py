"""`python -m tests.cluster.bringup up|down|build|status|import IMAGE`."""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import sys

from .cluster import down, leftovers, up
from .images import import_image
from .places import places
from .processes import ClusterError, recorded, running
from .programs import build
from .requirements import obstacle


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.bringup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the programs that the cache lacks")
    commands.add_parser("up", help="start the cluster (taking down one that runs)")
    commands.add_parser("down", help="stop it and remove all but the caches")
    commands.add_parser("status", help="what runs")
    commands.add_parser("import", help="an image of buildah's into the node").add_argument("image")
    arguments = parser.parse_args()
    at = places()
    reason = obstacle(at)
    if reason:
        print(f"cluster: skipped, {reason}", file=sys.stderr)
        return 0
    at.cache.mkdir(parents=True, exist_ok=True)
    with (at.cache / "lock").open("w") as lock:
        if arguments.command != "status":
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _run(arguments, at)
        except (ClusterError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None)
            print(f"cluster: {error}\n{said or ''}\nlogs: {at.logs}", file=sys.stderr)
            return 1


def _run(arguments: argparse.Namespace, at) -> int:
    match arguments.command:
        case "build":
            build(at.cache)
        case "up":
            up(at)
            print(f"export KUBECONFIG={at.kubeconfig}")
        case "down":
            down(at)
            left = leftovers(at)
            print("\n".join(left) or "nothing is left", file=sys.stderr)
            return 1 if left else 0
        case "status":
            for name in recorded(at):
                print(f"{name:26} {running(at, name) or 'ended'}")
        case "import":
            import_image(at, arguments.image)
    return 0


sys.exit(main())
