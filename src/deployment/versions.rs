//! Which backend is pinned, which ones are older, and what the Convex CLI needs, as data.
//!
//! An image of the backend is tagged with a commit of
//! <https://github.com/get-convex/convex-backend>, whose date decides which of two images is older.
//! CONTRIBUTING.md describes how to update the pinned pair of image and CLI.

use std::fmt;

use anyhow::{Context, Result};

use super::bundle::{self, COMPOSE_FILE};

/// Tags and the dates of their commits, oldest first: the releases in upstream's
/// `self-hosted/CHANGELOG.md`, which ends in September 2025, and what docker-compose.yml pinned
/// since.
const TAGS: &str = "\
2025-02-12 4499dd4fd7f2148687a7774599c613d052950f46
2025-02-13 6c974d219776b753cd23d26f4a296629ff7c2cad
2025-02-18 62ef09aa604b0c5f873b59e0944b5e89f84b66b2
2025-02-19 663640f5a01018914dc4314145f23a31f3afdca6
2025-02-19 86ae5d34c8164075b66fa0c52beabd19212d8df7
2025-02-24 fff8e431b95f4d9fde899ce348f8e8f23210aad3
2025-02-26 161e32648a971fb8ef591e61212f7b9fb7ff4f2c
2025-03-06 be8a4f397810ce3d04dc3cb32bc81969fe64685a
2025-03-10 5143fec81f146ca67495c12c6b7a15c5802c37e2
2025-05-23 478d197d54ee6e873f06cf9e9deae1eb4aa35bb5
2025-05-29 c1a7ac393888d743e704de56cf569a154b4526d4
2025-07-01 6efab6f2b6c182b90255774d747328cfc7b80dd9
2025-08-05 33cef775a8a6228cbacee4a09ac2c4073d62ed13
2025-08-27 08139ef318b1898dad7731910f49ba631631c902
2025-09-03 00bd92723422f3bff968230c94ccdeb8c1719832
2025-09-12 4d3b0a5de955a258e70e3813bbff486051d88820
2026-06-26 903b8b96c4bceb34c62e366cf36e8f4774955e6b
";

/// A version of the Convex CLI: major, minor, patch.
type Version = [u32; 3];
/// A date, YYYY-MM-DD, so that dates compare as texts.
type Date = &'static str;

/// Which version of the CLI first needed a backend of which date for `deploy`, oldest first:
/// - `POST /api/deploy2/evaluate_push`, added to the backend by commit
///   ef9b6644c14012425503c9d66b50effdfc16a950;
/// - a push that names only the modules that changed, which the backend accepts since commit
///   e3c49f8835faea8c14df1b82c51ce92c4d92c31f.
const NEEDS: [(Version, Date); 2] = [([1, 29, 0], "2025-11-04"), ([1, 31, 7], "2026-01-22")];
/// The newest version of the CLI whose requirements were looked up. A newer one must not be pinned.
pub const CHECKED: Version = [1, 48, 0];

/// The tag of an image of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// How one tag's date compares to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is the same.
    Same,
    /// It is known to be older.
    Older,
    /// It is known to be newer.
    Newer,
    /// At least one of the two is not known.
    Unknown,
}

impl Tag {
    /// The tag of a backend's image, such as `ghcr.io/get-convex/convex-backend:TAG`; `None` for an
    /// image without a tag, or of something else.
    #[must_use]
    pub fn of(image: &str) -> Option<Self> {
        let (name, tag) = image.rsplit_once(':')?;
        let is_backend = name.ends_with("convex-backend") && !tag.is_empty();
        (is_backend && !tag.contains(['/', '@'])).then(|| Self(tag.to_owned()))
    }

    /// The tag that docker-compose.yml pins.
    pub fn pinned() -> Result<Self> {
        let after = COMPOSE_FILE.split_once("CONVEX_IMAGE_TAG:-");
        let tag = after.and_then(|(_, rest)| rest.split_once('}'));
        let (tag, _) = tag.context("could not read the pinned tag in docker-compose.yml")?;
        Ok(Self(tag.to_owned()))
    }

    /// The tag as Docker knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How this tag compares to another.
    #[must_use]
    pub fn compared_to(&self, other: &Self) -> Age {
        match (self.position(), other.position()) {
            _ if self == other => Age::Same,
            (Some(own), Some(other)) if own < other => Age::Older,
            (Some(_), Some(_)) => Age::Newer,
            _ => Age::Unknown,
        }
    }

    fn position(&self) -> Option<usize> {
        tags().position(|(_, tag)| tag == self.0)
    }

    fn date(&self) -> Option<Date> {
        let found = tags().find(|(_, tag)| *tag == self.0);
        found.map(|(date, _)| date)
    }

    /// The date of the oldest backend that the pinned CLI can deploy to, if this one is known to be
    /// older.
    pub fn misses(&self) -> Result<Option<Date>> {
        let needed = needed_by(parse(&bundle::cli_version()?));
        Ok(needed.filter(|needed| self.date().is_some_and(|date| date < *needed)))
    }
}

/// The short form of a commit, and its date if that is known.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_commit = self.0.len() == 40 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit());
        f.write_str(if is_commit { &self.0[..12] } else { &self.0 })?;
        self.date().map_or(Ok(()), |date| write!(f, " of {date}"))
    }
}

/// The rows of [`TAGS`].
fn tags() -> impl Iterator<Item = (Date, &'static str)> {
    TAGS.lines().filter_map(|row| row.split_once(' '))
}

/// The date of the oldest backend that a version of the CLI can deploy to.
fn needed_by(cli: Version) -> Option<Date> {
    let needs = NEEDS.iter().rev();
    needs
        .clone()
        .find(|(from, _)| *from <= cli)
        .map(|need| need.1)
}

/// The numbers of a version, 0 where there is none.
fn parse(version: &str) -> Version {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OLD: &str = "4d3b0a5de955a258e70e3813bbff486051d88820";

    /// What is wrong with a pair of tag and CLI.
    fn problem(tag: &Tag, cli: &str) -> Option<&'static str> {
        let version = parse(cli);
        match (tag.date(), needed_by(version)) {
            _ if version > CHECKED => Some("look up what this CLI needs"),
            (None, _) => Some("the date of this tag is not known"),
            (Some(date), Some(needed)) if date < needed => Some("this CLI needs a newer backend"),
            _ => None,
        }
    }

    #[test]
    fn pinned_backend_and_cli_fit() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let locked = |text: &str| json(text)["packages"]["node_modules/convex"]["version"].clone();
        let cli = json(include_str!("../../package.json"))["devDependencies"]["convex"].clone();
        assert_eq!(locked(include_str!("../../package-lock.json")), cli);
        assert_eq!(bundle::cli_version().unwrap(), cli);
        let pinned = Tag::pinned().unwrap();
        assert_eq!(problem(&pinned, cli.as_str().unwrap()), None);
        assert_eq!(pinned.misses().unwrap(), None);

        // Both images have the tag, and the date after it is that of its commit.
        let date = pinned.date().unwrap();
        let tag = pinned.as_str();
        for service in ["backend", "dashboard"] {
            let image = format!("convex-{service}:${{CONVEX_IMAGE_TAG:-{tag}}} # {date}\n");
            assert!(COMPOSE_FILE.contains(&image), "{image}");
        }
        assert_eq!(COMPOSE_FILE.matches("CONVEX_IMAGE_TAG").count(), 2);
    }

    #[test]
    fn pair_that_does_not_fit_or_was_not_checked_is_a_problem() {
        let (old, pinned) = (Tag(OLD.to_owned()), Tag::pinned().unwrap());
        let unknown = Tag("0".repeat(40));
        for (tag, cli, expected) in [
            (&old, "1.28.2", None),
            (&old, "1.29.0", Some("this CLI needs a newer backend")),
            (&old, "1.48.0", Some("this CLI needs a newer backend")),
            (&pinned, "1.48.0", None),
            (&pinned, "1.48.1", Some("look up what this CLI needs")),
            (&pinned, "2.0.0", Some("look up what this CLI needs")),
            (
                &unknown,
                "1.48.0",
                Some("the date of this tag is not known"),
            ),
        ] {
            assert_eq!(problem(tag, cli), expected, "{tag} {cli}");
        }
        assert_eq!(old.misses().unwrap(), Some("2026-01-22"));
        assert_eq!(unknown.misses().unwrap(), None);
    }

    #[test]
    fn tables_are_in_order() {
        assert!(tags().is_sorted_by_key(|(date, _)| date));
        assert!(tags().all(|(date, tag)| date.len() == 10 && tag.len() == 40));
        assert!(NEEDS.is_sorted());
        assert!(NEEDS.iter().all(|(from, _)| *from <= CHECKED));
    }

    #[test]
    fn tags_are_compared_only_if_both_are_known() {
        let tag = |text: &str| Tag(text.to_owned());
        let (old, new) = (tag(OLD), Tag::pinned().unwrap());
        for (one, other, age) in [
            (&old, &new, Age::Older),
            (&new, &old, Age::Newer),
            (&new, &new, Age::Same),
            (&tag("latest"), &new, Age::Unknown),
            (&new, &tag("latest"), Age::Unknown),
            (&tag("latest"), &tag("latest"), Age::Same),
        ] {
            assert_eq!(one.compared_to(other), age, "{one} {other}");
        }
        assert_eq!(old.to_string(), "4d3b0a5de955 of 2025-09-12");
        assert_eq!(tag("latest").to_string(), "latest");
    }

    #[test]
    fn tag_is_read_from_the_name_of_a_backends_image() {
        for (image, tag) in [
            ("ghcr.io/get-convex/convex-backend:latest", Some("latest")),
            ("mirror.example:5000/convex-backend:abc", Some("abc")),
            ("mirror.example:5000/convex-backend", None),
            ("ghcr.io/get-convex/convex-backend@sha256:0123", None),
            ("ghcr.io/get-convex/convex-dashboard:latest", None),
            ("137", None),
            ("", None),
        ] {
            assert_eq!(Tag::of(image).as_ref().map(Tag::as_str), tag, "{image}");
        }
    }
}
