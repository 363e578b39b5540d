//! The document of an endpoint, in the form of OpenAPI 3: what a request to it looks like, and what comes back.
//!
//! It is made from the signature of the model of one deployment: the one that the request names, else the one with the most traffic. Of
//! a scoring script nobody but the script knows what it takes: its document has what the decorators of `inference_schema` say, or allows any
//! JSON. Pure.

use axum::http::Uri;
use serde_json::{Map, Value, json};
use serin_scorers::{ElementType, OutputKind, Signature, TensorSpec};

use crate::engine::InstanceHandle;
use crate::router::{Deployment, Endpoint, EndpointAuth, Unserved};
use crate::serve::failure::Failure;
use crate::spec::Percent;

/// The version of the form, which every reader of version 3 reads.
const OPENAPI: &str = "3.0.3";
/// The words for a version that Azure's server is asked for by `?version=`.
const VERSIONS: &[&str] = &["3", "3.0"];

/// Refuses a version of the form that is not made here.
///
/// # Errors
///
/// [`Failure::NoSwagger`].
pub(super) fn check_version(uri: &Uri) -> Result<(), Failure> {
    let query = uri.query().unwrap_or_default();
    let mut asked = query
        .split('&')
        .filter_map(|part| part.strip_prefix("version="));
    match asked.find(|version| !VERSIONS.contains(version)) {
        None => Ok(()),
        Some(version) => Err(Failure::NoSwagger {
            version: version.chars().take(16).collect(),
        }),
    }
}

/// The deployment that the document is about.
///
/// # Errors
///
/// As for a request to be scored: there is no such deployment, or none that is ready.
pub(super) fn deployment<'a>(
    endpoint: &'a Endpoint,
    named: Option<&str>,
) -> Result<&'a Deployment, Failure> {
    let found = match named {
        Some(name) => endpoint.deployment(name).ok_or_else(|| {
            let known = endpoint.deployments().iter();
            Unserved::NoDeployment {
                endpoint: endpoint.name().to_string(),
                deployment: name.to_owned(),
                known: known.map(|one| one.name.to_string()).collect(),
            }
        })?,
        None => {
            let percent = |one: &Deployment| endpoint.split().percent_of(&one.name);
            let ready = |one: &Deployment| !one.instances.is_empty();
            // The first of those that are alike, which `max_by_key` takes last.
            let deployments = endpoint.deployments().iter().rev();
            let most = deployments
                .max_by_key(|one| (percent(one) > Percent::ZERO, ready(one), percent(one)));
            most.ok_or_else(|| Unserved::NoTraffic {
                endpoint: endpoint.name().to_string(),
            })?
        }
    };
    match found.instances.is_empty() {
        true => Err(Unserved::NotReady {
            deployment: found.name.clone(),
        }
        .into()),
        false => Ok(found),
    }
}

/// The document of an endpoint as a deployment answers it, for clients that send to `path`.
pub(super) fn document(endpoint: &Endpoint, deployment: &Deployment, path: &str) -> Value {
    let instance = deployment.instances.first();
    let said = instance.and_then(InstanceHandle::schemas);
    let (request, response) = match (instance, said) {
        (_, Some(said)) => (said.request.clone(), said.response.clone()),
        (Some(model), None) if !deployment.runs_a_script() => schemas(model.signature()),
        (_, None) => (json!({}), json!({})),
    };
    let security = match endpoint.auth() {
        EndpointAuth::Open => json!([]),
        EndpointAuth::Key { .. } | EndpointAuth::Token { .. } => json!([{ "Bearer": [] }]),
    };
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": endpoint.name().as_str(),
            "version": deployment.name.as_str(),
            "description": format!("Endpoint {}, as its deployment {} answers", endpoint.name(), deployment.name),
        },
        // Below the address from which this was read.
        "servers": [{ "url": "/" }],
        "security": security,
        "paths": {
            "/": { "get": {
                "operationId": "ServiceHealthCheck",
                "summary": "Whether the server lives",
                "security": [],
                "responses": { "200": {
                    "description": "It lives",
                    "content": { "text/plain": { "schema": { "type": "string", "example": "Healthy" } } },
                } },
            } },
            path: { "post": {
                "operationId": "RunMLService",
                "summary": "Score",
                "parameters": [{
                    "name": "azureml-model-deployment",
                    "in": "header",
                    "required": false,
                    "description": "Deployment that answers, whatever the traffic",
                    "schema": { "type": "string" },
                }],
                "requestBody": {
                    "required": true,
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ServiceInput" } } },
                },
                "responses": {
                    "200": {
                        "description": "The answer of the model",
                        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ServiceOutput" } } },
                    },
                    "default": {
                        "description": "Why there is none",
                        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorResponse" } } },
                    },
                },
            } },
        },
        "components": {
            "schemas": {
                "ServiceInput": request,
                "ServiceOutput": response,
                "ErrorResponse": { "type": "object", "properties": { "message": { "type": "string" } } },
            },
            "securitySchemes": { "Bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// What a request brings, and what an answer holds.
fn schemas(signature: &Signature) -> (Value, Value) {
    let inputs = signature.inputs.iter();
    let data = match signature.inputs.as_slice() {
        [only] => input(only),
        _ => {
            let names: Vec<_> = signature
                .inputs
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            let fields = inputs.map(|one| (one.name.clone(), input(one)));
            object(fields.collect(), &names)
        }
    };
    let request = object(Map::from_iter([("data".to_owned(), data)]), &["data"]);
    let names: Vec<_> = signature
        .outputs
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let outputs = signature.outputs.iter();
    let fields = outputs.map(|one| (one.name.clone(), output(&one.kind)));
    (request, object(fields.collect(), &names))
}

fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut object = json!({ "type": "object", "properties": properties });
    // A list without entries is none in this form.
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn input(spec: &TensorSpec) -> Value {
    match spec.any_rank {
        true => json!({
            "description": format!("An array of any rank, of {}", spec.datatype),
            "type": "array",
            "items": {},
        }),
        false => array(spec.datatype, &spec.shape),
    }
}

fn output(kind: &OutputKind) -> Value {
    let map = || json!({ "type": "object", "additionalProperties": { "type": "number" } });
    match kind {
        OutputKind::Tensor { datatype, shape } => array(*datatype, shape),
        OutputKind::Sequence { datatype } => json!({
            "description": format!("A list of arrays, of {datatype}"),
            "type": "array",
            "items": {},
        }),
        OutputKind::Map => map(),
        OutputKind::SequenceOfMaps => json!({ "type": "array", "items": map() }),
        OutputKind::Other { description } => json!({ "description": description }),
    }
}

/// Arrays within arrays, down to the elements.
fn array(datatype: ElementType, shape: &[i64]) -> Value {
    let element = element(datatype);
    shape.iter().rev().fold(element, |items, size| {
        let mut array = json!({ "type": "array", "items": items });
        // Below zero where the model leaves the size free.
        if *size >= 0 {
            array["minItems"] = json!(size);
            array["maxItems"] = json!(size);
        }
        array
    })
}

fn element(datatype: ElementType) -> Value {
    let whole = |format: &str| json!({ "type": "integer", "format": format });
    let not_negative = |bits: u32| {
        let max = u64::MAX >> (64 - bits);
        json!({ "type": "integer", "minimum": 0, "maximum": max })
    };
    let small = |min: i32, max: i32| json!({ "type": "integer", "minimum": min, "maximum": max });
    // A missing value is `null`.
    let number = |format: &str| json!({ "type": "number", "format": format, "nullable": true });
    match datatype {
        ElementType::Bool => json!({ "type": "boolean" }),
        ElementType::Bytes => json!({ "type": "string" }),
        ElementType::Uint8 => not_negative(8),
        ElementType::Uint16 => not_negative(16),
        ElementType::Uint32 => not_negative(32),
        ElementType::Uint64 => not_negative(64),
        ElementType::Int8 => small(i8::MIN.into(), i8::MAX.into()),
        ElementType::Int16 => small(i16::MIN.into(), i16::MAX.into()),
        ElementType::Int32 => whole("int32"),
        ElementType::Int64 => whole("int64"),
        ElementType::Fp64 => number("double"),
        ElementType::Fp16 | ElementType::Bf16 | ElementType::Fp32 => number("float"),
    }
}

#[cfg(test)]
mod tests {
    use serin_scorers::OutputSpec;

    use super::*;

    fn tensor(name: &str, datatype: ElementType, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            datatype,
            shape: shape.to_vec(),
            any_rank: false,
        }
    }

    #[test]
    fn one_input_is_an_array_and_several_are_an_object_by_name() {
        let one = Signature {
            inputs: vec![tensor("x", ElementType::Fp32, &[-1, 4])],
            outputs: vec![OutputSpec {
                name: "y".to_owned(),
                kind: OutputKind::SequenceOfMaps,
            }],
        };
        let (request, response) = schemas(&one);
        let rows = &request["properties"]["data"];
        assert!(rows["minItems"].is_null(), "{rows}");
        assert_eq!(rows["items"]["minItems"], 4);
        assert_eq!(rows["items"]["items"]["type"], "number");
        assert_eq!(response["required"], json!(["y"]));
        assert_eq!(response["properties"]["y"]["items"]["type"], "object");
        let several = Signature {
            inputs: vec![
                tensor("x", ElementType::Uint64, &[]),
                tensor("z", ElementType::Bytes, &[2]),
            ],
            outputs: Vec::new(),
        };
        let (request, response) = schemas(&several);
        let data = &request["properties"]["data"];
        assert_eq!(data["required"], json!(["x", "z"]));
        assert_eq!(data["properties"]["x"]["maximum"], json!(u64::MAX));
        assert_eq!(data["properties"]["z"]["items"]["type"], "string");
        assert!(response["required"].is_null(), "{response}");
    }

    #[test]
    fn a_version_that_is_not_made_here_is_refused_with_its_number() {
        for (query, is_made) in [
            ("", true),
            ("?version=3", true),
            ("?a=b&version=3.0", true),
            ("?version=2", false),
            ("?version=", false),
        ] {
            let uri: Uri = format!("/swagger.json{query}").parse().unwrap();
            assert_eq!(check_version(&uri).is_ok(), is_made, "{query}");
        }
    }
}
