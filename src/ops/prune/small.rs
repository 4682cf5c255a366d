//! Which small packs are merged.

/// Packs are in tiers by their length: the first ends here, each other at four times the one before.
const TIER_BYTES: u64 = 64 << 10;
/// Packs above the last tier are left alone: a quarter of the length at which a pack is closed.
const TIERS: u32 = 4;
/// So many packs of one tier are merged, with all that are smaller.
const ALIKE_MAX: usize = 8;

/// Returns the numbers of those packs that are to become one, or a few: given are number and length of each.
///
/// What is merged moves up a tier at least, so a byte is copied once a tier, however often a prune comes. What is left
/// small is fewer than [`ALIKE_MAX`] packs a tier.
pub(super) fn few_of_many(packs: &[(u32, u64)]) -> Vec<u32> {
    let tier = |bytes: u64| (0..TIERS).find(|tier| bytes < TIER_BYTES << (2 * tier));
    let count = |wanted: u32| packs.iter().filter(|(_, bytes)| tier(*bytes) == Some(wanted)).count();
    let (mut merged_to, mut from_below) = (None, 0);
    for tier in 0..TIERS {
        // What comes of the tiers below is one more of this one.
        if count(tier) + from_below >= ALIKE_MAX {
            (merged_to, from_below) = (Some(tier), 1);
        } else {
            from_below = 0;
        }
    }
    let Some(merged_to) = merged_to else { return Vec::new() };
    let is_merged = |bytes: u64| tier(bytes).is_some_and(|tier| tier <= merged_to);
    packs.iter().filter(|(_, bytes)| is_merged(*bytes)).map(|(number, _)| *number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(sizes: &[u64]) -> usize {
        let packs: Vec<(u32, u64)> = (0..).zip(sizes.iter().copied()).collect();
        few_of_many(&packs).len()
    }

    #[test]
    fn few_small_packs_are_left_alone() {
        assert_eq!(merged(&[]), 0);
        assert_eq!(merged(&[1000; 7]), 0);
        assert_eq!(merged(&[16 << 20; 1000]), 0);
    }

    #[test]
    fn many_are_merged_with_all_that_are_smaller() {
        assert_eq!(merged(&[1000; 8]), 8);
        let mut sizes = vec![1000; 3];
        sizes.extend([100 << 10; 8]);
        sizes.extend([2 << 20; 3]);
        assert_eq!(merged(&sizes), 11);
    }

    #[test]
    fn night_after_night_few_are_left_and_little_is_copied() {
        let (mut packs, mut copied, mut stored) = (Vec::<u64>::new(), 0, 0);
        for _ in 0..365 {
            packs.extend([4000; 288]);
            stored += 4000 * 288;
            let numbered: Vec<(u32, u64)> = (0..).zip(packs.iter().copied()).collect();
            let chosen = few_of_many(&numbered);
            let sum: u64 = chosen.iter().map(|n| packs[*n as usize]).sum();
            copied += sum;
            packs = (0..).zip(packs).filter(|(n, _)| !chosen.contains(n)).map(|(_, size)| size).collect();
            packs.push(sum);
            assert!(packs.iter().filter(|size| **size < 4 << 20).count() < 32);
        }
        assert!(copied <= stored * 4, "{copied} of {stored}");
    }
}
