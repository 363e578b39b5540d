//! One loaded model. The only file that names `ort`.
