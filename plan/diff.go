package plan

import (
	"slices"

	"github.com/lanternist/lanternist/views"
)

// Edit is one place at which two definitions of a view differ. Was is "" when there was nothing, Now is "" when there is nothing
// any more.
type Edit struct {
	Path string `json:"path"`
	Was  string `json:"was,omitempty"`
	Now  string `json:"now,omitempty"`
}

// Differences compares two outlines: what is there now in its order, then what is gone. Lines that follow from others count only when
// both have them and they differ.
func Differences(was, now []views.Line) []Edit {
	var all []Edit
	before := map[string]views.Line{}
	for _, l := range was {
		before[l.Path] = l
	}
	for _, l := range now {
		old, had := before[l.Path]
		delete(before, l.Path)
		switch {
		case had && old.Text != l.Text:
			all = append(all, Edit{Path: l.Path, Was: old.Text, Now: l.Text})
		case !had && !l.Follows:
			all = append(all, Edit{Path: l.Path, Now: l.Text})
		}
	}
	for _, l := range was {
		if _, gone := before[l.Path]; gone && !l.Follows {
			all = append(all, Edit{Path: l.Path, Was: l.Text})
		}
	}
	if len(all) == 0 && !slices.Equal(paths(was), paths(now)) {
		all = append(all, Edit{Path: "order of the fields", Was: "another", Now: "as declared"})
	}
	return all
}

// paths are those of the lines that were declared, in order.
func paths(lines []views.Line) []string {
	var list []string
	for _, l := range lines {
		if !l.Follows {
			list = append(list, l.Path)
		}
	}
	return list
}
