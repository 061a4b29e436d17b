package schemas

import (
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/row"
)

// Diff says what has changed from one definition of a table to another, a sentence for each. Empty when rows and events of
// both mean the same.
func Diff(was, now *row.Schema) (changes []string) {
	add := func(format string, args ...any) { changes = append(changes, fmt.Sprintf(format, args...)) }
	if was.QualifiedName() != now.QualifiedName() {
		add("table renamed from %s to %s", was.QualifiedName(), now.QualifiedName())
	}
	for i := range was.Columns {
		c := &was.Columns[i]
		at, presence := now.Place(c)
		if presence != row.Present {
			add("column %s dropped", c.Name)
			continue
		}
		n := &now.Columns[at]
		if n.Name != c.Name {
			add("column %s renamed to %s", c.Name, n.Name)
		}
		if !sameType(&c.Type, &n.Type) {
			add("type of column %s changed from %s to %s", n.Name, typeName(&c.Type), typeName(&n.Type))
		}
		if n.NotNull != c.NotNull {
			if n.NotNull {
				add("column %s may not be null any more", n.Name)
			} else {
				add("column %s may be null", n.Name)
			}
		}
	}
	for i := range now.Columns {
		n := &now.Columns[i]
		if _, presence := was.Place(n); presence == row.Present {
			continue
		}
		if n.Missing != nil {
			add("column %s %s added; older rows have %q", n.Name, typeName(&n.Type), *n.Missing)
		} else {
			add("column %s %s added", n.Name, typeName(&n.Type))
		}
	}
	if a, b := keyNames(was), keyNames(now); !slices.Equal(a, b) {
		add("key changed from %v to %v", a, b)
	}
	if was.Identity != now.Identity {
		add("replica identity changed from %s to %s", identities[was.Identity], identities[now.Identity])
	}
	return changes
}

// identities are the words for pg_class.relreplident.
var identities = map[byte]string{'d': "default", 'i': "an index", 'f': "full", 'n': "nothing"}

func typeName(t *row.Type) string {
	if t.Mod < 0 {
		return t.Name
	}
	return fmt.Sprintf("%s (modifier %d)", t.Name, t.Mod)
}

func keyNames(s *row.Schema) []string {
	names := make([]string, len(s.Key))
	for i, at := range s.Key {
		names[i] = s.Columns[at].Name
	}
	return names
}
