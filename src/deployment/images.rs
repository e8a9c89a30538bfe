//! The images of the containers: which one the backend has, which one it should have, and
//! downloading it.

use anyhow::Result;
use serde_json::Value;

use super::compose::{BACKEND, Compose, UP_LIMIT};
use super::docker_failure::Cause;
use super::program::QUERY_TIMEOUT;
use super::versions::Tag;

impl Compose<'_> {
    /// The tag of the backend's container, running or not.
    pub fn backend_tag(&self) -> Result<Option<Tag>> {
        let containers = self.containers()?;
        let mut backends = containers
            .iter()
            .filter(|container| container.service == BACKEND);
        Ok(backends.find_map(|container| Tag::of(&container.image)))
    }

    /// The tag that the backend should have: that of `CONVEX_IMAGE_TAG`, or the pinned one.
    pub fn wanted_tag(&self) -> Result<Tag> {
        let image = self.resolved()?.and_then(|project| {
            let project: Value = serde_json::from_str(&project).ok()?;
            Tag::of(project["services"][BACKEND]["image"].as_str()?)
        });
        image.map_or_else(Tag::pinned, Ok)
    }

    /// Downloads the images of Convex with this tag.
    pub fn pull(&self, tag: &Tag) -> Result<()> {
        let output = self.call_with(&["pull", BACKEND, "dashboard"], Some(tag), UP_LIMIT)?;
        if output.is_success() {
            return Ok(());
        }
        let failure = "could not download the images";
        Err(self.explain(Cause::of(&output), &output, failure))
    }

    /// Whether the backend has begun to migrate its data, according to its log. Without a log, the
    /// answer is yes, to be safe.
    #[must_use]
    pub fn has_migrated(&self) -> bool {
        let log = self.call_with(&["logs", "--no-color", BACKEND], None, QUERY_TIMEOUT);
        log.map_or(true, |log| {
            !log.is_success() || log.text().contains("Migrating to ")
        })
    }
}
