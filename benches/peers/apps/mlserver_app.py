"""A custom runtime of MLServer, which packages none for ONNX."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import Model


class OnnxModel(MLModel):
    """Scores by the Open Inference Protocol."""

    async def load(self) -> bool:
        """Called once in each worker."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Called for each request."""
        outputs = self.model.run(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, numbers) for name, numbers in outputs.items()],
        )
