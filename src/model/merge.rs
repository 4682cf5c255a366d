//! The one walk over two sorted streams. Backup, diff, restore and the runs of a tree all use it.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::model::entry::Keyed;

/// What two sorted streams hold at one path.
#[derive(Debug, PartialEq, Eq)]
pub enum Pair<L, R> {
    /// Only the left stream has it.
    Left(L),
    /// Only the right stream has it.
    Right(R),
    /// Both have it.
    Both(L, R),
}

/// Walks two streams sorted by path at once. The first error ends the walk.
///
/// Both must be strictly ascending; debug builds assert it.
pub fn merge<L, R, EL, ER, E>(
    left: impl Iterator<Item = Result<L, EL>>,
    right: impl Iterator<Item = Result<R, ER>>,
) -> impl Iterator<Item = Result<Pair<L, R>, E>>
where
    L: Keyed,
    R: Keyed,
    E: From<EL> + From<ER>,
{
    let mut left = ascending(left).peekable();
    let mut right = ascending(right).peekable();
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let step = step(&mut left, &mut right).transpose();
        failed = matches!(step, Some(Err(_)));
        step
    })
}

fn step<L, R, EL, ER, E>(
    left: &mut Peekable<impl Iterator<Item = Result<L, EL>>>,
    right: &mut Peekable<impl Iterator<Item = Result<R, ER>>>,
) -> Result<Option<Pair<L, R>>, E>
where
    L: Keyed,
    R: Keyed,
    E: From<EL> + From<ER>,
{
    let order = match (left.peek(), right.peek()) {
        (None, None) => return Ok(None),
        // An error is taken before anything else, so that no value is paired on the ground of a stream that broke off.
        (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
        (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
        (Some(Ok(l)), Some(Ok(r))) => l.path().cmp(r.path()),
    };
    Ok(match order {
        Ordering::Less => left.next().transpose()?.map(Pair::Left),
        Ordering::Greater => right.next().transpose()?.map(Pair::Right),
        Ordering::Equal => match (left.next().transpose()?, right.next().transpose()?) {
            (Some(l), Some(r)) => Some(Pair::Both(l, r)),
            _ => None,
        },
    })
}

fn ascending<T: Keyed, E>(stream: impl Iterator<Item = Result<T, E>>) -> impl Iterator<Item = Result<T, E>> {
    let mut last = None;
    stream.inspect(move |item| {
        if cfg!(debug_assertions)
            && let Ok(item) = item
        {
            let path = item.path().clone();
            assert!(last.as_ref() < Some(&path), "a sorted stream went from {last:?} to {path:?}");
            last = Some(path);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::EntryPath;

    #[derive(Debug, PartialEq, Eq)]
    struct Name(EntryPath);

    impl Keyed for Name {
        fn path(&self) -> &EntryPath {
            &self.0
        }
    }

    fn stream(names: &[&str]) -> Vec<Result<Name, String>> {
        names.iter().map(|name| Ok(Name(EntryPath::new(name.as_bytes()).unwrap()))).collect()
    }

    fn walk(left: Vec<Result<Name, String>>, right: Vec<Result<Name, String>>) -> Vec<Result<String, String>> {
        merge(left.into_iter(), right.into_iter())
            .map(|pair: Result<_, String>| {
                pair.map(|pair| match pair {
                    Pair::Left(l) => format!("-{}", l.0),
                    Pair::Right(r) => format!("+{}", r.0),
                    Pair::Both(l, _) => format!("={}", l.0),
                })
            })
            .collect()
    }

    #[test]
    fn merge_pairs_equal_paths() {
        let steps = walk(stream(&["a", "b", "d"]), stream(&["b", "c", "d", "e"]));
        assert_eq!(steps.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["-a", "=b", "+c", "=d", "+e"]);
    }

    #[test]
    fn merge_stops_at_an_error_and_does_not_pair_past_it() {
        let mut left = stream(&["a"]);
        left.push(Err("torn".to_owned()));
        let steps = walk(left, stream(&["b", "c"]));
        assert_eq!(steps, [Ok("-a".to_owned()), Err("torn".to_owned())]);
    }
}
