//! "Did you mean": the known word nearest to an unknown one.

/// The nearest of `known` to `word`, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    // Beyond this, no known word is near, and comparing is a waste.
    if folded.is_empty() || folded.len() > 64 {
        return None;
    }
    known
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len().min(folded.len()) / 3).clamp(1, 3) && *distance < folded.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// As `did you mean "x"?`, or else the known words when they are few.
pub fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(nearest) = nearest(word, known.clone()) {
        return Some(format!("did you mean {nearest:?}?"));
    }
    let words: Vec<&str> = known.take(13).collect();
    (1..=12).contains(&words.len()).then(|| format!("known here: {}", words.join(", ")))
}

/// Case and joints don't count: `backend_refs` is `backendRefs` written otherwise.
fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, from_char) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to_char) in to.iter().enumerate() {
            let replace = above[column] + usize::from(from_char != to_char);
            let mut best = replace.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && from[row - 1] == *to_char && to[column - 1] == *from_char {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let known = ["backendRefs", "matches", "filters", "name", "timeouts"];
        let find = |word| nearest(word, known.iter().copied());
        assert_eq!(find("backendRef"), Some("backendRefs"));
        assert_eq!(find("backend_refs"), Some("backendRefs"));
        assert_eq!(find("mathces"), Some("matches"));
        assert_eq!(find("Name"), Some("name"));
        assert_eq!(find("timeout"), Some("timeouts"));
        assert_eq!(find("zzz"), None);
        assert_eq!(find(&"x".repeat(10_000)), None);
    }
}
