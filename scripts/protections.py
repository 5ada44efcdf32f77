"""The protections of pgdibs; without-protections.py takes them out, one at a time, and docs/protections.md has what was seen."""

from __future__ import annotations

from protections_faults import FAULTS
from protections_invariants import INVARIANTS
from protections_trust import TRUST

PROTECTIONS = FAULTS + TRUST + INVARIANTS
