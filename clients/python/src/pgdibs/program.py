"""Finds the pgdibs program: the one installed with this package, or one on the PATH."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig

from pgdibs.errors import PgdibsError


def find_program() -> str:
    """The path of the program: `$PGDIBS_BIN`, else the one of the wheel, else one on the PATH. Raises `PgdibsError`."""
    configured = os.environ.get("PGDIBS_BIN")
    if configured:
        if not os.access(configured, os.X_OK):
            raise PgdibsError(f"PGDIBS_BIN is {configured}, which is not an executable file; correct it or unset it")
        return configured
    name = "pgdibs.exe" if os.name == "nt" else "pgdibs"
    for directory in _script_directories():
        candidate = os.path.join(directory, name)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    found = shutil.which("pgdibs")
    if found is None:
        raise PgdibsError(
            f"there is no pgdibs program beside {sys.executable} or on the PATH; `pip install --force-reinstall pgdibs` puts it "
            "there, or set PGDIBS_BIN"
        )
    return found


def _script_directories() -> list[str]:
    """Where installers put programs: in this environment, for this user, with `pip install --target` and with `--prefix`."""
    user = f"{os.name}_user"
    directories = [sysconfig.get_path("scripts")]
    if user in sysconfig.get_scheme_names():
        directories.append(sysconfig.get_path("scripts", user))
    packages = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    directories.append(os.path.join(packages, "bin"))
    directories.append(os.path.normpath(os.path.join(packages, "..", "..", "..", "bin")))
    return directories
