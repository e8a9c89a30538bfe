//! Which sessions a user selects.

use super::document::Document;

/// Sessions by their project and their text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Only those of this project; see [`is_of_project`].
    pub project: Option<String>,
    /// Only those with this text in their prompt, answer, error, title, branch or ID, in upper or
    /// lower case.
    pub search: Option<String>,
}

impl Selection {
    /// Whether it selects all sessions.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.project.is_none() && self.search.is_none()
    }

    /// Whether it selects this session.
    #[must_use]
    pub fn contains(&self, document: &Document) -> bool {
        let metadata = &document.metadata;
        let repository = metadata.repository.as_deref();
        let is_of = |name: &String| is_of_project(repository, &metadata.cwd, name);
        self.project.as_ref().is_none_or(is_of)
            && self.search.as_ref().is_none_or(|text| {
                let text = text.to_lowercase();
                let id = Some(&document.session_id);
                [
                    id,
                    document.input.as_ref(),
                    metadata.last_prompt.as_ref(),
                    document.output.as_ref(),
                    document.error.as_ref(),
                    metadata.title.as_ref(),
                    metadata.git_branch.as_ref(),
                ]
                .into_iter()
                .flatten()
                .any(|field| field.to_lowercase().contains(&text))
            })
    }
}

/// Whether `name` matches the repository of a session, if it has one, or its folder; see
/// [`is_project`].
#[must_use]
pub fn is_of_project(repository: Option<&str>, cwd: &str, name: &str) -> bool {
    let is_repository = repository.is_some_and(|repository| is_project(repository, name));
    is_repository || is_project(cwd, name)
}

/// Whether `name` means this project: its repository or folder, the last parts of either, or a
/// folder that it is in.
#[must_use]
pub fn is_project(project: &str, name: &str) -> bool {
    const SEPARATORS: [char; 3] = ['/', '\\', ':'];
    fn bare(text: &str) -> &str {
        let text = text.trim_end_matches(['/', '\\']);
        text.strip_suffix(".git").unwrap_or(text)
    }
    let (project, name) = (bare(project), bare(name));
    if name.is_empty() {
        return false;
    }
    let is_end = project
        .strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(SEPARATORS));
    let is_folder = name.contains(SEPARATORS);
    let is_below = project
        .strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(['/', '\\']));
    is_end || is_folder && is_below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_is_named_by_its_last_parts_or_a_folder_above_it() {
        let (folder, repository) = ("/home/dev/shop", "https://github.com/acme/shop.git");
        for (project, name) in [
            (folder, "shop"),
            (folder, "dev/shop"),
            (folder, "/home/dev/shop/"),
            (folder, "/home/dev"),
            (repository, "shop"),
            (repository, "acme/shop"),
            (repository, "https://github.com/acme/shop"),
            ("git@github.com:acme/shop.git", "acme/shop"),
            ("C:\\work\\shop", "shop"),
            ("/", "/"),
        ] {
            assert_eq!(
                is_project(project, name),
                project != "/",
                "{project} {name}"
            );
        }
        for name in [
            "hop",
            "home",
            "dev",
            "/home/de",
            "",
            "/",
            "shop/api",
            "/home/dev/shop/api",
        ] {
            assert!(!is_project(folder, name), "{name}");
        }
    }
}
