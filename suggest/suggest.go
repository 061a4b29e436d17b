// Package suggest finds the word that a person most likely meant, for error messages that end in
// "did you mean …?". It is pure: it knows words, not what they name.
package suggest

import "strings"

// Nearest returns the candidate that is closest to word, and whether it is close enough to be offered: at most
// one edit for every three letters of the longer word, at least one. An edit is a letter inserted, removed or
// replaced, or two neighbours swapped. Case is ignored, except that an exact match of letters wins among
// candidates that are equally close; else the first of them wins. A candidate equal to word is not a suggestion.
func Nearest(word string, candidates []string) (string, bool) {
	folded := []rune(strings.ToLower(word))
	best, bestDistance := "", -1
	for _, candidate := range candidates {
		if candidate == word {
			continue
		}
		other := []rune(strings.ToLower(candidate))
		allowed := max(1, max(len(folded), len(other))/3)
		d := distance(folded, other)
		if d > allowed {
			continue
		}
		if bestDistance < 0 || d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best, bestDistance >= 0
}

// Hint is ` (did you mean "x"?)` for the nearest candidate, or "" when there is none: ready to be put behind
// the sentence that names the unknown word.
func Hint(word string, candidates []string) string {
	nearest, ok := Nearest(word, candidates)
	if !ok {
		return ""
	}
	return ` (did you mean "` + nearest + `"?)`
}

// distance is the number of edits between a and b: Levenshtein's, with a swap of neighbours as one edit.
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
