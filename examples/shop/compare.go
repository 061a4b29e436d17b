package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Documents is one view in one sink, as a comparison reads it.
type Documents interface {
	// Documents returns the bodies of the ids that the sink holds.
	Documents(ctx context.Context, ids []string) (map[string][]byte, error)
	// IDs visits the id of every document.
	IDs(ctx context.Context, visit func(id string) error) error
}

// Difference is one document that is not as the source says.
type Difference struct {
	View, Sink, ID string
	What           string // "missing", "extra", or where and how it differs
}

func (d Difference) String() string {
	return fmt.Sprintf("%s/%s in %s: %s", d.View, d.ID, d.Sink, d.What)
}

// Comparison is the outcome of comparing views with the truth.
type Comparison struct {
	Compared    int          `json:"compared"`  // documents, counted in each sink
	Different   int          `json:"different"` //
	Missing     int          `json:"missing"`
	Extra       int          `json:"extra"`
	Differences []Difference `json:"differences,omitempty"` // the first ones
}

// Equal says whether nothing was found.
func (c Comparison) Equal() bool { return c.Different+c.Missing+c.Extra == 0 }

// keepDifferences is how many differences a Comparison lists.
const keepDifferences = 20

// compareBatch is how many documents are read from a sink at once.
const compareBatch = 500

// Compare evaluates the truth of every view on the source and compares it with every document of every sink.
// tx must be one snapshot of the source that the sinks have reached, with no writes to the views meanwhile.
// sinks maps a view's name and a sink's name to its documents.
func Compare(ctx context.Context, tx pgx.Tx, sinks map[string]map[string]Documents) (Comparison, error) {
	return CompareWith(ctx, tx, Truth, sinks)
}

// CompareWith is Compare for views of another database, with the query that gives each view's documents.
func CompareWith(ctx context.Context, tx pgx.Tx, truthOf func(view string) string, sinks map[string]map[string]Documents) (Comparison, error) {
	var c Comparison
	for _, view := range slices.Sorted(maps.Keys(sinks)) {
		truth, err := evaluate(ctx, tx, view, truthOf(view))
		if err != nil {
			return c, err
		}
		for _, sink := range slices.Sorted(maps.Keys(sinks[view])) {
			if err := c.compare(ctx, view, sink, truth, sinks[view][sink]); err != nil {
				return c, fmt.Errorf("compare %s in %s: %w", view, sink, err)
			}
		}
	}
	return c, nil
}

func evaluate(ctx context.Context, tx pgx.Tx, view, query string) (map[string][]byte, error) {
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("evaluate %s on the source: %w", view, err)
	}
	truth := map[string][]byte{}
	var id string
	var doc []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &doc}, func() error {
		truth[id] = bytes.Clone(doc)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("evaluate %s on the source: %w", view, err)
	}
	return truth, nil
}

func (c *Comparison) compare(ctx context.Context, view, sink string, truth map[string][]byte, docs Documents) error {
	ids := slices.Sorted(maps.Keys(truth))
	for batch := range slices.Chunk(ids, compareBatch) {
		found, err := docs.Documents(ctx, batch)
		if err != nil {
			return err
		}
		for _, id := range batch {
			c.Compared++
			body, ok := found[id]
			if !ok {
				c.Missing++
				c.note(Difference{view, sink, id, "missing"})
				continue
			}
			if diff := differ(truth[id], body); diff != "" {
				c.Different++
				c.note(Difference{view, sink, id, diff})
			}
		}
	}
	return docs.IDs(ctx, func(id string) error {
		if _, ok := truth[id]; !ok {
			c.Extra++
			c.note(Difference{view, sink, id, "extra"})
		}
		return nil
	})
}

func (c *Comparison) note(d Difference) {
	if len(c.Differences) < keepDifferences {
		c.Differences = append(c.Differences, d)
	}
}

// differ says where two JSON documents differ first, or nothing. Numbers are compared by value, the order of
// an object's members does not count, everything else must be the same.
func differ(want, got []byte) string {
	w, err := decode(want)
	if err != nil {
		return "the source's document is no JSON: " + err.Error()
	}
	g, err := decode(got)
	if err != nil {
		return "the sink's document is no JSON: " + err.Error()
	}
	return differAt("", w, g)
}

func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

func differAt(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		names := map[string]bool{}
		for name := range w {
			names[name] = true
		}
		for name := range g {
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			wv, inWant := w[name]
			gv, inGot := g[name]
			if inWant != inGot {
				return fmt.Sprintf("%s: in the source %t, in the sink %t", at(path, name), inWant, inGot)
			}
			if diff := differAt(at(path, name), wv, gv); diff != "" {
				return diff
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		for i := range min(len(w), len(g)) {
			if diff := differAt(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); diff != "" {
				return diff
			}
		}
		if len(w) != len(g) {
			return fmt.Sprintf("%s: %d elements, want %d", path, len(g), len(w))
		}
		return ""
	case json.Number:
		if g, ok := got.(json.Number); ok && sameNumber(w.String(), g.String()) {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%s: %s, want %s", path, show(got), show(want))
}

func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

func at(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(text) > 120 {
		return string(text[:120]) + "…"
	}
	return string(text)
}
