//! How long the client measured the hooks that it ran at the end of a turn.

use serde::Deserialize;

/// The kind of record that has the times.
const SUMMARY: &str = "stop_hook_summary";

/// A hook as the client measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct HookTime {
    /// The ID of the record, which a fork copies.
    pub record: String,
    /// The command as the client names it: that of the entry, and its arguments.
    pub command: String,
    /// In milliseconds.
    pub duration: u64,
}

#[derive(Deserialize)]
struct Record {
    subtype: String,
    uuid: String,
    #[serde(rename = "hookInfos")]
    hooks: Vec<Hook>,
}

#[derive(Deserialize)]
struct Hook {
    command: String,
    /// Older clients do not have it.
    #[serde(rename = "durationMs")]
    duration: Option<f64>,
}

/// The times in a part of a transcript, which may begin and end within a line.
#[must_use]
pub fn hook_times(text: &[u8]) -> Vec<HookTime> {
    let mut times = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        if memchr::memmem::find(line, SUMMARY.as_bytes()).is_none() {
            continue;
        }
        let Ok(record) = serde_json::from_slice::<Record>(line) else {
            continue;
        };
        if record.subtype != SUMMARY {
            continue;
        }
        times.extend(record.hooks.into_iter().filter_map(|hook| {
            let duration = hook.duration.filter(|duration| *duration >= 0.0)?;
            Some(HookTime {
                record: record.uuid.clone(),
                command: hook.command,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "rounded, and not negative"
                )]
                duration: duration.round() as u64,
            })
        }));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_whole_records_of_this_kind() {
        let text = concat!(
            "5}]}\n",
            r#"{"type":"system","subtype":"stop_hook_summary","uuid":"1","hookInfos":[{"command":"a","durationMs":12},{"command":"b"}]}"#,
            "\n",
            r#"{"type":"user","uuid":"2","message":{"content":"stop_hook_summary"}}"#,
            "\n",
            r#"{"subtype":"other","uuid":"3","hookInfos":[{"command":"stop_hook_summary","durationMs":3}]}"#,
            "\n",
            r#"{"subtype":"stop_hook_summary","uuid":"4","hookInfos":[{"command":"a","durationMs":0.6},{"command":"b","durationMs":-1}]}"#,
            "\n",
            r#"{"subtype":"stop_hook_summary","uuid":"5","hookInfos":[{"comm"#,
        );
        let times = hook_times(text.as_bytes());
        let seen: Vec<_> = times
            .iter()
            .map(|time| (&time.record[..], &time.command[..], time.duration))
            .collect();
        assert_eq!(seen, [("1", "a", 12), ("4", "a", 1)]);
    }
}
