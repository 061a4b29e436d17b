package suggest_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/suggest"
)

func TestNearest(t *testing.T) {
	columns := []string{"id", "total", "status", "created_at", "customer_id", "Größe"}
	for _, test := range []struct {
		word, want string
		ok         bool
	}{
		{"totl", "total", true},
		{"stauts", "status", true}, // swapped neighbours are one edit
		{"createdat", "created_at", true},
		{"custmer_id", "customer_id", true},
		{"TOTAL", "total", true},  // case is ignored
		{"grösse", "Größe", true}, // letters, not bytes
		{"ix", "id", true},
		{"shipping_address", "", false}, // nothing is near
		{"id", "", false},               // equal is no suggestion
		{"", "", false},
	} {
		got, ok := suggest.Nearest(test.word, columns)
		if got != test.want || ok != test.ok {
			t.Errorf("Nearest(%q) = %q, %v; want %q, %v", test.word, got, ok, test.want, test.ok)
		}
	}
}

func TestNearestTakesTheFirstOfEquals(t *testing.T) {
	if got, _ := suggest.Nearest("bat", []string{"cat", "hat"}); got != "cat" {
		t.Errorf("got %q, want the first candidate", got)
	}
}

func TestHint(t *testing.T) {
	if got, want := suggest.Hint("ordrs", []string{"orders"}), ` (did you mean "orders"?)`; got != want {
		t.Errorf("Hint = %q, want %q", got, want)
	}
	if got := suggest.Hint("zebra", []string{"orders"}); got != "" {
		t.Errorf("Hint = %q, want none", got)
	}
}

// A word with one letter removed is always found again among words that are far away.
func TestNearestFindsOneEdit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{5,12}`).Draw(t, "word")
		at := rapid.IntRange(0, len(word)-1).Draw(t, "at")
		typed := word[:at] + word[at+1:]
		got, ok := suggest.Nearest(typed, []string{"0123456789", word})
		if !ok || got != word {
			t.Fatalf("Nearest(%q) = %q, %v; want %q", typed, got, ok, word)
		}
	})
}
