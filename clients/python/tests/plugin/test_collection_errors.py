"""An error that workers find during collection ends the run with one sentence, as without workers."""

from __future__ import annotations

from projects import Project


def test_wrong_marker_in_workers_is_one_error(project: Project) -> None:
    project.file("test_it.py", "import pytest\n@pytest.mark.pgdibs(reset='after')\ndef test_nothing():\n    pass\n")
    ran = project.run("-n2")
    assert ran.status == 4, ran.output
    (line,) = ran.errors
    assert "test_it.py::test_nothing: the marker is pgdibs(reset=\"before\"), not pgdibs(reset='after')" in line
    assert "Traceback" not in ran.output
