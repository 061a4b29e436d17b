package search

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/lanternist/lanternist/projectors"
)

// aliasIsOurs is a fatal error when readers are sent, by the view's alias, to an index that is not one of the view's: somebody
// has moved the alias, or there is an index in its place. Taking it away from another's index is not for us to do.
func (s *Store) aliasIsOurs(ctx context.Context) error {
	var behind map[string]indexState
	err := s.client.do(ctx, call{method: http.MethodGet, path: "/" + s.names.alias, query: params(
		"features", "aliases", "ignore_unavailable", "true", "expand_wildcards", "open,closed,hidden", "filter_path", "*.aliases",
	)}, &behind)
	if err != nil {
		return fmt.Errorf("look behind alias %s: %w", s.names.alias, classify(err))
	}
	for index := range behind {
		switch {
		case s.names.owns(index):
		case index == s.names.alias:
			return projectors.Fatalf(fmt.Sprintf("delete or rename that index, which something else has made: curl -X DELETE %s/%s ; then: lanternist rebuild %s", s.client.shown(), index, s.view),
				"there is an index named %s, where the view's alias is to be", index)
		default:
			return projectors.Fatalf(fmt.Sprintf(`take the alias from it: curl -X POST %s/_aliases -H 'Content-Type: application/json' -d '{"actions":[{"remove":{"index":%q,"alias":%q}}]}' ; then: lanternist rebuild %s`,
				s.client.shown(), index, s.names.alias, s.view),
				"alias %s points to index %s, which is not one of view %s", s.names.alias, index, s.view)
		}
	}
	return nil
}

// shown is the address of a node, for a command that a person runs, without what is secret in it.
func (c *Client) shown() string {
	u, err := url.Parse(c.cfg.URLs[0])
	if err != nil {
		return "http://elasticsearch:9200"
	}
	u.User = nil
	return strings.TrimSuffix(u.String(), "/")
}
