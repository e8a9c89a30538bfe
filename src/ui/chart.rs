//! Charts of block characters.

/// Eighths of a character, from the left.
const WIDTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// Eighths of a character, from below.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The character for zero in a sparkline.
const NOTHING: char = '·';

/// A bar with this share, from 0 to 1, of a number of columns. Any share above zero is visible.
pub(super) fn bar(share: f64, columns: usize) -> String {
    let eighths = eighths(share, 8 * columns);
    let mut bar: String = std::iter::repeat_n('█', eighths / 8).collect();
    if !eighths.is_multiple_of(8) {
        bar.push(WIDTHS[eighths % 8 - 1]);
    }
    bar
}

/// A character for each value, as high as its share of the largest one.
pub(super) fn sparkline(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let column = |value: &f64| match eighths(value / most, 8) {
        0 => NOTHING,
        eighths => HEIGHTS[eighths - 1],
    };
    values.iter().map(column).collect()
}

/// A share of a number of eighths; at least one eighth if it is above zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of the width of a screen"
)]
fn eighths(share: f64, whole: usize) -> usize {
    if share.is_nan() || share <= 0.0 || whole == 0 {
        return 0;
    }
    ((share * whole as f64).round() as usize).clamp(1, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_is_drawn_in_eighths_and_visible_for_every_share_above_zero() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(0.000_1, 4), "▏");
        assert_eq!(bar(7.0, 2), "██");
        for nothing in [0.0, -1.0, f64::NAN] {
            assert_eq!(bar(nothing, 4), "");
        }
        assert_eq!(bar(1.0, 0), "");
    }

    #[test]
    fn sparkline_has_one_character_for_each_value() {
        assert_eq!(sparkline(&[0.0, 0.01, 4.0, 8.0]), "·▁▄█");
        assert_eq!(sparkline(&[0.0, 0.0]), "··");
        assert_eq!(sparkline(&[]), "");
    }
}
