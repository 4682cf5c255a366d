//! How Java spells a number that it has read, and whether it still means the same then.

/// How a number is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As it stands.
    AsItIs,
    /// Otherwise, and means the same.
    As(String),
    /// Kylin's tool would write this, which means something else.
    Changed(String),
}

/// Returns how a number of a document is written: a whole one exactly, any other as Java's `Double` spells it.
pub(super) fn spelling(number: &str) -> Spelling {
    if !number.contains(['.', 'e', 'E']) {
        return if number == "-0" { Spelling::As("0".to_owned()) } else { Spelling::AsItIs };
    }
    let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        // Java's writer quotes what is no number.
        return Spelling::Changed(if number.starts_with('-') { "\"-Infinity\"" } else { "\"Infinity\"" }.to_owned());
    };
    let java = java_double(value);
    match meaning(number) == meaning(&java) {
        true if java == number => Spelling::AsItIs,
        true => Spelling::As(java),
        false => Spelling::Changed(java),
    }
}

/// Spells a finite number as Java's `Double.toString` does since JDK 19: with the fewest digits that tell it from others.
fn java_double(value: f64) -> String {
    let mut text = format!("{value:e}");
    // With one digit, Java prefers two if they are nearer: 4.9E-324.
    if !text.contains('.') {
        let two = format!("{value:.1e}");
        if two.parse() == Ok(value) {
            text = two;
        }
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits = digits.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if value != 0.0 && !(-3..7).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let rest = if rest.is_empty() { "0" } else { rest };
        return format!("{sign}{first}.{rest}E{exponent}");
    }
    let Ok(whole) = usize::try_from(exponent) else {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    };
    let padded = format!("{digits:0<width$}", width = whole + 2);
    let (before, after) = padded.split_at(whole + 1);
    format!("{sign}{before}.{after}")
}

/// What a number means, exactly: its sign, its digits without zeros around them, and the power of ten of the last.
/// Nothing for a number with an exponent beyond all measure.
pub(in super::super) fn meaning(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|exponent: &i64| exponent.abs() < 1 << 40)?;
    let (is_negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let short = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - short.len()).ok()?;
    let last = exponent - i64::try_from(fraction.len()).ok()? + zeros;
    Some(if short.is_empty() { (is_negative, String::new(), 0) } else { (is_negative, short.to_owned(), last) })
}
