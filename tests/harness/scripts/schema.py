"""A script that says what its parameters are."""

import numpy
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema


def init():
    pass


@input_schema("x", NumpyParameterType(numpy.array([[1, 2]])))
@input_schema("scale", StandardPythonParameterType(1.0))
@output_schema(StandardPythonParameterType({"sum": 1.0}))
def run(x, scale=2.0):
    return {"sum": float(x.sum() * scale), "type": type(x).__name__, "shape": list(x.shape)}
