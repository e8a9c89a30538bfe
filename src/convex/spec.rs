//! What deployed functions accept, according to the deployment itself.

use std::collections::BTreeSet;

use serde_json::Value;

use super::answer::Verdict;
use super::client::{Call, Convex};

/// The query that lists all functions with their validators; `npx convex function-spec` prints it.
const API_SPEC: &str = "_system/cli/modules:apiSpec";

/// The validator of a function's arguments, JSON as Convex describes it.
pub struct Arguments(Value);

impl Arguments {
    /// The arguments of the function `path`; `None` if the deployment does not say, for example
    /// because the key can only write.
    #[must_use]
    pub fn of(convex: Convex<'_>, path: &str) -> Option<Self> {
        let Verdict::Success(functions) = convex.call(&Call::query(API_SPEC, "{}").ok()?) else {
            return None;
        };
        let functions: Vec<Value> = serde_json::from_str(&functions).ok()?;
        // The name of a module includes the extension of its file.
        let is_function = |function: &Value| {
            let identifier = function["identifier"].as_str().unwrap_or_default();
            identifier.replace(".js:", ":") == path
        };
        let mut function = functions.into_iter().find(is_function)?;
        Some(Self(function["args"].take()))
    }

    /// The paths of the fields that these arguments have and the function does not know; `[]`
    /// stands for every element of a list.
    #[must_use]
    pub fn unknown_fields(&self, arguments: &Value) -> BTreeSet<String> {
        let mut unknown = BTreeSet::new();
        collect(&self.0, arguments, "", &mut unknown);
        unknown
    }
}

fn collect(validator: &Value, value: &Value, path: &str, unknown: &mut BTreeSet<String>) {
    match (validator["type"].as_str(), value) {
        (Some("object"), Value::Object(fields)) => {
            for (name, value) in fields {
                let path = format!("{path}{name}");
                match validator["value"].get(name) {
                    Some(field) => {
                        let path = if value.is_array() { path } else { path + "." };
                        collect(&field["fieldType"], value, &path, unknown);
                    }
                    None => {
                        unknown.insert(path);
                    }
                }
            }
        }
        (Some("array"), Value::Array(elements)) => {
            let path = format!("{path}[].");
            for element in elements {
                collect(&validator["value"], element, &path, unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_the_validator_lacks_are_named_by_their_paths() {
        let field = |of: Value| json!({ "fieldType": of, "optional": true });
        let inner =
            json!({ "type": "object", "value": { "a": field(json!({ "type": "number" })) } });
        let validator = json!({ "type": "object", "value": {
            "a": field(json!({ "type": "any" })),
            "m": field(inner.clone()),
            "list": field(json!({ "type": "array", "value": inner })),
        } });
        let arguments = json!({
            "a": { "x": 1 }, "b": 1, "m": { "a": 1, "b": { "c": 1 } },
            "list": [{ "a": 1 }, { "b": 1 }, { "c": 1 }],
        });
        let unknown = Arguments(validator).unknown_fields(&arguments);
        assert_eq!(
            unknown.into_iter().collect::<Vec<_>>(),
            ["b", "list[].b", "list[].c", "m.b"]
        );
    }
}
