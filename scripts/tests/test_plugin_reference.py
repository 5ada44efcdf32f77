"""docs/python/pytest.md is the current output of scripts/plugin_reference.py, and has all settings of the plugin."""

from __future__ import annotations

import re
import subprocess
import sys

import plugin_reference

SOURCE = (plugin_reference.REPOSITORY / plugin_reference.PLUGIN).read_text(encoding="utf-8")


def test_page_is_current() -> None:
    written = (plugin_reference.REPOSITORY / plugin_reference.PAGE).read_text(encoding="utf-8")
    assert written == plugin_reference.page(SOURCE), "docs/python/pytest.md is stale: python3 scripts/plugin_reference.py"


def test_changed_help_makes_page_stale() -> None:
    changed = SOURCE.replace("whether each process gets a TMPDIR", "whether every process gets a TMPDIR")
    assert plugin_reference.page(changed) != plugin_reference.page(SOURCE)


def test_page_has_all_settings_of_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = set(re.findall(r"(?:--pgdibs-|\bpgdibs_)[a-z_]+", output))
    assert len(names) > 10
    page = plugin_reference.page(SOURCE)
    assert [name for name in sorted(names) if f"`{name}" not in page] == []
