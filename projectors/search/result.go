package search

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/lanternist/lanternist/event"
)

// Hit is one document found.
type Hit struct {
	ID        string
	Version   event.Offset        // of the write that made the document what it is
	Score     *float64            // nil when hits are not ordered by relevance
	Source    json.RawMessage     // the document
	Highlight map[string][]string // fragments by field
	Ignored   []string            // fields of which a value is kept and not indexed: it was too long, or none of the field's type
	// Definition is the hash of the definition that the document was composed by; "" when it is not known. Only Get says it.
	Definition string
}

// Bucket is one value of a facet.
type Bucket struct {
	Value json.RawMessage // a JSON string, number or boolean
	Count int64           // documents that have it
}

// Facet is the most frequent values of one field.
type Facet struct {
	Field   string
	Buckets []Bucket
	Other   int64 // how many values, each time one occurs, are in none of the buckets
}

// Result is one page.
type Result struct {
	Total  int64
	Exact  bool // false: Total is a lower bound
	Hits   []Hit
	Facets []Facet       // in the order of Query.Facets
	Cursor string        // for the next page; "" when this is the last, or the only one asked for
	Took   time.Duration // in Elasticsearch
}

// searchAnswer is the part of Elasticsearch's answer that is read here.
type searchAnswer struct {
	PIT      string `json:"pit_id"`
	Took     int64  `json:"took"`
	TimedOut bool   `json:"timed_out"`
	Shards   shards `json:"_shards"`
	Hits     struct {
		Total *total      `json:"total"`
		Hits  []answerHit `json:"hits"`
	} `json:"hits"`
	Facets map[string]answerFacet `json:"aggregations"`
}

type total struct {
	Value    int64  `json:"value"`
	Relation string `json:"relation"`
}

type answerHit struct {
	Index     string              `json:"_index"`
	ID        string              `json:"_id"`
	Version   event.Offset        `json:"_version"`
	Score     *float64            `json:"_score"`
	Source    json.RawMessage     `json:"_source"`
	Highlight map[string][]string `json:"highlight"`
	Ignored   []string            `json:"_ignored"`
	Sort      json.RawMessage     `json:"sort"`
}

// answerFacet is a terms aggregation.
type answerFacet struct {
	Buckets []struct {
		Key   json.RawMessage `json:"key"`
		Text  *string         `json:"key_as_string"`
		Count int64           `json:"doc_count"`
	} `json:"buckets"`
	Other int64 `json:"sum_other_doc_count"`
}

func facetName(i int) string { return "f" + strconv.Itoa(i) }

// result turns an answer into a Result without a cursor.
func (a *searchAnswer) result(p *plan) (*Result, error) {
	r := &Result{Took: time.Duration(a.Took) * time.Millisecond, Hits: make([]Hit, len(a.Hits.Hits))}
	if a.Hits.Total != nil {
		r.Total, r.Exact = a.Hits.Total.Value, a.Hits.Total.Relation == "eq"
	}
	scored := p.scored()
	for i, hit := range a.Hits.Hits {
		r.Hits[i] = Hit{ID: hit.ID, Version: hit.Version, Source: hit.Source, Highlight: hit.Highlight, Ignored: hit.Ignored}
		if scored {
			r.Hits[i].Score = hit.Score
		}
	}
	for i, f := range p.facets {
		agg, ok := a.Facets[facetName(i)]
		if !ok {
			return nil, fmt.Errorf("search answer has no facet %s", f.path)
		}
		r.Facets = append(r.Facets, agg.facet(p.query.Facets[i], f.kind))
	}
	return r, nil
}

func (a answerFacet) facet(name string, k kind) Facet {
	facet := Facet{Field: name, Other: a.Other, Buckets: make([]Bucket, len(a.Buckets))}
	for i, b := range a.Buckets {
		bucket := Bucket{Value: b.Key, Count: b.Count}
		switch {
		case k == kindBool && b.Text != nil:
			bucket.Value = json.RawMessage(*b.Text)
		case b.Text != nil:
			bucket.Value, _ = json.Marshal(*b.Text) // a string always can be encoded
		}
		facet.Buckets[i] = bucket
	}
	return facet
}
