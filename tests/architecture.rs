//! Checks the structure of `src/` against ARCHITECTURE.md: the modules are those of its table,
//! imports run only from a module to itself or to one above it in that table, external libraries
//! stay in the module that owns them, and files stay short.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads files"
)]
#![allow(missing_docs, reason = "tests say by their names what they check")]

use std::fs;
use std::path::{Path, PathBuf};

/// The heading of the section of ARCHITECTURE.md whose table lists the modules.
const HEADING: &str = "## Modules, in order";
/// The crates that only one module may name.
const OWNED_CRATES: [(&str, &str); 3] = [
    ("rusqlite", "journal"),
    ("reqwest", "convex"),
    ("rustls", "convex"),
];
/// The maximum number of lines of a file in `src/`, without its tests.
const MAX_LINES: usize = 400;

struct SourceFile {
    /// Below `src/`, with `/`: `journal/mod.rs`.
    path: String,
    text: String,
}

impl SourceFile {
    /// The folder or top-level file that this is part of: `journal`, `cli`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The text without comments, line by line.
    fn code(&self) -> String {
        let is_comment = |line: &str| line.trim_start().starts_with("//");
        let lines = self.text.lines();
        lines
            .map(|line| if is_comment(line) { "" } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The modules that this file imports, with the line numbers. An unindented `super::` counts if
    /// it leads out of the module, as in `use super::system` in `journal/mod.rs`.
    fn imports(&self) -> Vec<(usize, String)> {
        let code = self.code();
        let depth = self.path.trim_end_matches("/mod.rs").split('/').count();
        let paths_from = |root: &str, is_import: &dyn Fn(&str) -> bool| {
            let starts = code.match_indices(root).filter(|(start, _)| {
                let line = code[..*start].rsplit('\n').next().unwrap_or_default();
                !line.ends_with(|last: char| last.is_alphanumeric() || "_:".contains(last))
                    && is_import(line)
            });
            starts
                .flat_map(|(start, _)| {
                    let line = code[..start].matches('\n').count() + 1;
                    let names = names(&code[start + root.len()..]);
                    names.into_iter().map(move |name| (line, name))
                })
                .collect::<Vec<_>>()
        };
        let is_unindented = |line: &str| line.starts_with(|first: char| !first.is_whitespace());
        let mut imports = paths_from("crate::", &|_| true);
        imports.extend(paths_from(&"super::".repeat(depth), &is_unindented));
        imports
    }
}

/// The first name of each path that `text` starts with: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn names(text: &str) -> Vec<String> {
    let name = |path: &str| {
        path.trim_start()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect::<String>()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let mut depth = 1;
    let mut starts = vec![0];
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => starts.push(index + 1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    let names = starts.into_iter().map(|start| name(&group[start..]));
    names.filter(|name| !name.is_empty()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of `src/`. `lib.rs` only lists the modules.
fn sources() -> Vec<SourceFile> {
    let src = root().join("src");
    let mut folders = vec![src.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&src).unwrap().to_str().unwrap();
                files.push(SourceFile {
                    path: below.replace('\\', "/"),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    files.retain(|file| file.path != "lib.rs");
    files
}

/// The modules in the order of ARCHITECTURE.md, as `record`, …, `main`: the first column of the
/// table of its section.
fn order() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once(HEADING).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/"));
    rows.map(|row| {
        let module = row.split('`').next().unwrap();
        let module = module.trim_end_matches('/').trim_end_matches(".rs");
        module.to_owned()
    })
    .collect()
}

/// The imports that run against the order.
fn violations(file: &SourceFile, order: &[String]) -> Vec<String> {
    let position = |module: &str| order.iter().position(|known| known == module);
    let own = position(file.module());
    let imports = file.imports().into_iter();
    imports
        .filter(|(_, module)| {
            position(module.as_str()).is_none_or(|used| own.is_none_or(|own| used > own))
        })
        .map(|(number, module)| format!("src/{}:{number} uses {module}", file.path))
        .collect()
}

#[test]
fn modules_are_those_of_the_table_in_architecture_md() {
    let mut listed = order();
    let files = sources();
    let mut modules: Vec<_> = files.iter().map(|file| file.module().to_owned()).collect();
    modules.sort_unstable();
    modules.dedup();
    listed.sort_unstable();
    assert_eq!(modules, listed);
}

#[test]
fn imports_run_only_upward_in_the_table() {
    let order = order();
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|file| violations(file, &order))
        .collect();
    assert!(found.is_empty(), "against the order:\n{}", found.join("\n"));
}

#[test]
fn import_of_a_lower_module_is_found_in_every_form() {
    let order = ["record", "journal", "command"].map(str::to_owned);
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    for (path, line) in [
        ("journal/mod.rs", "use crate::command::hook;"),
        (
            "journal/mod.rs",
            "use crate::{\n    record::{Event, Run},\n    command,\n};",
        ),
        (
            "journal/mod.rs",
            "    let event = crate::command::hook::run(event);",
        ),
        ("journal/mod.rs", "use super::command;"),
        ("journal/schema.rs", "use super::super::command;"),
        ("record/event.rs", "use crate::journal::Journal;"),
    ] {
        let found = violations(&file(path, line), &order);
        assert_eq!(found.len(), 1, "{path}: {line}: {found:?}");
    }
    for (path, line) in [
        ("journal/mod.rs", "use crate::record::{Event, journal};"),
        ("journal/schema.rs", "use super::command;"),
        ("journal/mod.rs", "mod tests {\n    use super::command;\n}"),
        ("journal/mod.rs", "// as in crate::command::hook"),
        ("command/mod.rs", "use crate::{journal::Journal, record};"),
    ] {
        let found = violations(&file(path, line), &order);
        assert!(found.is_empty(), "{path}: {line}: {found:?}");
    }
}

#[test]
fn crates_are_named_only_by_the_module_that_owns_them() {
    for file in sources() {
        for (name, owner) in OWNED_CRATES {
            let is_named = file.code().contains(&format!("{name}::"));
            assert!(
                file.module() == owner || !is_named,
                "src/{} names {name}, which belongs to {owner}",
                file.path
            );
        }
    }
}

#[test]
fn files_are_short() {
    for file in sources() {
        let code = file.text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = code.lines().count();
        assert!(
            lines <= MAX_LINES,
            "src/{} has {lines} lines, at most {MAX_LINES} are allowed",
            file.path
        );
    }
}
