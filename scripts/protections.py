"""The protections of pgdibs; without-protections.py takes them out, one at a time, and docs/protections.md has what was seen."""

from __future__ import annotations

from protections_apart import APART
from protections_faults import FAULTS
from protections_inside import INSIDE
from protections_leases import LEASES
from protections_order import ORDER
from protections_trust import TRUST

PROTECTIONS = FAULTS + TRUST + APART + INSIDE + LEASES + ORDER
