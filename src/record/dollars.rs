//! Dollars as whole picodollars (10⁻¹² dollars), to add them up: a sum of floating-point numbers
//! depends on their order.

/// Picodollars in a dollar.
const PICO: f64 = 1e12;
/// More is cut off, in dollars, so that no sum overflows.
const MAX: f64 = 1e15;

/// The whole picodollars of some dollars.
#[expect(clippy::cast_possible_truncation, reason = "the range is limited")]
pub fn picodollars(dollars: f64) -> i128 {
    (dollars.clamp(-MAX, MAX) * PICO).round() as i128
}

/// The dollars of some picodollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 9,000 dollars, and beyond that to less than a millionth of a cent"
)]
pub fn dollars(picodollars: i128) -> f64 {
    picodollars as f64 / PICO
}
