package cdc

import (
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// tableName names one table, or all tables of a schema when Name is "*".
type tableName struct{ Namespace, Name string }

func (t tableName) String() string { return t.Namespace + "." + t.Name }

func (t tableName) isPattern() bool { return t.Name == "*" }

// sql is the name for use in a statement.
func (t tableName) sql() string { return quoteIdentifier(t.Namespace) + "." + quoteIdentifier(t.Name) }

// TableNames names tables as Config.Tables does.
func TableNames(tables []*row.Schema) []string {
	names := make([]string, len(tables))
	for i, s := range tables {
		names[i] = quoteIdentifier(s.Namespace) + "." + quoteIdentifier(s.Name)
	}
	return names
}

// Captures says which tables the names of Config.Tables mean. A pattern means every table of its schema, one that is
// made later too.
func Captures(tables []string) (func(*row.Schema) bool, error) {
	names, err := parseTables(tables)
	if err != nil {
		return nil, err
	}
	return func(s *row.Schema) bool {
		for _, name := range names {
			if name.Namespace == s.Namespace && (name.Name == s.Name || name.isPattern()) {
				return true
			}
		}
		return false
	}, nil
}

// parseTable parses "schema.table", "table" (in public) and "schema.*". A part in double quotes may contain
// dots, and doubled double quotes.
func parseTable(s string) (tableName, error) {
	parts := []string{}
	rest := s
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var ok bool
			if part, rest, ok = unquote(rest); !ok {
				return tableName{}, fmt.Errorf("table %q: a double quote is not closed", s)
			}
			if rest != "" && rest[0] != '.' {
				return tableName{}, fmt.Errorf("table %q: want a dot after a quoted name", s)
			}
		} else if dot := strings.IndexByte(rest, '.'); dot >= 0 {
			part, rest = rest[:dot], rest[dot:]
		} else {
			part, rest = rest, ""
		}
		if part == "" {
			return tableName{}, fmt.Errorf("table %q: a name is empty", s)
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		rest = rest[1:]
	}
	switch len(parts) {
	case 1:
		return tableName{"public", parts[0]}, nil
	case 2:
		return tableName{parts[0], parts[1]}, nil
	}
	return tableName{}, fmt.Errorf("table %q: want schema.table", s)
}

// unquote takes a leading quoted name off s.
func unquote(s string) (name, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", "", false
}

func parseTables(names []string) ([]tableName, error) {
	tables := make([]tableName, len(names))
	for i, name := range names {
		var err error
		if tables[i], err = parseTable(name); err != nil {
			return nil, err
		}
	}
	return tables, nil
}
