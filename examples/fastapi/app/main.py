"""The routes."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.models import Task, engine

app = FastAPI()


def get_session() -> Iterator[Session]:
    """A session for one request."""
    with Session(engine) as session:
        yield session


Database = Annotated[Session, Depends(get_session)]


@app.post("/tasks", status_code=201)
def add_task(body: str, session: Database) -> dict[str, int]:
    """Store a task."""
    task = Task(body=body)
    session.add(task)
    try:
        session.commit()
    except IntegrityError as error:
        raise HTTPException(409, "this task exists") from error
    return {"id": task.id}


@app.get("/tasks")
def list_tasks(session: Database) -> list[str]:
    """List the tasks, oldest first."""
    return list(session.scalars(select(Task.body).order_by(Task.id)))
