package httpapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/views"
)

type getInput struct {
	View        string `path:"view" doc:"Name of the view."`
	ID          string `path:"id" doc:"Id of the document: the primary key of its root row; the parts of a composite one are joined with a colon."`
	MinVersion  uint64 `query:"min_version" doc:"The answer is at least of this version, as an earlier answer named it in Lanternist-Version."`
	IfNoneMatch string `header:"If-None-Match" doc:"An ETag: when the document has not changed since, the answer is 304."`
	Freshness
}

type getOutput struct {
	Status      int
	ContentType string `header:"Content-Type"`
	ETag        string `header:"ETag" doc:"Changes with the document."`
	Version     string `header:"Lanternist-Version" doc:"The journal offset that the document was written with."`
	PositionHeaders
	Body []byte
}

// DocumentEntry is a document in a list.
type DocumentEntry struct {
	ID       string          `json:"id"`
	Version  event.Offset    `json:"version" doc:"The journal offset that the document was written with."`
	Document json.RawMessage `json:"document" doc:"As the view declares it."`
}

type lookupInput struct {
	View   string `path:"view" doc:"Name of the view."`
	Limit  int    `query:"limit" minimum:"0" doc:"The most documents to answer. 0 or none: the server's page size."`
	Cursor string `query:"cursor" maxLength:"4096" doc:"Where the page before ended, from its answer."`
	Freshness
	query url.Values
}

// Resolve keeps the whole query: which parameters there are depends on the view.
func (in *lookupInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	in.query = u.Query()
	return nil
}

type lookupOutput struct {
	PositionHeaders
	Body lookupBody
}

type lookupBody struct {
	Documents []DocumentEntry `json:"documents" doc:"Ordered by id, as text."`
	Cursor    string          `json:"cursor,omitempty" doc:"For the next page; absent when there is none."`
}

func (s *Server) registerDocuments(api huma.API) {
	op := get("get-document", "/v1/views/{view}/{id}", "documents", "Read a document by id", 404, 409, 410, 503, 504)
	op.Responses = map[string]*huma.Response{
		"200": {Description: "The document, as the view declares it.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
		}},
		"304": {Description: "The document has not changed."},
	}
	huma.Register(api, op, s.getDocument)
	lookup := get("lookup-documents", "/v1/views/{view}", "documents", "Read the documents with a value in a declared lookup", 404, 409, 410, 503, 504)
	lookup.Description = "One query parameter for each field of a lookup that the view declares: ?customer_id=7. GET /v1/views lists them."
	lookup.Parameters = []*huma.Param{{
		Name: "lookup", In: "query", Style: "form", Explode: new(true), Required: true,
		Description: "The fields of the lookup and their values, each a parameter of its own name.",
		Schema:      &huma.Schema{Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeString}},
		Example:     map[string]any{"customer_id": "7"},
	}}
	lookup.RejectUnknownQueryParameters = false // only the view knows them; lookupOf refuses the others
	huma.Register(api, lookup, s.lookupDocuments)
}

func (s *Server) getDocument(ctx context.Context, in *getInput) (*getOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	projector, read := v.reader()
	pos, err := s.reach(ctx, projector, in.Freshness, event.Offset(in.MinVersion))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	doc, err := read(ctx, in.ID)
	if in.After != "" || in.MinVersion != 0 {
		parked, ok, lettersErr := s.letters.Parked(ctx, projector.Status().Projector, in.ID)
		if lettersErr != nil {
			s.log.Error("dead letters not read", "error", lettersErr)
			return nil, problem(http.StatusServiceUnavailable, "it cannot be told whether the newest version of document %q of view %s is parked; see the log", in.ID, v.name()).
				at(s, pos).retryAfter(time.Second)
		}
		if ok && parked > doc.Version {
			return nil, problem(http.StatusServiceUnavailable, "the newest version of document %q of view %s was refused by the sink and is parked; "+
				"see: lanternist deadletters list --view %s. Without a token the older document is answered", in.ID, v.name(), v.name()).at(s, pos)
		}
	}
	if errors.Is(err, cache.ErrNotFound) {
		return nil, problem(http.StatusNotFound, "view %s has no document %q", v.name(), in.ID).at(s, pos)
	}
	if err != nil {
		return nil, s.sinkProblem(ctx, v, projector, err)
	}
	out := &getOutput{
		Status: http.StatusOK, ContentType: "application/json", ETag: etag(v, doc),
		Version: strconv.FormatUint(uint64(doc.Version), 10), PositionHeaders: pos.headers(s.cfg.Epoch), Body: doc.Body,
	}
	if matches(in.IfNoneMatch, out.ETag) {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out, nil
}

// etag names a document's content: its version, and the definition by which it was composed, since a new definition
// makes other documents of the same rows.
func etag(v *View, doc document) string {
	hash := cmp.Or(doc.Definition, v.Definition.Hash())
	return fmt.Sprintf(`"%d-%s"`, doc.Version, hash[:min(8, len(hash))])
}

// matches compares an If-None-Match header, weakly.
func matches(header, etag string) bool {
	if strings.TrimSpace(header) == "*" {
		return true
	}
	for candidate := range strings.SplitSeq(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(candidate), "W/") == etag {
			return true
		}
	}
	return false
}

func (s *Server) lookupDocuments(ctx context.Context, in *lookupInput) (*lookupOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	if v.Cache == nil {
		return nil, problem(http.StatusNotFound, "view %s is not in the cache: it has no lookups; use /v1/views/%s/search", v.name(), v.name())
	}
	lookup, value, err := lookupOf(v.Definition.Cache().Lookups, in.query)
	if err != nil {
		return nil, err
	}
	after, err := decodeLookupCursor(in.Cursor)
	if err != nil {
		return nil, badQuery("cursor", in.Cursor, "not a cursor of a lookup")
	}
	limit, err := s.pageSize(in.Limit)
	if err != nil {
		return nil, err
	}
	pos, err := s.reach(ctx, v.Cache.Projector, in.Freshness, 0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	page, err := v.Cache.Documents.Lookup(ctx, lookup.Name(), value, after, limit)
	if err != nil {
		return nil, s.sinkProblem(ctx, v, v.Cache.Projector, err)
	}
	out := &lookupOutput{PositionHeaders: pos.headers(s.cfg.Epoch)}
	out.Body.Documents = make([]DocumentEntry, len(page.Documents))
	for i, d := range page.Documents {
		out.Body.Documents[i] = DocumentEntry{ID: d.ID, Version: d.Version, Document: d.Body}
	}
	if page.Next != "" {
		out.Body.Cursor = base64.RawURLEncoding.EncodeToString([]byte(page.Next))
	}
	return out, nil
}

func decodeLookupCursor(text string) (string, error) {
	b, err := decodeBase64(text)
	return string(b), err
}

// decodeBase64 reads what was encoded here. The package's own decoder leaves line ends out, so that a cursor of nothing else would
// be the first page's.
func decodeBase64(text string) ([]byte, error) {
	if at := strings.IndexAny(text, "\r\n"); at >= 0 {
		return nil, base64.CorruptInputError(at)
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

// pageSize reads limit=.
func (s *Server) pageSize(limit int) (int, error) {
	if limit == 0 {
		return s.cfg.PageSize, nil
	}
	if limit > s.cfg.MaxPageSize {
		return 0, badQuery("limit", limit, "want at most %d", s.cfg.MaxPageSize)
	}
	return limit, nil
}

// fixedParameters are those of a lookup that name no field.
var fixedParameters = []string{"limit", "cursor", "after", "wait"}

// lookupOf finds the declared lookup whose fields are exactly the parameters that are left, and its value.
func lookupOf(declared []views.Lookup, query url.Values) (views.Lookup, string, error) {
	fields := map[string]string{}
	for name, values := range query {
		if slices.Contains(fixedParameters, name) {
			continue
		}
		if len(values) != 1 || values[0] == "" {
			return views.Lookup{}, "", badQuery(name, values, "want one value that is not empty")
		}
		fields[name] = values[0]
	}
	for _, l := range declared {
		if len(l.Fields) != len(fields) {
			continue
		}
		parts := make([]string, 0, len(fields))
		for _, f := range l.Fields {
			if value, ok := fields[f]; ok {
				parts = append(parts, value)
			}
		}
		if len(parts) == len(l.Fields) {
			return l, l.Value(parts...), nil
		}
	}
	return views.Lookup{}, "", problem(http.StatusUnprocessableEntity,
		"the view has no lookup by %s; %s", listOf(fields), lookupsOf(declared))
}

func listOf(fields map[string]string) string {
	if len(fields) == 0 {
		return "nothing"
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, strconv.Quote(name))
	}
	slices.Sort(names)
	return strings.Join(names, " and ")
}

func lookupsOf(declared []views.Lookup) string {
	if len(declared) == 0 {
		return "it declares none (cache.lookups)"
	}
	var all []string
	for _, l := range declared {
		all = append(all, "?"+strings.Join(l.Fields, "=…&")+"=…")
	}
	return "it has " + strings.Join(all, ", ")
}
