"""The outbox, seen from the web application: queue a job in the transaction that wants it, retry, count."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import Conflict, NotFound
from shop.models import Job


def enqueue(session: AsyncSession, kind: str, **payload: Any) -> Job:
    """Add a job to the session; the worker sees it once the transaction is committed."""
    job = Job(kind=kind, payload=payload)
    session.add(job)
    return job


async def retry(session: AsyncSession, job_id: int) -> Job:
    """Queue a failed job again, with its attempts counted from nought."""
    job = await session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise NotFound(f"no job {job_id}")
    if job.status != "failed":
        raise Conflict(f"job {job_id} is {job.status}; only a failed job is retried")
    job.status, job.attempts, job.last_error = "queued", 0, None
    job.run_at = func.now()
    await session.flush()
    await session.refresh(job)
    await session.commit()
    return job


async def counts(session: AsyncSession) -> dict[str, int]:
    """How many jobs there are by status."""
    rows = await session.execute(select(Job.status, func.count()).group_by(Job.status))
    return {"queued": 0, "done": 0, "failed": 0} | dict(rows.all())
