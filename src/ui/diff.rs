//! A unified diff of two texts, for `--dry-run`: what would change must be readable before it does.
//!
//! What both texts begin and end with is left out first: the difference is our few entries, the
//! file is the user's.

use std::fmt::Write;

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;
/// The most cells of the table by which lines are compared: 16 MB, some two thousand lines on
/// either side.
const GREATEST_TABLE: usize = 4_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Keep,
    Remove,
    Insert,
}

/// The difference as `diff -u` prints it, with these names; empty when there is none. A carriage
/// return at the end of a line is left out: it would only disturb a terminal.
#[must_use]
pub fn unified(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (
        old.split_inclusive('\n').collect(),
        new.split_inclusive('\n').collect(),
    );
    let steps = steps(&old, &new);
    let mut text = String::new();
    let mut at = 0;
    while let Some(first) = steps[at..]
        .iter()
        .position(|step| *step != Step::Keep)
        .map(|offset| at + offset)
    {
        if text.is_empty() {
            let _ = writeln!(text, "--- {old_name}\n+++ {new_name}");
        }
        let start = first.saturating_sub(CONTEXT).max(at);
        let end = hunk_end(&steps, first);
        let lines =
            |steps: &[Step], other: Step| steps.iter().filter(|step| **step != other).count();
        let (old_start, new_start) = (
            lines(&steps[..start], Step::Insert),
            lines(&steps[..start], Step::Remove),
        );
        let hunk = &steps[start..end];
        let (old_count, new_count) = (lines(hunk, Step::Insert), lines(hunk, Step::Remove));
        let _ = writeln!(
            text,
            " -{} +{} ",
            range(old_start, old_count),
            range(new_start, new_count)
        );
        let (mut old_lines, mut new_lines) = (old[old_start..].iter(), new[new_start..].iter());
        for step in hunk {
            let (mark, line) = match step {
                Step::Keep => (' ', new_lines.next().and(old_lines.next())),
                Step::Remove => ('-', old_lines.next()),
                Step::Insert => ('+', new_lines.next()),
            };
            let line = line.copied().unwrap_or_default();
            let _ = writeln!(text, "{mark}{}", line.trim_end_matches(['\n', '\r']));
            if !line.ends_with('\n') {
                text.push_str("\\ No newline at end of file\n");
            }
        }
        at = end;
    }
    text
}

/// Where the hunk that starts with this change ends: behind the context of the last change that is
/// near enough.
fn hunk_end(steps: &[Step], first: usize) -> usize {
    let mut last = first;
    for (index, step) in steps.iter().enumerate().skip(first) {
        if *step != Step::Keep {
            last = index;
        } else if index - last > 2 * CONTEXT {
            break;
        }
    }
    steps.len().min(last + 1 + CONTEXT)
}

/// `start,count`, where an empty range names the line before it and a count of one is left out.
fn range(start: usize, count: usize) -> String {
    match count {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{count}", start + 1),
    }
}

/// The shortest way from one text to the other.
fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let prefix = old
        .iter()
        .zip(new)
        .take_while(|(old, new)| old == new)
        .count();
    let suffix = old[prefix..]
        .iter()
        .rev()
        .zip(new[prefix..].iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let mut steps = vec![Step::Keep; prefix];
    steps.extend(shortest(
        &old[prefix..old.len() - suffix],
        &new[prefix..new.len() - suffix],
    ));
    steps.resize(steps.len() + suffix, Step::Keep);
    steps
}

/// By the table of longest common subsequences; texts too long for it are taken as replaced
/// altogether, which is true, too.
fn shortest(old: &[&str], new: &[&str]) -> Vec<Step> {
    let width = new.len() + 1;
    if old.len() * new.len() > GREATEST_TABLE {
        return [vec![Step::Remove; old.len()], vec![Step::Insert; new.len()]].concat();
    }
    // `common[x * width + y]` lines are common to `old[x..]` and `new[y..]`.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for x in (0..old.len()).rev() {
        for y in (0..new.len()).rev() {
            common[x * width + y] = if old[x] == new[y] {
                common[(x + 1) * width + y + 1] + 1
            } else {
                common[(x + 1) * width + y].max(common[x * width + y + 1])
            };
        }
    }
    let mut steps = Vec::new();
    let (mut x, mut y) = (0, 0);
    while x < old.len() || y < new.len() {
        let step = if x < old.len() && y < new.len() && old[x] == new[y] {
            Step::Keep
        } else if y == new.len()
            || (x < old.len() && common[(x + 1) * width + y] >= common[x * width + y + 1])
        {
            Step::Remove
        } else {
            Step::Insert
        };
        x += usize::from(step != Step::Insert);
        y += usize::from(step != Step::Remove);
        steps.push(step);
    }
    steps
}

#[cfg(test)]
#[expect(clippy::format_collect, reason = "a test's texts are short")]
mod tests {
    use super::*;

    #[test]
    fn looks_as_diff_u_has_it() {
        assert_eq!(unified("a", "b", "same\n", "same\n"), "");
        assert_eq!(
            unified("a", "b", "", "x\ny"),
            "--- a\n+++ b\n -0,0 +1,2 \n+x\n+y\n\\ No newline at end of file\n"
        );
        assert_eq!(
            unified("a", "b", "x\r\n", ""),
            "--- a\n+++ b\n -1 +0,0 \n-x\n"
        );
        let old: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let new = old
            .replace("4\n5\n", "4\nfive\nand a half\n")
            .replace("17\n", "");
        assert_eq!(
            unified("a", "b", &old, &new),
            "--- a\n+++ b\n -2,7 +2,8 \n 2\n 3\n 4\n-5\n+five\n+and a half\n 6\n 7\n 8\n -14,7 +15,6 \n 14\n 15\n 16\n-17\n 18\n 19\n 20\n"
        );
    }

    /// Whatever the texts are, the diff applied to the old one gives the new one.
    #[test]
    fn leads_from_the_old_text_to_the_new_one() {
        let mut seed = 7_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for _ in 0..2_000 {
            let mut text = |lines: u32| {
                (0..random(lines))
                    .map(|_| format!("{}\n", random(4)))
                    .collect::<String>()
            };
            let (old, new) = (text(12), text(30));
            let (old, new): (Vec<_>, Vec<_>) = (
                old.split_inclusive('\n').collect(),
                new.split_inclusive('\n').collect(),
            );
            let (mut x, mut y) = (0, 0);
            for step in steps(&old, &new) {
                assert!(step != Step::Keep || old[x] == new[y]);
                x += usize::from(step != Step::Insert);
                y += usize::from(step != Step::Remove);
            }
            assert_eq!((x, y), (old.len(), new.len()));
        }
    }
}
