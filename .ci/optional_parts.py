"""Installs the receivers that some tests use when they are present: VictoriaMetrics and Prometheus, Debian packages.

Where they cannot be installed, those tests say so loudly and pass; nothing else depends on them.
"""

import os
import shutil
import subprocess
import sys

WANTED = {"victoria-metrics": "victoria-metrics", "prometheus": "prometheus"}


def main() -> None:
    missing = [package for package, program in WANTED.items() if not shutil.which(program)]
    if len(missing) < len(WANTED):
        print("a remote-write receiver is there")
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("skipped: no remote-write receiver, and packages cannot be installed here")
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update"], check=False, env=environment, **quiet)
    for package in missing:
        # The package would start a service of its own; the tests start theirs.
        done = subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", package], check=False, env=environment, **quiet
        )
        if done.returncode == 0:
            print(f"installed {package}")
            return
    print("skipped: no remote-write receiver could be installed", file=sys.stderr)


main()
