package search

import (
	"testing"
	"time"

	"github.com/lanternist/lanternist/views"
)

func TestRemembers(t *testing.T) {
	c := &Client{cfg: Config{}.withDefaults()}
	for text, want := range map[any]time.Duration{
		nil: time.Hour, "60s": time.Minute, "500ms": 500 * time.Millisecond, "2d": 48 * time.Hour, "-1": time.Hour, "0s": time.Millisecond,
	} {
		settings := map[string]any{"gc_deletes": text}
		if text == nil {
			settings = nil
		}
		s := &Store{client: c, index: defineIndex(nil, &views.SearchOptions{Settings: settings}, c.cfg.GCDeletes)}
		if got := s.Remembers(); got != want {
			t.Errorf("%v: %v, want %v", text, got, want)
		}
	}
}
