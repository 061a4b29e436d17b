package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/examples/shop"
)

// documents are all documents of one view in one sink. It implements shop.Documents.
type documents map[string][]byte

// Documents implements shop.Documents.
func (d documents) Documents(_ context.Context, ids []string) (map[string][]byte, error) {
	found := map[string][]byte{}
	for _, id := range ids {
		if body, ok := d[id]; ok {
			found[id] = body
		}
	}
	return found, nil
}

// IDs implements shop.Documents.
func (d documents) IDs(_ context.Context, visit func(id string) error) error {
	for id := range d {
		if err := visit(id); err != nil {
			return err
		}
	}
	return nil
}

// searchDocuments reads what any client of the cluster finds behind the view's alias.
func (in *installation) searchDocuments(view string) documents {
	in.t.Helper()
	all := documents{}
	alias := in.search + "/" + in.searchPrefix + view
	in.elasticsearch(http.MethodPost, alias+"/_refresh", nil, nil)
	type page struct {
		Scroll string `json:"_scroll_id"`
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits struct {
			Hits []struct {
				ID     string          `json:"_id"`
				Source json.RawMessage `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	var p page
	in.elasticsearch(http.MethodPost, alias+"/_search?scroll=1m", map[string]any{"size": 1000, "sort": []string{"_doc"}}, &p)
	for len(p.Hits.Hits) > 0 {
		if p.Shards.Failed > 0 {
			in.t.Fatalf("search %s: %d shards failed", alias, p.Shards.Failed)
		}
		for _, h := range p.Hits.Hits {
			if _, twice := all[h.ID]; twice {
				in.t.Fatalf("search %s: document %s comes twice", alias, h.ID)
			}
			all[h.ID] = h.Source
		}
		scroll := p.Scroll
		p = page{}
		in.elasticsearch(http.MethodPost, in.search+"/_search/scroll", map[string]any{"scroll": "1m", "scroll_id": scroll}, &p)
	}
	in.elasticsearch(http.MethodDelete, in.search+"/_search/scroll", map[string]any{"scroll_id": p.Scroll}, nil)
	return all
}

// elasticsearch makes one call to the cluster.
func (in *installation) elasticsearch(method, url string, body, v any) {
	in.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		in.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(in.t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	res, err := client.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		in.t.Fatalf("%s %s: %s %s %v", method, url, res.Status, answer, err)
	}
	if v != nil {
		if err := json.Unmarshal(answer, v); err != nil {
			in.t.Fatalf("%s %s: %v", method, url, err)
		}
	}
}

// cacheDocuments reads the live generation of a view as it lies in Redis: the layout is described in
// projectors/cache/keys.go and value.go.
func (in *installation) cacheDocuments(view string) documents {
	in.t.Helper()
	ctx := in.t.Context()
	opts, err := redis.ParseURL(in.cache)
	if err != nil {
		in.t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	defer db.Close()
	begin := in.cachePrefix + "{" + view + "}:"
	live, err := db.Get(ctx, begin+"live").Result()
	if err != nil {
		in.t.Fatalf("read the live generation of %s in Redis: %v", view, err)
	}
	number, _, _ := strings.Cut(live, ":")
	begin += "g" + number + ":d:"
	all := documents{}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var keys []string
		if keys, cursor, err = db.Scan(ctx, cursor, begin+"*", 2000).Result(); err != nil {
			in.t.Fatal(err)
		}
		if len(keys) == 0 {
			continue
		}
		values, err := db.MGet(ctx, keys...).Result()
		if err != nil {
			in.t.Fatal(err)
		}
		for i, key := range keys {
			text, ok := values[i].(string)
			if !ok {
				continue // gone since
			}
			body, exists, err := cachedBody(text)
			if err != nil {
				in.t.Fatalf("%s: %v", key, err)
			}
			if exists {
				all[strings.TrimPrefix(key, begin)] = body
			}
		}
	}
	return all
}

// cachedBody is the document in a value: 19 digits, d or t (a tombstone), 8 hex digits of the length of the lookups,
// the lookups, the document.
func cachedBody(value string) (body []byte, exists bool, err error) {
	const header = 19 + 1 + 8
	if len(value) < header {
		return nil, false, fmt.Errorf("value of %d bytes", len(value))
	}
	lookups, err := strconv.ParseUint(value[20:header], 16, 32)
	if err != nil || header+int(lookups) > len(value) {
		return nil, false, fmt.Errorf("value begins with %q", value[:header])
	}
	return []byte(value[header+int(lookups):]), value[19] == 'd', nil
}

// compare compares every document of every view in both sinks with the truth, in one snapshot of the source. Nothing
// may write meanwhile. It returns how many documents it has compared.
func (in *installation) compare(truth func(view string) string) int {
	in.t.Helper()
	result := in.comparison(truth)
	if !result.Equal() {
		in.t.Errorf("%d documents compared: %d different, %d missing, %d extra", result.Compared, result.Different, result.Missing, result.Extra)
		for _, d := range result.Differences {
			in.t.Error(d)
		}
	}
	return result.Compared
}

// comparison is compare without a judgement.
func (in *installation) comparison(truth func(view string) string) shop.Comparison {
	in.t.Helper()
	sinks := map[string]map[string]shop.Documents{}
	for _, view := range in.views {
		sinks[view] = map[string]shop.Documents{"Elasticsearch": in.searchDocuments(view), "Redis": in.cacheDocuments(view)}
	}
	ctx := in.t.Context()
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	var result shop.Comparison
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		result, err = shop.CompareWith(ctx, tx, truth, sinks)
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
	if result.Compared == 0 {
		in.t.Fatal("there was nothing to compare")
	}
	return result
}

// nothingParked sees to it that no document was refused by a sink, and that no projector has a complaint.
func (d *daemon) nothingParked() {
	d.in.t.Helper()
	for _, p := range d.in.status().Projectors {
		if p.Parked > 0 || p.Error != "" || p.State != "running" {
			d.in.t.Errorf("%s is %s with %d dead letters: %s", p.Projector, p.State, p.Parked, p.Error)
		}
	}
}

// TestCachedBody tests the tests' own eye.
func TestCachedBody(t *testing.T) {
	body, exists, err := cachedBody("0000000000000000007d0000000a00000002no{}")
	if err != nil || !exists || string(body) != "{}" {
		t.Errorf("%q %t %v", body, exists, err)
	}
	if _, exists, err = cachedBody("0000000000000000007t00000000"); err != nil || exists {
		t.Errorf("a tombstone: %t %v", exists, err)
	}
}
