package search

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanternist/lanternist/event"
)

// Query is what a reader asks of the live generation. The zero value asks for the first documents in no special order.
type Query struct {
	// Text is searched for in all text and keyword fields: every word must occur, "…" is a phrase, word* a prefix, -word must not
	// occur, | is or (Elasticsearch's simple_query_string). Default: everything matches.
	Text string
	// Filters must all hold. Those on fields of the same nested list must hold for one and the same element of it.
	Filters []Filter
	// Sort orders the hits. Default: relevance when there is Text, else the order of the index.
	Sort []Sort
	// Facets are fields whose most frequent values are counted over everything that matches. At most 16.
	Facets []string
	// FacetSize is how many values of each facet are returned, at most 1,000. Default: 10.
	FacetSize int
	// Size is how many hits a page has, at most 1,000. Default: 20.
	Size int
	// Cursor continues after the page that returned it, in the same point in time. All else must be as in the query that began,
	// but Size and Facets, which may differ. Default: the first page.
	Cursor string
	// SinglePage says that no other page will be asked for: Result has no cursor, and no point in time is opened. Default: false.
	SinglePage bool
	// Highlight returns fragments of the text fields with what matched in <em> and everything else escaped for HTML. Default: false.
	Highlight bool
	// ExactTotal counts all matches, however many. Default: false, up to 10,000.
	ExactTotal bool
	// After is an offset that the answer must reflect. The caller has waited for the runner's watermark to reach it (see Refresh).
	// Cursor pages reflect what the first page did. Default: 0, what the index shows by itself.
	After event.Offset
}

// Limits of a query.
const (
	sizeDefault      = 20
	sizeMax          = 1000
	facetsMax        = 16
	facetSizeDefault = 10
	facetSizeMax     = 1000
	textBytesMax     = 4 << 10
)

// plan is a query whose names were found and whose values fit.
type plan struct {
	query   Query
	filters []plannedFilter
	sorts   []plannedSort
	facets  []*field
}

type plannedFilter struct {
	Filter
	field *field
}

type plannedSort struct {
	Sort
	field *field // nil: relevance
}

// plan checks a query against the catalog and names every problem of it at once.
func (c *catalog) plan(q Query) (*plan, error) {
	p := &plan{query: q}
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	limit := func(value *int, name string, standard, most int) {
		if *value == 0 {
			*value = standard
		}
		if *value < 1 || *value > most {
			add("%s is %d, want 1 to %d", name, *value, most)
		}
	}
	limit(&p.query.Size, "size", sizeDefault, sizeMax)
	limit(&p.query.FacetSize, "facet size", facetSizeDefault, facetSizeMax)
	if len(q.Text) > textBytesMax {
		add("q has %d bytes, at most %d are read", len(q.Text), textBytesMax)
	}
	if strings.TrimSpace(q.Text) != "" && len(c.words()) == 0 {
		add("the view has no text to search in")
	}
	if len(q.Filters) > filtersMax || len(q.Sort) > sortsMax || len(q.Facets) > facetsMax {
		add("at most %d filters, %d sort fields and %d facets are used", filtersMax, sortsMax, facetsMax)
	}
	for _, f := range q.Filters {
		planned, err := c.planFilter(f)
		if err != nil {
			add("filter: %v", err)
		}
		p.filters = append(p.filters, planned)
	}
	for _, s := range q.Sort {
		planned := plannedSort{Sort: s}
		if s.Field != scoreField {
			var err error
			if planned.field, err = c.documentField(s.Field, "sorted by"); err != nil {
				add("sort: %v", err)
			}
		}
		p.sorts = append(p.sorts, planned)
	}
	for _, name := range q.Facets {
		f, err := c.documentField(name, "counted")
		if err != nil {
			add("facets: %v", err)
		}
		p.facets = append(p.facets, f)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrBadQuery, strings.Join(problems, "; "))
	}
	return p, nil
}

// field finds what a reader names, or says what was likely meant.
func (c *catalog) field(path string) (*field, error) {
	if f := c.find(path); f != nil {
		return f, nil
	}
	if c.objects[path] {
		prefix := path + "."
		if i := slices.IndexFunc(c.paths, func(p string) bool { return strings.HasPrefix(p, prefix) }); i >= 0 {
			return nil, fmt.Errorf("%q is an object: name a field of it, such as %q", path, c.paths[i])
		}
		return nil, fmt.Errorf("%q is not indexed: give it a type with \"as\" in the view", path)
	}
	if near := c.nearest(path); near != "" {
		return nil, fmt.Errorf("the view has no field %q; did you mean %q?", path, near)
	}
	return nil, fmt.Errorf("the view has no field %q; it has %s", path, sample(c.paths))
}

// sample is some of the names, for a message.
func sample(paths []string) string {
	if len(paths) > 12 {
		return strings.Join(paths[:12], ", ") + ", …"
	}
	return strings.Join(paths, ", ")
}

// exactField is a field that has exact values.
func (c *catalog) exactField(path, what string) (*field, error) {
	f, err := c.field(path)
	if err != nil {
		return nil, err
	}
	if f.exact == "" {
		return nil, fmt.Errorf(
			"%q cannot be %s: it is indexed for full text only, or not at all; \"as: keyword\" in the view would change that", path, what)
	}
	return f, nil
}

// documentField is an exact field whose values the document has, not only elements of a list in it.
func (c *catalog) documentField(path, what string) (*field, error) {
	f, err := c.exactField(path, what)
	if err == nil && f.apart {
		return nil, fmt.Errorf("%q cannot be %s: its nested list %q is mapped without include_in_root", path, what, f.nest)
	}
	return f, err
}

func (c *catalog) planFilter(f Filter) (plannedFilter, error) {
	planned := plannedFilter{Filter: f}
	var err error
	if f.Op == Exists {
		planned.field, err = c.field(f.Field)
	} else {
		planned.field, err = c.exactField(f.Field, "compared")
	}
	if err != nil {
		return planned, err
	}
	switch {
	case f.Op > Prefix:
		return planned, fmt.Errorf("%q: unknown operator %d", f.Field, f.Op)
	case f.Op == In && (len(f.Values) == 0 || len(f.Values) > filterValuesMax):
		return planned, fmt.Errorf("%q: %d values, want 1 to %d", f.Field, len(f.Values), filterValuesMax)
	case f.Op == Exists && len(f.Values) > 0, f.Op != In && f.Op != Exists && len(f.Values) != 1:
		return planned, fmt.Errorf("%q: %d values are not what the operator takes", f.Field, len(f.Values))
	case f.Op == Prefix && planned.field.kind != kindString && planned.field.kind != kindAny:
		return planned, fmt.Errorf("%q has no text that could begin with %q", f.Field, f.Values[0])
	case f.Op != In && f.Op != Exists && planned.field.kind == kindBool:
		return planned, fmt.Errorf("%q is true or false", f.Field)
	}
	for _, value := range f.Values {
		if err := planned.field.check(value, f.Op); err != nil {
			return planned, fmt.Errorf("%q: %w", f.Field, err)
		}
	}
	return planned, nil
}

// validDate is what a date may look like; Elasticsearch knows the rest.
var validDate = regexp.MustCompile(`^(now([+-]\d+[yMwdhHms])*(/[yMwdhHms])?|[+-]?\d{4,9}(-(0[1-9]|1[0-2])(-\d{2}(T([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?)?)?( BC)?)$`)

var (
	errRange      = errors.New("is more than the field can hold")
	errNotInteger = errors.New("is not a whole number")
	errNotNumber  = errors.New("is not a number")
	errNotBool    = errors.New("is neither true nor false")
	errNotDate    = errors.New("is not a date such as 2026-01-31, 2026-01-31T12:00:00Z or now-7d")
	errNotIP      = errors.New("is not an IP address or network")
)

// check says whether a value can be compared with the field. Elasticsearch would not say it of an index without documents.
func (f *field) check(value string, op Op) error {
	var wrong error
	switch f.kind {
	case kindInteger:
		wrong = checkInteger(value, f.bits, op)
	case kindNumber:
		if !isNumber(value) {
			wrong = errNotNumber
		}
	case kindBool:
		if value != "true" && value != "false" {
			wrong = errNotBool
		}
	case kindDate:
		wrong = checkDate(value)
	case kindIP:
		_, addrErr := netip.ParseAddr(value)
		_, netErr := netip.ParsePrefix(value)
		if addrErr != nil && netErr != nil {
			wrong = errNotIP
		}
	}
	if wrong != nil {
		return fmt.Errorf("%.64q %w", value, wrong)
	}
	return nil
}

// checkInteger takes decimals where values are compared, and whole numbers where they are looked up.
func checkInteger(value string, bits int, op Op) error {
	_, err := strconv.ParseInt(value, 10, bits)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return errRange
	case op == In || !isNumber(value):
		return errNotInteger
	}
	limit := math.Ldexp(1, bits-1)
	if n, err := strconv.ParseFloat(value, 64); err != nil || n >= limit || n <= -limit {
		return errRange
	}
	return nil
}

func checkDate(value string) error {
	if !validDate.MatchString(value) {
		return errNotDate
	}
	if len(value) >= 10 && value[4] == '-' {
		if _, err := time.Parse(time.DateOnly, value[:10]); err != nil {
			return errNotDate
		}
	}
	return nil
}

// validNumber is a decimal number.
var validNumber = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$`)

func isNumber(value string) bool { return validNumber.MatchString(value) }
