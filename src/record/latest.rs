//! The latest values of what a transcript repeats, such as titles and the model, and the first
//! folder.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::facts::is_before;
use super::redact::Text;

/// A field of which one value is kept: the first or the latest, by time. Not every record has the
/// field, and the client may write old records again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dated {
    at: Option<Millis>,
    text: Option<String>,
}

impl Dated {
    /// The value, to be masked.
    pub const fn text_mut(&mut self) -> Option<&mut String> {
        self.text.as_mut()
    }

    /// The value.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.text.clone()
    }

    /// Sets the value if it is older than the current one.
    pub fn set_first(&mut self, at: Option<Millis>, text: &str) {
        if self.text.is_none() || is_before(at, self.at) {
            self.at = at;
            self.text = Some(text.to_owned());
        }
    }

    /// Sets the value unless it is older than the current one.
    pub fn set(&mut self, at: Option<Millis>, text: &str) {
        if is_before(at, self.at) {
            return;
        }
        self.at = at.max(self.at);
        if self.text.as_deref() != Some(text) {
            self.text = Some(text.to_owned());
        }
    }
}

/// State records, and fields of any record, whose latest value counts. For the folder, the first
/// value counts, because agents change folders and a session belongs to the one that it started in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the client's")]
pub struct Latest {
    pub custom_title: Option<Text>,
    pub ai_title: Option<Text>,
    pub model: Dated,
    pub cwd: Dated,
    pub git_branch: Dated,
    pub version: Dated,
    pub entrypoint: Dated,
    pub permission_mode: Dated,
}

impl Latest {
    /// Updates each field that `later` has.
    pub fn update(&mut self, later: Self) {
        self.custom_title = later.custom_title.or(self.custom_title.take());
        self.ai_title = later.ai_title.or(self.ai_title.take());
        if let Some(cwd) = later.cwd.text {
            self.cwd.set_first(later.cwd.at, &cwd);
        }
        for (ours, theirs) in [
            (&mut self.model, later.model),
            (&mut self.git_branch, later.git_branch),
            (&mut self.version, later.version),
            (&mut self.entrypoint, later.entrypoint),
            (&mut self.permission_mode, later.permission_mode),
        ] {
            if let Some(text) = theirs.text {
                ours.set(theirs.at, &text);
            }
        }
    }
}
