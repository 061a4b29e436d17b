package search

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Op is how a filter compares.
type Op uint8

// The operators. Eq and In are one: any of the values.
const (
	In     Op = iota // path:a,b     the field has any of the values
	Gt               // path>a
	Gte              // path>=a
	Lt               // path<a
	Lte              // path<=a
	Exists           // path:*       the field has a value
	Prefix           // path:a*      the field's text begins with the value
)

// opText is how an operator is written in an expression.
var opText = map[Op]string{In: ":", Gt: ">", Gte: ">=", Lt: "<", Lte: "<=", Exists: ":", Prefix: ":"}

// Filter is one condition on one field.
type Filter struct {
	Field  string // path in the document: "customer.country"
	Op     Op
	Values []string // In: one or more; Exists: none; others: one. As text: 42, 99.5, true, 2026-01-31, 2026-01-31T12:00:00Z, now-7d
	Not    bool     // the condition must not hold
}

// Limits of a filter expression.
const (
	filtersMax         = 64
	filterValuesMax    = 1024
	filterBytesMax     = 16 << 10
	filterSpecial      = `,"*\`
	filterPathSpecials = `:<>="\`
)

// ParseFilters reads a filter expression, such as
//
//	status:paid,shipped total>=100 -customer.country:NO placed_at<2026-01-01 note:* sku:AB*
//
// The grammar, in which white space separates conditions and all of them must hold:
//
//	expression = { condition }
//	condition  = [ "-" ] path operator values          "-": must not hold
//	path       = characters up to an operator | quoted
//	operator   = ":" | "=" | ">" | ">=" | "<" | "<="   ":" and "=" are the same
//	values     = "*"                                   the field has a value (":" only)
//	           | value "*"                             the field's text begins so (":" only)
//	           | value { "," value }                   any of them (":" only), else one value
//	value      = characters except white space , " *   | quoted
//	quoted     = `"` { character | `\"` | `\\` } `"`
//
// The error, which wraps ErrBadQuery, says where the expression cannot be read.
func ParseFilters(expression string) ([]Filter, error) {
	if len(expression) > filterBytesMax {
		return nil, fmt.Errorf("%w: filter has %d bytes, at most %d are read", ErrBadQuery, len(expression), filterBytesMax)
	}
	if !utf8.ValidString(expression) {
		return nil, fmt.Errorf("%w: filter is not UTF-8", ErrBadQuery)
	}
	p := filterParser{text: expression}
	var filters []Filter
	for p.skipSpace(); p.at < len(p.text); p.skipSpace() {
		if len(filters) == filtersMax {
			return nil, fmt.Errorf("%w: filter has more than %d conditions", ErrBadQuery, filtersMax)
		}
		f, err := p.condition()
		if err != nil {
			return nil, fmt.Errorf("%w: filter: at character %d: %w", ErrBadQuery, utf8.RuneCountInString(p.text[:p.at])+1, err)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// filterParser reads one expression from left to right.
type filterParser struct {
	text string
	at   int
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *filterParser) skipSpace() {
	for p.at < len(p.text) && isSpace(p.text[p.at]) {
		p.at++
	}
}

// take moves over s when it is next.
func (p *filterParser) take(s string) bool {
	if strings.HasPrefix(p.text[p.at:], s) {
		p.at += len(s)
		return true
	}
	return false
}

func (p *filterParser) condition() (f Filter, err error) {
	f.Not = p.take("-")
	if f.Field, err = p.path(); err != nil {
		return f, err
	}
	switch {
	case p.take(">="):
		f.Op = Gte
	case p.take("<="):
		f.Op = Lte
	case p.take(">"):
		f.Op = Gt
	case p.take("<"):
		f.Op = Lt
	case p.take(":"), p.take("="):
		f.Op = In
	default:
		return f, fmt.Errorf("want an operator (: = > >= < <=) after %q", f.Field)
	}
	if f.Op == In {
		return f, p.choices(&f)
	}
	value, err := p.value()
	if err != nil {
		return f, err
	}
	f.Values = []string{value}
	return f, p.end()
}

// choices reads what follows ":".
func (p *filterParser) choices(f *Filter) error {
	if p.take("*") {
		f.Op = Exists
		return p.end()
	}
	for {
		value, err := p.value()
		if err != nil {
			return err
		}
		f.Values = append(f.Values, value)
		if p.take("*") {
			if len(f.Values) > 1 {
				return fmt.Errorf("a prefix cannot be one of several values")
			}
			f.Op = Prefix
			return p.end()
		}
		if !p.take(",") {
			return p.end()
		}
		if len(f.Values) == filterValuesMax {
			return fmt.Errorf("more than %d values", filterValuesMax)
		}
	}
}

// end checks that the condition ends here.
func (p *filterParser) end() error {
	if p.at == len(p.text) || isSpace(p.text[p.at]) {
		return nil
	}
	return fmt.Errorf("unexpected %q: quote a value that has such characters", p.text[p.at:min(p.at+1, len(p.text))])
}

func (p *filterParser) path() (string, error) {
	if p.at < len(p.text) && p.text[p.at] == '"' {
		return p.quoted()
	}
	from := p.at
	for p.at < len(p.text) && !isSpace(p.text[p.at]) && !strings.ContainsRune(filterPathSpecials, rune(p.text[p.at])) {
		p.at++
	}
	if p.at == from {
		return "", fmt.Errorf("want a field")
	}
	return p.text[from:p.at], nil
}

func (p *filterParser) value() (string, error) {
	if p.at < len(p.text) && p.text[p.at] == '"' {
		return p.quoted()
	}
	from := p.at
	for p.at < len(p.text) && !isSpace(p.text[p.at]) && !strings.ContainsRune(filterSpecial, rune(p.text[p.at])) {
		p.at++
	}
	if p.at == from {
		return "", fmt.Errorf(`want a value (for an empty one write "")`)
	}
	return p.text[from:p.at], nil
}

func (p *filterParser) quoted() (string, error) {
	var b strings.Builder
	for at := p.at + 1; at < len(p.text); at++ {
		switch c := p.text[at]; c {
		case '"':
			p.at = at + 1
			return b.String(), nil
		case '\\':
			at++
			if at == len(p.text) || (p.text[at] != '"' && p.text[at] != '\\') {
				return "", fmt.Errorf(`want \" or \\ after a backslash`)
			}
			b.WriteByte(p.text[at])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("the quote is not closed")
}

// String writes the filter so that ParseFilters reads it again.
func (f Filter) String() string {
	var b strings.Builder
	if f.Not {
		b.WriteByte('-')
	}
	writeWord(&b, f.Field, filterPathSpecials)
	b.WriteString(opText[f.Op])
	for i, v := range f.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		writeWord(&b, v, filterSpecial)
	}
	if f.Op == Exists || f.Op == Prefix {
		b.WriteByte('*')
	}
	return b.String()
}

// writeWord writes a word bare when it reads the same, else quoted.
func writeWord(b *strings.Builder, word, specials string) {
	if word != "" && !strings.ContainsAny(word, specials+" \t\n\r-=<>") {
		b.WriteString(word)
		return
	}
	b.WriteByte('"')
	for i := range len(word) {
		if word[i] == '"' || word[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	b.WriteByte('"')
}
