//! Documents whose parts add up to the whole.

use serde_json::Value;

/// Asserts that the days of a document add up to its models, and these to the session.
pub fn assert_adds_up(document: &Value) {
    const KINDS: [&str; 7] = [
        "inputTokens",
        "outputTokens",
        "cacheReadInputTokens",
        "cacheCreationInputTokens",
        "thinkingTokens",
        "cacheCreation1hInputTokens",
        "webSearchRequests",
    ];
    let metadata = &document["metadata"];
    let list = |name: &str| metadata[name].as_array().cloned().unwrap_or_default();
    let (models, days) = (list("usageByModel"), list("usageByDay"));
    let sum = |entries: &[Value], kind: &str| -> u64 {
        let counts = entries.iter().map(|entry| entry[kind].as_u64());
        counts.flatten().sum()
    };
    let dollars = |entries: &[Value]| -> f64 {
        let costs = entries.iter().map(|entry| entry["costUsd"].as_f64());
        costs.flatten().sum()
    };
    for kind in KINDS {
        let all = metadata["usage"][kind].as_u64().unwrap_or_default();
        assert_eq!(sum(&models, kind), all, "{kind} of {metadata:#}");
    }
    for of_model in &models {
        let days = days.iter().cloned();
        let days: Vec<_> = days
            .filter(|day| day["model"] == of_model["model"])
            .collect();
        for kind in KINDS {
            let all = of_model[kind].as_u64().unwrap_or_default();
            assert_eq!(sum(&days, kind), all, "{kind} of {metadata:#}");
        }
        let cost = match models.len() {
            1 => &metadata["costUsd"],
            _ => &of_model["costUsd"],
        };
        let cost = cost.as_f64().unwrap_or_default();
        assert!((dollars(&days) - cost).abs() < 1e-9, "{metadata:#}");
    }
    if let (Some(cost), false) = (metadata["costUsd"].as_f64(), models.is_empty()) {
        assert!((dollars(&days) - cost).abs() < 1e-9, "{metadata:#}");
    }
    let order: Vec<_> = days
        .iter()
        .map(|entry| [&entry["day"], &entry["model"]].map(|name| name.as_str().unwrap()))
        .collect();
    assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
}
