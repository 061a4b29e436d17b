package views

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// ForeignKey is a foreign key of the source: Columns of Table reference RefColumns of RefTable, in order.
// Tables are qualified ("public.orders").
type ForeignKey struct {
	Table      string
	Columns    []string
	RefTable   string
	RefColumns []string
}

// StarterView is a guessed view: a definition with comments, for a person to go on from.
type StarterView struct {
	Name string
	Text []byte // YAML that Parse and Compile accept
}

// starterColumns is how many columns of a joined table a guessed view takes.
const starterColumns = 5

// starterRows bounds guessed lists, so that a first try does not make a document of a million rows.
const starterRows = 100

// Starter guesses views from tables and their foreign keys. Each table with a key becomes a view, except those
// that only point to others and are pointed to by none: their rows are details, and are listed in the documents
// of what they point to. What a table points to is a one join. A list of rows that have a view of their own may be
// long, and is written as a comment. Views come in the order of their names.
func Starter(schemas []*row.Schema, keys []ForeignKey) []StarterView {
	g := &guesser{byName: map[string]*row.Schema{}, keys: keys}
	for _, s := range schemas {
		if len(s.Key) > 0 {
			g.byName[s.QualifiedName()] = s
		}
	}
	var list []StarterView
	for _, s := range schemas {
		if len(s.Key) == 0 || g.isDetail(s) {
			continue
		}
		name := viewNameFor(s)
		for i := 2; slices.ContainsFunc(list, func(v StarterView) bool { return v.Name == name }); i++ {
			name = fmt.Sprintf("%.60s_%d", viewNameFor(s), i)
		}
		list = append(list, StarterView{Name: name, Text: g.view(name, s)})
	}
	slices.SortFunc(list, func(a, b StarterView) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// guesser writes guessed views.
type guesser struct {
	byName map[string]*row.Schema
	keys   []ForeignKey
	out    strings.Builder
}

// isDetail says whether a table points to others and no other points to it.
func (g *guesser) isDetail(s *row.Schema) bool {
	pointsAway := false
	for _, fk := range g.keys {
		if fk.Table == fk.RefTable {
			continue
		}
		if fk.RefTable == s.QualifiedName() && g.byName[fk.Table] != nil {
			return false
		}
		if fk.Table == s.QualifiedName() && g.byName[fk.RefTable] != nil {
			pointsAway = true
		}
	}
	return pointsAway
}

// view writes one view.
func (g *guesser) view(name string, s *row.Schema) []byte {
	g.out.Reset()
	g.line(0, "# %s, one document for each row of %s. Guessed from the tables: take out what you do not need.", name, s.QualifiedName())
	g.line(0, "view: %s", name)
	g.line(0, "from: %s", yamlWord(s.QualifiedName()))
	g.line(0, "fields:")
	taken := map[string]bool{}
	for i, c := range s.Columns {
		g.column(1, c, slices.Contains(s.Key, i), taken)
	}
	for _, fk := range g.keys {
		if fk.Table == s.QualifiedName() {
			g.one(1, s, fk, taken)
		}
	}
	for _, fk := range g.keys {
		if fk.RefTable == s.QualifiedName() {
			g.many(s, fk, taken)
		}
	}
	g.line(0, "# where: \"row.%s != null\"      # CEL: only rows for which it is true have a document", s.Columns[s.Key[0]].Name)
	g.line(0, "search: {}      # into Elasticsearch, with a mapping made from the column types")
	if lookups := g.lookups(s); lookups != "" {
		g.line(0, "cache: {lookups: [%s]}      # into Redis, found by id and by these", lookups)
	} else {
		g.line(0, "cache: {}      # into Redis, found by id")
	}
	return []byte(g.out.String())
}

func (g *guesser) line(indent int, format string, args ...any) {
	g.out.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(&g.out, format, args...)
	g.out.WriteByte('\n')
}

// column writes a field for a column. Binary data rarely belongs into a document, unless it is wanted there.
func (g *guesser) column(indent int, c row.Column, wanted bool, taken map[string]bool) (written bool) {
	name := freeName(strings.ReplaceAll(c.Name, ".", "_"), taken)
	text := yamlWord(name) + ":"
	if name != c.Name {
		text = fmt.Sprintf("%s: {column: %s}", yamlWord(name), yamlWord(c.Name))
	}
	if c.Type.Class == row.Bytea && !wanted {
		g.line(indent, "# %s      # %s", text, c.Type.Name)
		return false
	}
	g.line(indent, "%s", text)
	return true
}

// one writes a join to the row that a foreign key points to.
func (g *guesser) one(indent int, s *row.Schema, fk ForeignKey, taken map[string]bool) {
	target := g.byName[fk.RefTable]
	if target == nil {
		g.line(indent, "# %s is not captured, or has no key", fk.RefTable)
		return
	}
	name := target.Name
	if n := len(fk.Columns); n > 0 {
		name = strings.TrimSuffix(fk.Columns[n-1], "_id")
	}
	pairs, ok := joinPairs(target, fk.RefColumns, s, fk.Columns)
	text := fmt.Sprintf("%s: {one: %s, on: {%s}, fields: {%s}}",
		yamlWord(freeName(name, taken)), yamlWord(fk.RefTable), pairs, strings.Join(briefColumns(target, nil), ", "))
	if !ok {
		text = "# " + text + "      # the types cannot be joined"
	}
	g.line(indent, "%s", text)
}

// many writes a list of the rows that point to this one.
func (g *guesser) many(s *row.Schema, fk ForeignKey, taken map[string]bool) {
	child := g.byName[fk.Table]
	if child == nil {
		return
	}
	pairs, ok := joinPairs(child, fk.Columns, s, fk.RefColumns)
	name := child.Name
	if taken[name] && len(fk.Columns) > 0 {
		name += "_by_" + strings.TrimSuffix(fk.Columns[0], "_id")
	}
	name = freeName(strings.ReplaceAll(name, ".", "_"), taken)
	comment := ""
	switch {
	case !ok:
		comment = "the types cannot be joined"
	case !g.isDetail(child):
		comment = "may be long: " + child.QualifiedName() + " has a view of its own"
	}
	if comment != "" {
		g.line(1, "# %s: {many: %s, on: {%s}, limit: %d, fields: {%s}}      # %s", yamlWord(name), yamlWord(fk.Table), pairs,
			starterRows, strings.Join(briefColumns(child, fk.Columns), ", "), comment)
		return
	}
	g.line(1, "%s:", yamlWord(name))
	g.line(2, "many: %s", yamlWord(fk.Table))
	g.line(2, "on: {%s}", pairs)
	g.line(2, "limit: %d      # counts and sums are over all rows", starterRows)
	g.line(2, "fields:")
	inner, empty := map[string]bool{}, true
	for i, c := range child.Columns {
		isKey := slices.Contains(child.Key, i)
		if !slices.Contains(fk.Columns, c.Name) || (isKey && len(child.Key) == 1) {
			if g.column(3, c, isKey, inner) {
				empty = false
			}
		}
	}
	if empty {
		g.column(3, child.Columns[child.Key[0]], true, inner)
	}
	for _, other := range g.keys {
		if other.Table == fk.Table && other.RefTable != fk.RefTable {
			g.one(3, child, other, inner)
		}
	}
	g.line(1, "%s: {count: %s}", yamlWord(freeName(name+"_count", taken)), yamlWord(name))
}

// lookups are the columns that a person looks documents up by: those that point elsewhere.
func (g *guesser) lookups(s *row.Schema) string {
	var names []string
	for _, fk := range g.keys {
		if fk.Table == s.QualifiedName() && len(fk.Columns) == 1 && !strings.Contains(fk.Columns[0], ".") && !slices.Contains(names, yamlWord(fk.Columns[0])) {
			names = append(names, yamlWord(fk.Columns[0]))
		}
	}
	return strings.Join(names, ", ")
}

// joinPairs is the text of on, and whether the join can be.
func joinPairs(joined *row.Schema, joinedColumns []string, from *row.Schema, fromColumns []string) (string, bool) {
	var pairs []string
	ok := len(joinedColumns) == len(fromColumns) && len(fromColumns) > 0
	for i := 0; ok && i < len(fromColumns); i++ {
		a, b := joined.Column(joinedColumns[i]), from.Column(fromColumns[i])
		if a < 0 || b < 0 {
			return "", false
		}
		ok = notJoinable(&joined.Columns[a].Type, &from.Columns[b].Type) == ""
		pairs = append(pairs, yamlWord(joinedColumns[i])+": "+yamlWord(fromColumns[i]))
	}
	return strings.Join(pairs, ", "), ok
}

// briefColumns are the first few columns of a table that say what a row is.
func briefColumns(s *row.Schema, without []string) []string {
	var names []string
	for _, c := range s.Columns {
		switch {
		case len(names) == starterColumns, slices.Contains(without, c.Name), strings.Contains(c.Name, "."):
		case c.Type.Class == row.Bytea, c.Type.Class == row.JSON:
		default:
			names = append(names, yamlWord(c.Name)+": ")
		}
	}
	if len(names) == 0 {
		key := s.Columns[s.Key[0]].Name
		names = append(names, fmt.Sprintf("key: {column: %s}", yamlWord(key)))
	}
	return names
}

// freeName is name, or name with a number when it is taken, and takes it.
func freeName(name string, taken map[string]bool) string {
	name = strings.ReplaceAll(name, ".", "_")
	free := name
	for i := 2; taken[free]; i++ {
		free = name + "_" + strconv.Itoa(i)
	}
	taken[free] = true
	return free
}

var notNameByte = regexp.MustCompile(`[^a-z0-9_]`)

// viewNameFor is a view name for a table.
func viewNameFor(s *row.Schema) string {
	name := s.Name
	if s.Namespace != "public" {
		name = s.Namespace + "_" + name
	}
	name = notNameByte.ReplaceAllString(strings.ToLower(name), "_")
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "v_" + name
	}
	return name[:min(len(name), 63)]
}

var plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// yamlWord is a name as YAML has it, quoted where it would mean something else.
func yamlWord(s string) string {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return strconv.Quote(s)
	}
	if plainWord.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}
