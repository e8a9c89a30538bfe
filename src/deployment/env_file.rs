//! The `.env` file beside docker-compose.yml, read as Compose reads what people write there
//! (compose-go/dotenv); nested references, `:+` and `:?` are not supported. A line that assigns
//! nothing is skipped, and Compose reports it.

use crate::config::Environment;
use crate::system::json::BYTE_ORDER_MARK;

/// The variables that the text sets, in order. References to others are replaced: those of
/// `environment` first, then earlier ones. An error is the number of a line with a value whose
/// quotes do not enclose it.
pub(super) fn variables(
    text: &str,
    environment: &Environment,
) -> Result<Vec<(String, String)>, usize> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut lines = text.trim_start_matches(BYTE_ORDER_MARK).lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some((name, value)) = assignment(line) else {
            continue;
        };
        let lookup = |name: &str| {
            let mut earlier = variables.iter().rev();
            let own = || Some(&earlier.find(|(known, _)| known == name)?.1);
            environment.get(name).or_else(own).cloned()
        };
        let value = if let Some(quote) = value.chars().next().filter(|first| "'\"".contains(*first))
        {
            let mut quoted = value[1..].to_owned();
            let (content, rest) = loop {
                if let Some(parts) = split_at_quote(&quoted, quote) {
                    break parts;
                }
                let (_, line) = lines.next().ok_or(index + 1)?;
                quoted.push('\n');
                quoted.push_str(line);
            };
            if !matches!(rest.trim_start().chars().next(), None | Some('#')) {
                return Err(index + 1);
            }
            match quote {
                '"' => expand(&content, lookup),
                _ => content,
            }
        } else {
            let end = value.find(" #").unwrap_or(value.len());
            expand(value[..end].trim_end(), lookup)
        };
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// The name and the value of a line that assigns one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once(['=', ':'])?;
    let name = name.trim();
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|char| is_in_name(char) || "-.[]".contains(char));
    is_name.then(|| (name, value.trim()))
}

fn is_in_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The content up to the quote that ends it, and the text after that quote. In double quotes,
/// escapes mean the same as in Go, and `\$` becomes `$$`, which [`expand`] understands.
fn split_at_quote(text: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => match (chars.next()?.1, quote) {
                (escaped, quote) if escaped == quote => content.push(escaped),
                ('\\', '"') => content.push('\\'),
                ('n', '"') => content.push('\n'),
                ('r', '"') => content.push('\r'),
                ('t', '"') => content.push('\t'),
                ('$', '"') => content.push_str("$$"),
                (other, _) => content.extend(['\\', other]),
            },
            _ if char == quote => return Some((content, &text[index + 1..])),
            _ => content.push(char),
        }
    }
    None
}

/// The value with the variables that it refers to: `$NAME`, `${NAME}`, `${NAME:-default}`.
fn expand(value: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let block = after
            .strip_prefix('{')
            .and_then(|block| block.split_once('}'));
        let name = block.map_or(after, |(inside, _)| inside);
        let (name, tail) = name.split_at(name.find(|char| !is_in_name(char)).unwrap_or(name.len()));
        if name.is_empty() {
            expanded.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
            continue;
        }
        let default = block.map_or("", |_| tail.trim_start_matches(':'));
        let default = default.strip_prefix('-').unwrap_or_default();
        let found = lookup(name).filter(|found| !found.is_empty());
        expanded.push_str(found.as_deref().unwrap_or(default));
        rest = block.map_or(tail, |(_, rest)| rest);
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, usize> {
        let environment = [("OUTER".to_owned(), "outer".to_owned())];
        variables(text, &environment.into())
    }

    #[test]
    fn values_are_those_that_compose_reads() {
        for (text, value) in [
            ("A=3333", "3333"),
            ("\u{feff}A=3333\r\n", "3333"),
            ("# A=1\n\n  export A = b ", "b"),
            ("A: b", "b"),
            ("A=", ""),
            ("A=my db", "my db"),
            ("A=it's", "it's"),
            ("A=say \"hi\"", "say \"hi\""),
            ("A=C:\\new", "C:\\new"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A='$B \\n # c' # comment", "$B \\n # c"),
            ("A='it\\'s'", "it's"),
            ("A=\"b\\n\\\"c\\\" \\d \\$D\"", "b\n\"c\" \\d $D"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=$OUTER", "outer"),
            ("A=\"$OUTER\"", "outer"),
            ("A=${OUTER}/${NONE:-b}/${NONE-c}/$NONE", "outer/b/c/"),
            ("A=50$ or $$", "50$ or $"),
        ] {
            let expected = vec![("A".to_owned(), value.to_owned())];
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
        let several = read("A='1'\nNOTHING\nB D=2\nC=$A$A").unwrap();
        let texts: Vec<_> = several
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(texts, ["A=1", "C=11"]);
    }

    #[test]
    fn line_with_a_value_that_its_quotes_do_not_enclose_is_named() {
        assert_eq!(read("A=1\nB='open\nC=3"), Err(2));
        assert_eq!(read("A=1\n\nB=\"b\" c"), Err(3));
    }
}
