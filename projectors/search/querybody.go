package search

import (
	"maps"
	"slices"
	"strings"
)

// object is a JSON object of a request.
type object = map[string]any

// queryBody is the query clause: filters do not score, text does.
func (p *plan) queryBody(c *catalog) object {
	boolean := object{}
	if filters, not := p.filterClauses(); len(filters)+len(not) > 0 {
		boolean["filter"] = filters
		boolean["must_not"] = not
	}
	if text := strings.TrimSpace(p.query.Text); text != "" {
		boolean["must"] = textClause(c, text)
	}
	if len(boolean) == 0 {
		return object{"match_all": object{}}
	}
	return object{"bool": boolean}
}

// textClause matches where all words occur, each in any field.
func textClause(c *catalog, text string) object {
	return object{"simple_query_string": object{
		"query": text, "fields": c.words(), "default_operator": "and", "lenient": true,
	}}
}

// filterClauses are the conditions that must hold and those that must not. Positive ones on the same nested list go
// together, so that one element has to meet them all.
func (p *plan) filterClauses() (must, not []object) {
	together := map[string][]object{}
	for _, f := range p.filters {
		clause, nest := f.clause(), f.field.nest
		switch {
		case f.Not:
			not = append(not, nestedClause(nest, clause))
		case nest == "":
			must = append(must, clause)
		default:
			together[nest] = append(together[nest], clause)
		}
	}
	for _, nest := range slices.Sorted(maps.Keys(together)) {
		must = append(must, nestedClause(nest, object{"bool": object{"filter": together[nest]}}))
	}
	return must, not
}

func nestedClause(nest string, clause object) object {
	if nest == "" {
		return clause
	}
	return object{"nested": object{"path": nest, "query": clause}}
}

// clause is the condition without its nesting.
func (f *plannedFilter) clause() object {
	path := f.field.exact
	switch f.Op {
	case Exists:
		return object{"exists": object{"field": f.field.path}}
	case Prefix:
		return object{"prefix": object{path: object{"value": f.Values[0]}}}
	case Gt:
		return object{"range": object{path: object{"gt": f.Values[0]}}}
	case Gte:
		return object{"range": object{path: object{"gte": f.Values[0]}}}
	case Lt:
		return object{"range": object{path: object{"lt": f.Values[0]}}}
	case Lte:
		return object{"range": object{path: object{"lte": f.Values[0]}}}
	}
	if f.field.kind == kindDate {
		return sameDates(path, f.Values)
	}
	return object{"terms": object{path: f.Values}}
}

// sameDates matches all of the time that a value names: 2026-01-31 is a whole day.
func sameDates(path string, values []string) object {
	clauses := make([]object, len(values))
	for i, v := range values {
		clauses[i] = object{"range": object{path: object{"gte": v, "lte": v}}}
	}
	return object{"bool": object{"should": clauses, "minimum_should_match": 1}}
}

// sortBody is the sort clause. tiebreak adds the order of the point in time, which makes it total.
func (p *plan) sortBody(tiebreak bool) []any {
	var keys []any
	for _, s := range p.sorts {
		if s.field == nil {
			order := "desc"
			if s.Descending { // "-_score": the other way round than its own order
				order = "asc"
			}
			keys = append(keys, object{scoreField: object{"order": order}})
			continue
		}
		order := object{"order": "asc", "missing": "_last"}
		if s.Descending {
			order["order"] = "desc"
		}
		keys = append(keys, object{s.field.exact: order})
	}
	if len(keys) == 0 && strings.TrimSpace(p.query.Text) != "" {
		keys = append(keys, object{scoreField: object{"order": "desc"}})
	}
	if tiebreak {
		keys = append(keys, object{"_shard_doc": object{"order": "asc"}})
	}
	return keys
}

// facetsBody is the aggregations clause, one entry per facet by its place.
func (p *plan) facetsBody() object {
	body := object{}
	for i, f := range p.facets {
		body[facetName(i)] = object{"terms": object{"field": f.exact, "size": p.query.FacetSize}}
	}
	return body
}

// highlightBody marks matches of the text. Fields longer than what the index analyzes for highlighting are left out, not an error.
func (p *plan) highlightBody(c *catalog) object {
	fields := object{}
	for _, path := range c.texts() {
		fields[path] = object{}
	}
	return object{
		"encoder": "html", "pre_tags": []string{"<em>"}, "post_tags": []string{"</em>"},
		"max_analyzed_offset": highlightOffsetMax, "fields": fields,
	}
}

// highlightOffsetMax is index.highlight.max_analyzed_offset.
const highlightOffsetMax = 1_000_000
