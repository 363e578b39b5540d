"""A FastAPI application; the handler is a coroutine, as a thread pool would only add a hand-off."""

from fastapi import FastAPI
from model import Model
from pydantic import BaseModel


class Request(BaseModel):
    """Body of a request."""

    data: list


app = FastAPI()
model = Model()


@app.post("/score")
async def score(request: Request) -> dict[str, list]:
    """Outputs by name."""
    return model.score(request.data)
