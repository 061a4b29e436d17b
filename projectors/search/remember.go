package search

import (
	"strconv"
	"strings"
	"time"

	"github.com/lanternist/lanternist/projectors"
)

var _ projectors.Forgetful = (*Store)(nil)

// Remembers implements projectors.Forgetful: index.gc_deletes, which the view's settings may say.
func (s *Store) Remembers() time.Duration {
	text, ok := s.index.settings["index.gc_deletes"].(string)
	if !ok {
		return s.client.cfg.GCDeletes
	}
	d, ok := parseTime(text)
	if !ok {
		return s.client.cfg.GCDeletes
	}
	return max(d, time.Millisecond)
}

// timeUnits are Elasticsearch's.
var timeUnits = []struct {
	suffix string
	unit   time.Duration
}{
	{"nanos", time.Nanosecond}, {"micros", time.Microsecond}, {"ms", time.Millisecond},
	{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

// parseTime reads a time value as Elasticsearch does: "60s", "1h".
func parseTime(text string) (time.Duration, bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	for _, u := range timeUnits {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			return time.Duration(n) * u.unit, err == nil
		}
	}
	return 0, false
}
