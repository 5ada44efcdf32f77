"""The base images: real ones where a registry answers; otherwise stand-ins, of debootstrap and this machine's toolchain."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from docker import BUILD_SECONDS, docker, inspect, run, size_of
from engine import cache
from transcript import Transcript

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
HERE = Path(__file__).resolve().parent / "bases"
PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Images of the registries have it; an imported tree has no variables."""

SERVER = "postgres:17"
"""The tag that the compose file and the workflows name."""


def prepare(transcript: Transcript, is_own: bool) -> dict[str, str]:
    """The build arguments of the Dockerfiles; none if a registry answers. `is_own`: the engine runs for this smoke test alone."""
    pulled = subprocess.run(["docker", "pull", "--quiet", SERVER], capture_output=True, text=True, timeout=120)
    if pulled.returncode == 0:
        transcript.add("     a registry answers: the bases are the real ones, as the Dockerfiles name them")
        return {}
    transcript.add("     no registry answers, so Debian, rust, postgres, python and distroless are stood in for:")
    for tag, release in (("debian", "trixie"), ("debian-12", "bookworm")):
        if not docker("images", "--quiet", f"pgdibs-trial/{tag}"):
            debian(tag, release)
    images = {"RUST_IMAGE": "rust", "POSTGRES_IMAGE": "postgres", "RUNTIME_IMAGE": "runtime", "PYTHON_IMAGE": "python"}
    for name in images.values():
        stand_in(name)
        transcript.add(f"       pgdibs-trial/{name}: {size_of(f'pgdibs-trial/{name}')}")
    # An image from a registry may be in use, so keep it; an image without a digest is that of an earlier smoke test.
    if is_own or not docker("images", "--quiet", SERVER) or not inspect(SERVER)["RepoDigests"]:
        docker("tag", "pgdibs-trial/postgres", SERVER)
    return {variable: f"pgdibs-trial/{name}" for variable, name in images.items()}


def debian(tag: str, release: str) -> None:
    """A release, as debootstrap makes it."""
    with tempfile.TemporaryDirectory(prefix=f"{tag}-", dir=cache()) as root:
        run("debootstrap", "--variant=minbase", release, root, "http://deb.debian.org/debian", within=900)
        for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(f"{root}/{left}")
            os.mkdir(f"{root}/{left}")
        tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "import", "--change", PATH, "-", f"pgdibs-trial/{tag}"], stdin=tar.stdout, check=True, capture_output=True
        )
        tar.wait(60)


def stand_in(name: str) -> None:
    """One base, from its Dockerfile in `bases/`; nothing is done that the builder remembers."""
    with tempfile.TemporaryDirectory(prefix="context-", dir=cache()) as context:
        shutil.copy(HERE / "postgres-entrypoint.sh", context)
        shutil.copy(CERTIFICATES, context)
        if name == "rust":
            sysroot = run("rustc", "--print", "sysroot")
            os.mkdir(f"{context}/toolchain")
            # Hard links would do if the cache were always on the same file system.
            run("cp", "--archive", "--reflink=auto", f"{sysroot}/bin", f"{sysroot}/lib", f"{context}/toolchain/")
        arguments = ["--quiet", "--build-arg", "DEBIAN_IMAGE=pgdibs-trial/debian", "--tag", f"pgdibs-trial/{name}"]
        docker("buildx", "build", *arguments, "--file", str(HERE / f"{name}.Dockerfile"), context, within=BUILD_SECONDS)
