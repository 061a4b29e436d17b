package search

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// Store is one view's home in Elasticsearch, by one definition of the view (see Redefined). It implements projectors.Store, and answers searches on the live generation.
// It is safe for concurrent use.
type Store struct {
	client   *Client
	view     string
	names    viewNames
	index    indexDefinition
	fields   *catalog
	nameFail error // the view's name cannot be an index name

	hash string // of the definition; "" when nobody has told
	*home

	prepared atomic.Int64 // number of the generation that has the settings of a live one; 0 is none
}

var (
	_ projectors.Store      = (*Store)(nil)
	_ projectors.Generation = (*Generation)(nil)
)

func newStore(c *Client, view string, fields []views.Field, options *views.SearchOptions) *Store {
	if options == nil {
		options = &views.SearchOptions{}
	}
	index := defineIndex(fields, options, c.cfg.GCDeletes)
	s := &Store{
		client: c,
		view:   view,
		names:  newViewNames(c.cfg.Prefix, view),
		index:  index,
		fields: newCatalog(index.properties, options.Dynamic == "true" || options.Dynamic == "runtime"),
	}
	s.home = newHome(newVisibility(c, s.names.alias))
	if !validIndexName.MatchString(view) {
		s.nameFail = projectors.Fatalf("rename the view",
			"view %q cannot be an index name: want lower case letters, digits, _ . and -", view)
	}
	return s
}

// Pushbacks implements projectors.Pressured: how often the cluster had no room for documents (429, es_rejected_execution_exception,
// 503), in all stores of the client.
func (s *Store) Pushbacks() uint64 { return s.client.pushbacks.Load() }

// metaFormat is the version of what is kept in an index's _meta and of the checkpoint document.
const metaFormat = 1

// meta is what an index says of itself.
type meta struct {
	Format int    `json:"format"`
	View   string `json:"view"`
	projectors.Info
}

// indexState is the part of GET <index> that is read here.
type indexState struct {
	Aliases  map[string]json.RawMessage `json:"aliases"`
	Mappings struct {
		Meta struct {
			Lanternist *meta `json:"lanternist"`
		} `json:"_meta"`
	} `json:"mappings"`
}

// states reads the view's indices by name.
func (s *Store) states(ctx context.Context) (map[string]indexState, error) {
	all := map[string]indexState{}
	err := s.client.do(ctx, call{method: http.MethodGet, path: "/" + s.names.pattern, query: params(
		"features", "aliases,mappings",
		"expand_wildcards", "open,closed,hidden",
		"filter_path", "*.aliases,*.mappings._meta.lanternist",
	)}, &all)
	if err != nil {
		return nil, fmt.Errorf("list generations of %s: %w", s.view, classify(err))
	}
	for name, state := range all {
		if !s.names.owns(name) {
			delete(all, name)
			continue
		}
		if m := state.Mappings.Meta.Lanternist; m == nil || m.View != s.view || m.Format != metaFormat {
			return nil, projectors.Fatalf("delete or rename the index, or use another prefix",
				"index %s was not made by this version of Lanternist for view %s", name, s.view)
		}
		s.saw(name, state.Mappings.Meta.Lanternist.Hash)
	}
	return all, nil
}

// Generations implements projectors.Store.
func (s *Store) Generations(ctx context.Context) ([]projectors.Info, error) {
	if s.nameFail != nil {
		return nil, s.nameFail
	}
	states, err := s.states(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.aliasIsOurs(ctx); err != nil {
		return nil, err
	}
	infos := make([]projectors.Info, 0, len(states))
	for _, state := range states {
		info := state.Mappings.Meta.Lanternist.Info
		_, info.Live = state.Aliases[s.names.alias]
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b projectors.Info) int { return cmp.Compare(a.Number, b.Number) })
	return infos, nil
}

// Create implements projectors.Store. Index, mapping, identity and writers' alias are made in one step.
func (s *Store) Create(ctx context.Context, info projectors.Info) (projectors.Generation, error) {
	if s.nameFail != nil {
		return nil, s.nameFail
	}
	if info.Created.IsZero() {
		info.Created = time.Now().UTC()
	}
	info.Live = false
	s.prepared.CompareAndSwap(int64(info.Number), 0)
	g := s.generation(info.Number)
	body := s.index.filling(g.names.writer, meta{Format: metaFormat, View: s.view, Info: info})
	request := call{method: http.MethodPut, path: "/" + g.names.index, body: body}
	err := s.client.do(ctx, request, nil)
	if isKind(err, "resource_already_exists_exception") {
		if err = s.Retire(ctx, info.Number); err == nil {
			err = s.client.do(ctx, request, nil)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", g.names.index, classify(err))
	}
	return g, nil
}

// Check asks Elasticsearch whether it would create the view's index: unknown types, analyzers and settings are
// found without creating anything. The user needs the right to simulate index templates (manage_index_templates).
func (s *Store) Check(ctx context.Context) error {
	if s.nameFail != nil {
		return s.nameFail
	}
	definition := s.index.request(s.names.generation(1).writer, meta{Format: metaFormat, View: s.view})
	body := map[string]any{
		"index_patterns": []string{s.names.alias + "-check"},
		"priority":       math.MaxInt32, // over what templates of others say
		"template":       map[string]any{"settings": definition["settings"], "mappings": definition["mappings"]},
	}
	err := s.client.do(ctx, call{method: http.MethodPost, path: "/_index_template/_simulate", body: body}, nil)
	if status, ok := errors.AsType[*statusError](err); ok && status.status == http.StatusBadRequest {
		return projectors.Fatalf(hintRequest, "search section of view %s: %s", s.view, cmp.Or(status.root, status.reason))
	}
	if err != nil {
		return fmt.Errorf("check search section of view %s: %w", s.view, classify(err))
	}
	return nil
}

// Open implements projectors.Store.
func (s *Store) Open(ctx context.Context, number int) (projectors.Generation, error) {
	state, err := s.state(ctx, number)
	if err != nil {
		return nil, err
	}
	g := s.generation(number)
	if _, ok := state.Aliases[g.names.writer]; !ok { // an index restored from a snapshot may come without
		if err := s.updateAliases(ctx, addAlias(g.names.index, g.names.writer, true)); err != nil {
			return nil, fmt.Errorf("open %s: %w", g.names.index, classify(err))
		}
	}
	return g, nil
}

// state reads one generation's index.
func (s *Store) state(ctx context.Context, number int) (indexState, error) {
	if s.nameFail != nil {
		return indexState{}, s.nameFail
	}
	states, err := s.states(ctx)
	if err != nil {
		return indexState{}, err
	}
	state, ok := states[s.names.generation(number).index]
	if !ok {
		return indexState{}, fmt.Errorf("open %s: %w", s.names.generation(number).index, projectors.ErrNoGeneration)
	}
	return state, nil
}

func (s *Store) generation(number int) *Generation {
	return &Generation{store: s, names: s.names.generation(number)}
}

// Prepare implements projectors.Preparer. What the promotion refreshes is then only what came since, and the index has its copies,
// as far as the cluster has places for them.
func (s *Store) Prepare(ctx context.Context, number int) error {
	g := s.generation(number)
	if err := s.goLive(ctx, g); err != nil {
		return fmt.Errorf("prepare promotion of %s: %w", g.names.index, err)
	}
	if err := s.client.refresh(ctx, g.names.index); err != nil {
		return fmt.Errorf("prepare promotion of %s: refresh: %w", g.names.index, classify(err))
	}
	if err := s.awaitCopies(ctx, g); err != nil {
		return fmt.Errorf("prepare promotion of %s: wait for its copies: %w", g.names.index, err)
	}
	s.prepared.Store(int64(number))
	return nil
}

// goLive gives an index the settings of a live one.
func (s *Store) goLive(ctx context.Context, g *Generation) error {
	if err := s.client.do(ctx, call{method: http.MethodPut, path: "/" + g.names.index + "/_settings", body: s.index.live()}, nil); err != nil {
		return fmt.Errorf("change settings: %w", classify(err))
	}
	return nil
}

// awaitCopies waits while copies of an index are being made.
func (s *Store) awaitCopies(ctx context.Context, g *Generation) error {
	for {
		err := s.client.do(ctx, call{method: http.MethodGet, path: "/_cluster/health/" + g.names.index, query: params(
			"wait_for_no_initializing_shards", "true", "timeout", duration(s.client.cfg.Timeout/2))}, nil)
		if statusOf(err) == http.StatusRequestTimeout {
			continue // they still are
		}
		if err != nil {
			return classify(err)
		}
		return nil
	}
}

// Promote implements projectors.Store. The index is refreshed first, so that the first reader sees every document.
func (s *Store) Promote(ctx context.Context, number int) error {
	if _, err := s.state(ctx, number); err != nil {
		return err
	}
	g := s.generation(number)
	if s.prepared.Load() != int64(number) {
		if err := s.goLive(ctx, g); err != nil {
			return fmt.Errorf("promote %s: %w", g.names.index, err)
		}
	}
	if err := s.client.refresh(ctx, g.names.index); err != nil {
		return fmt.Errorf("promote %s: refresh: %w", g.names.index, classify(err))
	}
	faultpoint.Hit("search", "promote", "refreshed")
	s.promoting.Lock()
	defer s.promoting.Unlock()
	s.begin(s, g.names.index)
	remove := map[string]any{"remove": map[string]any{"index": s.names.pattern, "alias": s.names.alias, "must_exist": false}}
	err := s.updateAliases(ctx, remove, addAlias(g.names.index, s.names.alias, false))
	s.end(s, err)
	if err != nil {
		return fmt.Errorf("promote %s: %w", g.names.index, classify(err))
	}
	return nil
}

// Retire implements projectors.Store.
func (s *Store) Retire(ctx context.Context, number int) error {
	state, err := s.state(ctx, number)
	if errors.Is(err, projectors.ErrNoGeneration) {
		return nil
	}
	if err != nil {
		return err
	}
	index := s.names.generation(number).index
	if _, live := state.Aliases[s.names.alias]; live {
		return projectors.Fatalf("promote another generation first", "retire %s: the generation is live", index)
	}
	err = s.client.do(ctx, call{method: http.MethodDelete, path: "/" + index}, nil)
	if err != nil && !isKind(err, "index_not_found_exception") {
		return fmt.Errorf("retire %s: %w", index, classify(err))
	}
	return nil
}

// addAlias is the action that makes an alias which hides the checkpoint.
func addAlias(index, alias string, hidden bool) map[string]any {
	return map[string]any{"add": map[string]any{"index": index, "alias": alias, "filter": hideCheckpoint(), "is_hidden": hidden}}
}

// updateAliases applies all actions in one cluster state: no reader sees some of them.
func (s *Store) updateAliases(ctx context.Context, actions ...map[string]any) error {
	var answer struct {
		Acknowledged bool `json:"acknowledged"`
		Results      []struct {
			Action struct {
				Type string `json:"type"`
			} `json:"action"`
			Status int    `json:"status"`
			Error  *cause `json:"error"`
		} `json:"action_results"`
	}
	err := s.client.do(ctx, call{method: http.MethodPost, path: "/_aliases", body: map[string]any{"actions": actions}}, &answer)
	if err != nil {
		return err
	}
	for _, r := range answer.Results {
		if r.Action.Type == "add" && r.Error != nil {
			return &statusError{status: r.Status, kind: r.Error.Type, reason: r.Error.text()}
		}
	}
	if !answer.Acknowledged {
		return errors.New("the cluster did not acknowledge the alias in time")
	}
	return nil
}

// params makes a query from names and values in turn.
func params(pairs ...string) url.Values {
	q := make(url.Values, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}
