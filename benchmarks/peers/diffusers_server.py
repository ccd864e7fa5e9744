"""The server that the documentation of diffusers describes: a pipeline call for each request, in threads.

Run by benchmarks/peers.py. Each request has a scheduler of its own, and components in common.
https://huggingface.co/docs/diffusers/using-diffusers/create_a_server
"""

import asyncio
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from serving import arguments, load, png

app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Draw one picture."""
    wishes = await request.json()
    return Response(await asyncio.to_thread(draw, wishes), media_type="image/png")


def draw(wishes: dict[str, Any]) -> bytes:
    """In a thread of the loop's executor."""
    shared: Any = app.state.pipe
    pipe = type(shared).from_pipe(shared, scheduler=shared.scheduler.from_config(shared.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        wishes["prompt"],
        width=wishes["width"],
        height=wishes["height"],
        num_inference_steps=wishes["num_inference_steps"],
        guidance_scale=wishes["guidance_scale"],
        generator=torch.Generator().manual_seed(wishes["seed"]),
    ).images[0]
    return png(image)


if __name__ == "__main__":
    source, device, port = arguments()
    app.state.pipe = load(source, device)
    uvicorn.run(app, port=port, log_level="warning")
