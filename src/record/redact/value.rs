//! Whether the value of a password or a key is a real secret, or a word, a path, code or a
//! placeholder.

/// Values that are placeholders for a secret.
const PLACEHOLDERS: &[&str] = &[
    "none",
    "null",
    "nil",
    "true",
    "false",
    "undefined",
    "string",
    "str",
    "bytes",
    "number",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "secret",
    "token",
    "required",
    "optional",
    "authentication",
    "authorization",
    "credential",
    "credentials",
    "header",
    "include",
    "omit",
    "same-origin",
    "changeme",
    "change-me",
    "example",
    "redacted",
    "hidden",
    "empty",
    "missing",
    "invalid",
    "unset",
    "value",
    "todo",
    "default",
    "xxxx",
    "text",
];

/// The beginnings of placeholders, and of code that takes the value from elsewhere.
const PLACEHOLDER_STARTS: &[&str] = &[
    "$",
    "<",
    "{",
    "[",
    "%s",
    "%(",
    "*",
    "…",
    "...",
    "your",
    "my-",
    "my_",
    "process.env",
    "os.environ",
    "env.",
    "env:",
    "secrets.",
    "var.",
    "self.",
    "this.",
];

/// Parts of a variable's name that show that its value is about a secret but is not one:
/// `token_count`, `PASSWORD_FILE`, `secretName`.
const ABOUT: &[&str] = &[
    "tokens",
    "tokeniz",
    "count",
    "limit",
    "budget",
    "usage",
    "type",
    "kind",
    "name",
    "version",
    "index",
    "position",
    "offset",
    "url",
    "uri",
    "endpoint",
    "path",
    "file",
    "dir",
    "policy",
    "length",
    "strength",
    "expir",
    "ttl",
    "field",
    "input",
    "label",
    "hint",
    "placeholder",
    "prompt",
    "ref",
    "selector",
    "format",
    "prefix",
    "rotation",
    "manager",
    "store",
];

/// Words that, before `key`, show that it is a secret, as in `api_key` and `ACCESS-KEY`.
const KEYS: &[&str] = &[
    "api",
    "access",
    "private",
    "admin",
    "deploy",
    "auth",
    "encryption",
    "signing",
    "master",
    "account",
    "service",
    "license",
    "storage",
    "openai",
    "anthropic",
    "cohere",
    "mistral",
    "azure",
    "deepseek",
    "gemini",
    "shared",
];

/// Whether the value of a group is a secret. `group` says how much it takes:
///
/// - `any`: every value.
/// - `given`: anything that could be set as a password, but no placeholder, path or code.
/// - `mixed`: as before, and with a digit or punctuation, so not a word.
/// - `random`: as before, and with a part that no word or version has, such as `Ab3dEf6h`.
/// - `login`: what precedes the `@` of a URL, so not a port.
/// - `name`: not a value, but the name that is assigned to, starting at the word that identifies a
///   secret.
/// - `key`: such a name that is a secret only with certain words before it.
///
/// `before` is the text before the match.
pub(super) fn is_secret(group: &str, value: &str, before: &str) -> bool {
    match group.trim_end_matches(|last: char| last.is_ascii_digit()) {
        "name" => is_name(value),
        "key" => {
            let before = before.trim_end_matches(['_', '-']);
            let ends_with = |word: &&str| {
                let end = before.len().checked_sub(word.len());
                let end = end.and_then(|start| before.get(start..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(word))
            };
            KEYS.iter().any(ends_with) && is_name(value)
        }
        "login" => !is_port(value, before) && !is_placeholder(value),
        "given" => is_given(value),
        "mixed" => is_given(value) && is_mixed(value),
        "random" => is_given(value) && is_random(value),
        _ => true,
    }
}

fn is_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !ABOUT.iter().any(|part| name.contains(part))
}

/// Whether an apparent password is a port and a path with an `@`, as in the URL of a package:
/// `http://localhost:4873/@scope/name`.
fn is_port(value: &str, before: &str) -> bool {
    let is_web = before.ends_with("http") || before.ends_with("https");
    let port = value.split_once('/').map(|(port, _)| port);
    is_web && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let word = lower.trim_end_matches(['.', ',', ':', ';', '!', '?']);
    let mut letters = word.chars();
    let first = letters.next();
    PLACEHOLDERS.contains(&word)
        || PLACEHOLDER_STARTS
            .iter()
            .any(|start| lower.starts_with(start))
        || lower.contains("...")
        || lower.contains('…')
        || lower.ends_with('|')
        || lower.starts_with("0x") && value.len() <= 10
        || letters.all(|letter| Some(letter) == first)
}

fn is_given(value: &str) -> bool {
    !is_placeholder(value) && !is_path(value) && !is_identifier(value)
}

/// A path or a URL. A key in base64 can begin with a slash, but hardly with a word and a slash.
fn is_path(value: &str) -> bool {
    let first_folder = value
        .strip_prefix('/')
        .and_then(|rest| rest.split('/').next());
    value.contains("://")
        || ["~/", "./", "../"]
            .iter()
            .any(|start| value.starts_with(start))
        || first_folder.is_some_and(|folder| {
            let is_word = folder
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte));
            is_word
                && (folder.bytes().all(|byte| !byte.is_ascii_uppercase())
                    || value.matches('/').count() > 1)
        })
}

/// Code that names a secret: `config.db_password`, `newPassword`, `access_token`.
fn is_identifier(value: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || b"_.?".contains(&byte);
    let lower = value.to_ascii_lowercase();
    value.contains("::")
        || value.bytes().all(is_name)
            && (value.contains('.')
                || ["passw", "pwd", "secret", "token", "key", "cred"]
                    .iter()
                    .any(|word| lower.contains(word)))
}

fn is_mixed(value: &str) -> bool {
    let has = |test: fn(&u8) -> bool| value.as_bytes().iter().any(test);
    let letters = has(u8::is_ascii_alphabetic);
    letters
        && (has(u8::is_ascii_digit)
            || value.contains(['!', '@', '#', '%', '^', '&', '*', '+', '=', '~'])
            || has_both_cases(value))
}

/// Whether three tenths of the letters are in upper case and as many in lower case, as in base64
/// and not in `camelCase`.
fn has_both_cases(value: &str) -> bool {
    let upper = value.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = value.bytes().filter(u8::is_ascii_lowercase).count();
    value.len() >= 16 && upper * 10 >= value.len() * 3 && lower * 10 >= value.len() * 3
}

/// Whether a part of the value mixes letters and digits in a way that no name does: `sha256`,
/// `oauth2`, `gpt-4o` and `2026-11-26` have none.
fn is_random(value: &str) -> bool {
    let parts = value.split(['-', '_', '.', ':', '/', ',']);
    let is_part = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
        let is_numbered = part
            .bytes()
            .take(letters)
            .all(|byte| byte.is_ascii_alphabetic());
        part.len() >= 8 && digits >= 2 && letters >= 3 && !(is_numbered && part.len() < 12)
    };
    let is_hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_id = value.len() >= 32
        && value.bytes().all(is_hexadecimal)
        && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    parts.into_iter().any(is_part) || is_id || has_both_cases(value)
}
