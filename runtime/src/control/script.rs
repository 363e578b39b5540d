//! Scoring scripts as they are stored and run: code by its content, an environment by its recipe. Pure data.
//!
//! Not here: how they are found in files (`gathering`), where they run (`models::ScriptFolders`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::control::models::{ModelDigest, Mount};
use crate::environments::Recipe;

/// The script of a deployment, resolved when the change was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResolvedScript {
    /// The content of its folder.
    pub(super) code: ModelDigest,
    /// The name of its folder.
    pub(super) folder: String,
    /// The script's place below the folder.
    pub(super) entry_script: String,
    /// The recipe of its environment; without one it runs in the Python of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recipe: Option<StoredRecipe>,
    /// Variables of its processes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) variables: BTreeMap<String, String>,
}

/// A script as a part of what an instance is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptBuild {
    pub(super) script: ResolvedScript,
    /// Name and version of the model, which are folders that the script sees.
    pub(super) reference: (String, String),
    pub(super) mount: Mount,
}

/// A recipe by its JSON, so that recipes are compared, ordered and copied at little cost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoredRecipe(Arc<str>);

impl StoredRecipe {
    pub(super) fn of(recipe: &Recipe) -> Self {
        let value = serde_json::to_value(recipe).expect("a recipe has a JSON form");
        Self(value.to_string().into())
    }

    pub(super) fn recipe(&self) -> Recipe {
        serde_json::from_str(&self.0).expect("it was made of a recipe")
    }
}

impl Serialize for StoredRecipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&self.0).expect("it was made of JSON");
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StoredRecipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let recipe: Recipe = serde_json::from_value(value).map_err(de::Error::custom)?;
        // As it would be written now: a release that adds to recipes replaces nothing by that.
        Ok(Self::of(&recipe))
    }
}

/// A ready environment, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentFacts {
    pub(super) python: PathBuf,
    pub(super) version: String,
    pub(super) description: String,
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_recipe_is_the_same_after_it_was_stored() {
        let recipe = Recipe::read(Path::new("/r.txt"), "six==1.16.0\n", &|_| Ok(String::new()));
        let recipe = recipe.expect("a recipe").with_any_python(true);
        let stored = StoredRecipe::of(&recipe);
        let text = serde_json::to_string(&stored).expect("JSON");
        let again: StoredRecipe = serde_json::from_str(&text).expect("its own form");
        assert_eq!(again, stored);
        assert_eq!(again.recipe(), recipe);
        serde_json::from_str::<StoredRecipe>("{}").expect_err("no recipe");
    }
}
