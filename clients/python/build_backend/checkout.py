"""The build backend of this package: maturin, after checks whose errors say what a build from a checkout needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

CRATE = "crates/pgdibs-cli/Cargo.toml"


def check() -> None:
    """End the build with a sentence if the sources of the program, or Rust, are missing."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parents[1] / CRATE).is_file():
        raise SystemExit(
            f"error: {package} has no {CRATE} two directories above: the wheel contains the program `pgdibs`, so build it in a "
            "whole checkout of the repository (pip 21.3 or newer), or install a released wheel with `pip install pgdibs`"
        )
    if shutil.which("cargo") is None:
        raise SystemExit(
            "error: the wheel contains the program `pgdibs`, and there is no `cargo` on the PATH to compile it: install Rust "
            "from https://rustup.rs (the version of `rust-version` in Cargo.toml, or newer) and a C compiler, or install a "
            "released wheel with `pip install pgdibs`"
        )


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Nothing but maturin: its own hook would ask for a package that downloads Rust."""
    check()
    return []


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """As for a wheel."""
    check()
    return []


def prepare_metadata_for_build_wheel(directory: str, config_settings: Any = None) -> Any:
    """The metadata alone, which pip asks for first."""
    import maturin  # type: ignore[import-untyped]

    return maturin.prepare_metadata_for_build_wheel(directory, config_settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_wheel(directory: str, config_settings: Any = None, metadata_directory: Any = None) -> Any:
    """Compile the program, and make the wheel."""
    check()
    import maturin

    return maturin.build_wheel(directory, config_settings, metadata_directory)


def build_editable(directory: str, config_settings: Any = None, metadata_directory: Any = None) -> Any:
    """The same for `pip install -e`."""
    check()
    import maturin

    return maturin.build_editable(directory, config_settings, metadata_directory)


def build_sdist(directory: str, config_settings: Any = None) -> Any:
    """There is none: the program embeds files of the repository that no source distribution of this directory has."""
    raise SystemExit("error: pgdibs has no source distribution; build a wheel in the checkout: `pip wheel ./clients/python`")
