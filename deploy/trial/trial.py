"""Tries everything of deploy/ for real: `make deploy-test`. The first time it takes half an hour, most of it the compiler.

trial.py [--only images,stack,sidecar,actions,systemd]: the parts, all by default. Only a whole run that passed writes
docs/deploy-trial.md. Needs root where no Docker engine runs, and then installs what it needs for one.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "scripts"))

import bases
import images
import sidecar
import stack
import unit
import workflow
from daemon_process import free_port
from docker import BUILD_SECONDS, REPOSITORY, docker, published, run
from engine import engine
from transcript import Failed, Transcript, check

PARTS = ("images", "stack", "sidecar", "actions", "systemd")
PAGE = REPOSITORY / "docs/deploy-trial.md"


def main() -> int:
    """Everything asked for, in order; 1 when something was not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    wanted = parser.parse_args().only.split(",")
    # An end by a signal takes down what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    transcript = Transcript()
    try:
        check(set(wanted) <= set(PARTS), f"--only takes {', '.join(PARTS)}")
        transcript.add("## the engine")
        with engine(transcript) as is_own, tempfile.TemporaryDirectory(prefix="pgdibs-trial-", dir="/tmp") as work:
            # The unprivileged user that Postgres runs as passes through.
            Path(work).chmod(0o711)
            versions = versions_here()
            for name, version in versions.items():
                transcript.add(f"     {name}: {version}")
            trial(transcript, wanted, is_own, Path(work))
            if set(wanted) == set(PARTS):
                transcript.write(PAGE, versions)
                print(f"written: {PAGE.relative_to(REPOSITORY)}")
    except Failed as failure:
        transcript.add(f"\nFAILED: {failure}")
        return 1
    return 0


def trial(transcript: Transcript, wanted: list[str], is_own: bool, work: Path) -> None:
    """The parts."""
    # What a trial that was killed has left.
    left = docker("ps", "--all", "--quiet", "--filter", "name=pgdibs-trial").split()
    if left:
        docker("rm", "--force", "--volumes", *left)
    docker("network", "prune", "--force", "--filter", f"label=com.docker.compose.project={stack.PROJECT}")
    before = published()
    with transcript.part("the base images"):
        arguments = bases.prepare(transcript, is_own)
    if "images" in wanted:
        with transcript.part("the images"):
            images.build(transcript, arguments)
            images.inspect_images(transcript)
    if "stack" in wanted:
        compose = stack.Stack(transcript, arguments, work, (free_port(), free_port()))
        try:
            stack.run(compose)
        except BaseException:
            print(compose.logs(), file=sys.stderr)
            raise
        finally:
            compose.compose("--profile", "test", "down", "--volumes", ok=False)
    if "sidecar" in wanted:
        with transcript.part("the image with a Postgres inside"):
            sidecar.alone(transcript, (free_port(), free_port()))
        with transcript.part("the Kubernetes Job's pod"):
            tests(arguments)
            sidecar.pod(transcript)
    if "actions" in wanted:
        with transcript.part("the GitHub Actions jobs, step by step from their files"):
            actions(transcript, work)
    if "systemd" in wanted:
        with transcript.part("the systemd unit"):
            unit.run(transcript, REPOSITORY / "target/debug/pgdibs")
    with transcript.part("the end"):
        left = docker("ps", "--all", "--quiet", "--filter", "name=pgdibs-trial").split()
        check(not left, f"containers are left: {left}")
        check(published() <= before, f"Docker listens still: {published() - before}")
        transcript.add("     no container is left, and Docker listens nowhere that it did not before")
        for line in transcript.hosted:
            transcript.add(f"     not run here: {line}")
        transcript.add("     all the rest passed")


def tests(arguments: dict[str, str]) -> None:
    """The image with the example's tests, as compose builds it."""
    given = [word for name in ("PYTHON_IMAGE",) if name in arguments for word in ("--build-arg", f"{name}={arguments[name]}")]
    command = ["buildx", "build", "--quiet", "--load", *given, "--tag", "pgdibs-tests", "--file"]
    docker(*command, "examples/fastapi-shop/Dockerfile", ".", within=BUILD_SECONDS)


def actions(transcript: Transcript, work: Path) -> None:
    """plain.yml, whose services are the image just built; and the one that needs no image."""
    workflow.uv(transcript)
    wheels = work / "wheels"
    wheel = Path(run("scripts/wheel.sh", "dev", str(wheels), within=BUILD_SECONDS).splitlines()[-1])
    transcript.add(f"     {wheel.name}, built here, stands in for PyPI's; {images.DAEMON} for ghcr.io/pgdibs/pgdibs:0.1")
    docker("tag", images.DAEMON, "ghcr.io/pgdibs/pgdibs:0.1")
    runner = workflow.Runner(transcript, work, wheel)
    for name in ("plain.yml", "no-image.yml"):
        transcript.add(f"     {name}:")
        runner.workflow(REPOSITORY / "deploy/ci/github" / name)


def versions_here() -> dict[str, str]:
    """Of what the trial stands on."""
    system = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "system": f"{system.get('PRETTY_NAME', '').strip(chr(34))}, Linux {platform.release()}, {platform.machine()}",
        "docker": docker("version", "--format", "engine {{.Server.Version}}, client {{.Client.Version}}"),
        "compose": docker("compose", "version", "--short"),
        "buildx": docker("buildx", "version").split()[1],
        "pgdibs": run("git", "describe", "--always", "--dirty", "--exclude", "*"),
    }


if __name__ == "__main__":
    sys.exit(main())
