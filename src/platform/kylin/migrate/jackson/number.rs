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

/// Most digits that tell a binary64 number from its neighbours.
const DIGITS_MAX: usize = 17;

/// Returns how a number of a document is written: a whole one exactly, any other as Java's `Double` spells it.
pub(super) fn spelling(number: &str) -> Spelling {
    if !number.contains(['.', 'e', 'E']) {
        return if number == "-0" { Spelling::As("0".to_owned()) } else { Spelling::AsItIs };
    }
    let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        // Java's writer quotes what is no number.
        return Spelling::Changed(if number.starts_with('-') { "\"-Infinity\"" } else { "\"Infinity\"" }.to_owned());
    };
    let meant = meaning(number).filter(|meant| is_meant(meant, value));
    match meant.map(|meant| java_spelling(&meant)) {
        Some(java) if java == number => Spelling::AsItIs,
        Some(java) => Spelling::As(java),
        None => Spelling::Changed(java_double(value)),
    }
}

/// Tells whether a number with as many digits as this one can be got back from its binary64 form. Which digits Java then
/// writes depends on its version: before JDK 19 they are often more than are needed. So what is written is what is read.
fn is_meant(Meaning { digits, is_negative, .. }: &Meaning, value: f64) -> bool {
    let Some(after) = digits.len().checked_sub(1) else {
        return value == 0.0 && value.is_sign_negative() == *is_negative;
    };
    let back = format!("{value:.after$e}");
    let back = back.split_once('e').map_or(&*back, |(mantissa, _)| mantissa).trim_start_matches('-').replace('.', "");
    digits.len() <= DIGITS_MAX && value != 0.0 && back == *digits
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
    meaning(&text).map_or(text, |meant| java_spelling(&meant))
}

/// Puts point and exponent where Java does.
fn java_spelling(Meaning { is_negative, digits, last }: &Meaning) -> String {
    let sign = if *is_negative { "-" } else { "" };
    let Ok(after) = i64::try_from(digits.len()).map(|length| length - 1) else { return digits.clone() };
    let exponent = last + after;
    match usize::try_from(exponent) {
        _ if digits.is_empty() => format!("{sign}0.0"),
        Ok(whole @ 0..7) => {
            let padded = format!("{digits:0<width$}", width = whole + 2);
            let (before, after) = padded.split_at(whole + 1);
            format!("{sign}{before}.{after}")
        }
        Err(_) if exponent >= -3 => {
            let zeros = usize::try_from(-1 - exponent).unwrap_or_default();
            format!("{sign}0.{}{digits}", "0".repeat(zeros))
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let rest = if rest.is_empty() { "0" } else { rest };
            format!("{sign}{first}.{rest}E{exponent}")
        }
    }
}

/// What a number means, exactly.
#[derive(Debug)]
struct Meaning {
    is_negative: bool,
    /// Its digits, without zeros around them: none for zero.
    digits: String,
    /// The power of ten of the last digit.
    last: i64,
}

/// Returns what a number means; nothing for one with an exponent beyond all measure.
fn meaning(number: &str) -> Option<Meaning> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|exponent: &i64| exponent.abs() < 1 << 40)?;
    let (is_negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let all = all.trim_start_matches('0');
    let digits = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - digits.len()).ok()?;
    let last = exponent - i64::try_from(fraction.len()).ok()? + zeros;
    Some(Meaning { is_negative, digits: digits.to_owned(), last })
}
