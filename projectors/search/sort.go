package search

import (
	"fmt"
	"strings"
)

// Sort is one sort key.
type Sort struct {
	Field      string // path in the document, or "_score": how well q matches
	Descending bool
}

// scoreField is the sort key for relevance; the best comes first without Descending.
const scoreField = "_score"

const sortsMax = 8

// ParseSort reads sort keys separated by commas, "-" before one for descending order: "-placed_at,id".
// Documents without a value come last either way. The error wraps ErrBadQuery.
func ParseSort(text string) ([]Sort, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	sorts := make([]Sort, 0, len(parts))
	for _, part := range parts {
		name := strings.TrimSpace(part)
		name, descending := strings.CutPrefix(name, "-")
		if name == "" {
			return nil, fmt.Errorf("%w: sort: a field is missing in %q", ErrBadQuery, text)
		}
		sorts = append(sorts, Sort{Field: name, Descending: descending})
	}
	if len(sorts) > sortsMax {
		return nil, fmt.Errorf("%w: sort: %d fields, at most %d are used", ErrBadQuery, len(sorts), sortsMax)
	}
	return sorts, nil
}
