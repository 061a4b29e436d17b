package row

// Presence says what one version of a table has of a column of another version.
type Presence uint8

// What a version may have of a column.
const (
	Present  Presence = iota // it is there
	NotYet                   // it was added later: rows have its Missing value
	Dropped                  // it was there, and is not any more
	Nameless                 // there is no column of the name, and numbers that would tell more are not known
)

// Place finds c, a column of another version of the same table, among the columns of s: by its number, so that a column
// is found again that was renamed, and one that was dropped and added again is not; by its name when a number is not known.
func (s *Schema) Place(c *Column) (int, Presence) {
	if c.Number == 0 || s.Width == 0 {
		if i := s.Column(c.Name); i >= 0 {
			return i, Present
		}
		return -1, Nameless
	}
	for i := range s.Columns {
		if s.Columns[i].Number == c.Number {
			return i, Present
		}
	}
	if s.Width < c.Number {
		return -1, NotYet
	}
	return -1, Dropped
}

// Default is the value of the column in a row that was written before it was added.
func (c *Column) Default() Value {
	if c.Missing == nil {
		return Value{Kind: Null}
	}
	return Value{Kind: Text, Text: []byte(*c.Missing)}
}
