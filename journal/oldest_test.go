package journal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

func TestOldest(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{Retention: journal.Retention{Size: mib}, CacheBytes: 100 << 10})
	if _, found, err := j.Oldest(t.Context()); found || err != nil {
		t.Errorf("oldest event of an empty journal: %t, %v", found, err)
	}
	if err := j.Retains(0); err != nil {
		t.Errorf("an empty journal: %v", err)
	}
	grow(t, j, 1, 1)
	oldest, found, err := j.Oldest(t.Context())
	if err != nil || !found || oldest.Offset.Index() != 0 || oldest.CommitLSN != 1000 {
		t.Errorf("oldest: %+v, %t, %v", oldest, found, err)
	}
	grow(t, j, 2, 200)
	first := j.First()
	if first < 100 {
		t.Fatalf("the journal begins at %d", first)
	}
	batch, err := j.Read(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	oldest, found, err = j.Oldest(t.Context())
	if part := batch.Parts[0]; err != nil || !found || oldest.Offset != event.NewOffset(first, 0) ||
		oldest.CommitLSN != part.CommitLSN || !oldest.CommitTime.Equal(part.CommitTime) {
		t.Errorf("oldest: %+v, %t, %v", oldest, found, err)
	}
	if text := oldest.String(); !strings.Contains(text, part(oldest)) {
		t.Errorf("%q", text)
	}
	if err := j.Retains(oldest.Offset); err != nil {
		t.Errorf("from the oldest on: %v", err)
	}
	var trimmed *journal.TrimmedError
	for _, from := range []event.Offset{0, oldest.Offset - 1} {
		if err := j.Retains(from); !errors.As(err, &trimmed) || trimmed.First != first {
			t.Errorf("from %s on: %v", from, err)
		}
	}
}

func part(o journal.Oldest) string { return "position " + o.CommitLSN.String() }
