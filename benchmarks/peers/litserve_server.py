"""A diffusers pipeline behind LitServe, which batches whole requests that arrive together.

Run by benchmarks/peers.py. https://lightning.ai/docs/litserve/features/batching
"""

from typing import Any

import litserve
import torch
from fastapi import Response
from serving import arguments, load, png

MOST_ROWS = 8
SECONDS_TO_GATHER = 0.05


class Pictures(litserve.LitAPI):
    """Requests of one batch have the same size, steps and guidance: a pipeline call takes one of each."""

    def __init__(self, source: str, device: str) -> None:
        super().__init__(max_batch_size=MOST_ROWS, batch_timeout=SECONDS_TO_GATHER)
        self.source = source
        self.torch_device = device

    def setup(self, device: str) -> None:
        """Load, once."""
        self.pipe: Any = load(self.source, self.torch_device)

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """As it came."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As they came."""
        return inputs

    def predict(self, requests: list[dict[str, Any]]) -> list[bytes]:
        """One pipeline call for all."""
        images = self.pipe(
            [request["prompt"] for request in requests],
            width=requests[0]["width"],
            height=requests[0]["height"],
            num_inference_steps=requests[0]["num_inference_steps"],
            guidance_scale=requests[0]["guidance_scale"],
            generator=[torch.Generator().manual_seed(request["seed"]) for request in requests],
        ).images
        return [png(image) for image in images]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """One for each."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """The file itself."""
        return Response(content=output, media_type="image/png")


if __name__ == "__main__":
    source, device, port = arguments()
    accelerator = "cpu" if device == "cpu" else "cuda"
    server = litserve.LitServer(Pictures(source, device), accelerator=accelerator, devices=1, timeout=False)
    server.run(port=port, generate_client_file=False, log_level="warning")
