"""Runs the README's main job: starts `dev`, asks it for its health and a Domain, stops it, starts it again."""

import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE = 300


def start(data: pathlib.Path) -> tuple[subprocess.Popen, dict, float]:
    ready_file = data / "ready.json"
    ready_file.unlink(missing_ok=True)
    command = ["cargo", "run", "--quiet", "--", "dev", "--data-dir", str(data), "--ready-file", str(ready_file)]
    begun = time.monotonic()
    process = subprocess.Popen(command + ["--http-port", "0", "--https-port", "0"], start_new_session=True)
    while not ready_file.exists():
        if process.poll() is not None:
            sys.exit(f"dev ended with {process.returncode} before it was ready")
        if time.monotonic() - begun > PATIENCE:
            process.kill()
            sys.exit("dev was not ready in time")
        time.sleep(0.1)
    return process, json.loads(ready_file.read_text()), time.monotonic() - begun


def stop(process: subprocess.Popen, pids: dict) -> None:
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(timeout=60)
    if code != 0:
        sys.exit(f"dev ended with {code} after Ctrl-C")
    for name, pid in pids.items():
        if pathlib.Path(f"/proc/{pid}").exists():
            sys.exit(f"{name} ({pid}) outlived dev")


def call(ready: dict, method: str, path: str, body: dict | None = None, url: str = "https_url"):
    context = ssl.create_default_context(cafile=ready["ca_cert"])
    request = urllib.request.Request(ready[url] + path, method=method)
    request.add_header("Authorization", f"Bearer {ready['admin_token']}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, context=context if url == "https_url" else None, timeout=30) as answer:
        return json.loads(answer.read())


def main() -> None:
    data = pathlib.Path(tempfile.mkdtemp(prefix="plexsphere-smoke-"))
    data.chmod(0o755)
    try:
        process, ready, seconds = start(data)
        print(f"ready after {seconds:.1f} s")
        print("health:", call(ready, "GET", "/v1/health", url="http_url")["status"])
        domain = call(ready, "POST", "/v1/domains", {"name": "Smoke", "slug": "smoke", "mesh_cidr": "10.42.0.0/16"})
        stop(process, ready["pids"])
        process, ready, seconds = start(data)
        print(f"warm start: ready after {seconds:.1f} s")
        again = call(ready, "GET", f"/v1/domains/{domain['id']}")
        assert again == domain, (again, domain)
        document = call(ready, "GET", "/v1/openapi.json")
        pathlib.Path("target/openapi.json").write_text(json.dumps(document, indent=1, sort_keys=True))
        stop(process, ready["pids"])
        print(f"{len(document['paths'])} paths described; data found again; all stopped in order")
    finally:
        shutil.rmtree(data, ignore_errors=True)


main()
