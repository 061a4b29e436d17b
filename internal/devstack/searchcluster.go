package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// SearchCluster is the part of an Elasticsearch cluster that belongs to one test.
type SearchCluster struct {
	base, prefix string
}

// Elasticsearch returns the shared cluster and a prefix for the test's indices. When the test ends, the
// indices and index templates whose names begin with the prefix are deleted.
func Elasticsearch(t testing.TB) *SearchCluster {
	t.Helper()
	base := sharedService(t, request{Service: "elasticsearch"}, "LANTERNIST_ELASTICSEARCH_URL")
	c := &SearchCluster{base: base, prefix: uniqueName() + "-"}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.deleteIndices(ctx); err != nil {
			t.Errorf("delete indices %s*: %v", c.prefix, err)
		}
	})
	return c
}

// URL returns the base URL of the cluster, without a slash at the end.
func (c *SearchCluster) URL() string { return c.base }

// Prefix begins the names of the test's indices, aliases and templates: a lower-case word and a hyphen.
func (c *SearchCluster) Prefix() string { return c.prefix }

func (c *SearchCluster) deleteIndices(ctx context.Context) error {
	var indices []struct{ Index string }
	list := "/_cat/indices/" + c.prefix + "*?h=index&format=json&expand_wildcards=all"
	if err := c.call(ctx, http.MethodGet, list, &indices); err != nil {
		return err
	}
	var errs []error
	for _, i := range indices {
		errs = append(errs, c.call(ctx, http.MethodDelete, "/"+url.PathEscape(i.Index)+"?ignore_unavailable=true", nil))
	}
	errs = append(errs, c.call(ctx, http.MethodDelete, "/_index_template/"+c.prefix+"*", nil))
	return errors.Join(errs...)
}

func (c *SearchCluster) call(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	if into == nil {
		into = &struct{}{}
	}
	resp, err := plainHTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	// Nothing that matches is no error for a wildcard of ours.
	if resp.StatusCode == http.StatusNotFound && strings.Contains(path, "*") {
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}
