//! Dollars as whole picodollars (10⁻¹² dollars), to add them up: a sum of floating-point numbers
//! depends on their order.

const PICO: f64 = 1e12;

/// The whole picodollars of some dollars, at most nine million of them, so that no sum overflows.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a conversion with `as` saturates"
)]
pub fn picodollars(dollars: f64) -> i128 {
    i128::from((dollars * PICO).round() as i64)
}

/// The dollars of some picodollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 9,000 dollars, and beyond that to less than a millionth of a cent"
)]
pub fn dollars(picodollars: i128) -> f64 {
    picodollars as f64 / PICO
}
